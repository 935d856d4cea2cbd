"""Events, imports, ingest and results on Spark."""

import json
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError, load
from conf.runs import start_run
from etl.events import job as events
from etl.relational import imports
from etl.results import job as results
from etl.simulator.business import fill_database
from etl.simulator.settings import SimulatorSettings
from etl.simulator.world import World
from etl.tables import ads, dim, dwd, ods
from etl.warehouse.store import Warehouse

DAY = date(2026, 3, 2)
EVE = date(2026, 3, 1)


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


def event(number: object, kind: str, at: str, **more: object) -> str:
    base = {"event_id": f"e{number}", "type": kind, "ts": at, "user_id": "u1", "item_id": "i1"}
    return json.dumps({**base, **more})


def land(config: Config, day: date, lines: list[str]) -> None:
    folder = config.get(Paths).landing("events", day)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def test_events_are_cleaned_joined_and_accounted_for(spark: SparkSession, config: Config, warehouse: Warehouse) -> None:
    shown = event(1, "impression", "2026-03-02T10:00:00Z", position=1, impression_id="e1", request_id="r1")
    late = event(9, "click", "2026-03-02T23:59:59Z", impression_id="e2", item_id="i2")
    land(
        config,
        DAY,
        [
            shown,
            shown,  # doubled
            event(2, "impression", "2026-03-02T10:00:00Z", position=2, item_id="i2"),
            event(3, "click", "2026-03-02T10:00:05Z", impression_id="e1"),
            event(4, "purchase", "2026-03-02T10:01:00Z", impression_id="e1", value=12.5),
            "{broken",
            '{"event_id": "x", "type": "click"}',
            event(5, "jump", "2026-03-02T10:00:00Z"),
            event(6, "click", "yesterday"),
            event(7, "impression", "2026-03-02T10:00:00Z", position=0),
        ],
    )
    land(config, date(2026, 3, 3), [late, event(8, "click", "2026-03-03T00:00:01Z")])
    counts = events.run(spark, config, [DAY])
    assert counts == {"rows_in": 11, "rows_out": 5, "rows_invalid": 1, "rows_quarantined": 5, "rows_other_date": 1}
    impressions = {row["impression_id"]: row["is_clicked"] for row in warehouse.read(dwd.impression, [DAY]).collect()}
    assert impressions == {"e1": 1, "e2": 1}  # the second by a click that reached the log after midnight
    acts = {row["event_id"]: (row["action"], row["value"]) for row in warehouse.read(dwd.interaction, [DAY]).collect()}
    assert acts == {"e3": ("click", 1.0), "e4": ("purchase", 12.5), "e9": ("click", 1.0)}
    refused = warehouse.read(ods.quarantine, [DAY]).where("stage = 'events'").collect()
    assert {row["line_number"]: row["reason"] for row in refused} == {
        6: "not_json",
        7: "missing_field",
        8: "unknown_type",
        9: "bad_time",
        10: "bad_position",
    }
    rate = warehouse.read(ads.ctr_daily, [DAY]).collect()[0]
    assert (rate["impressions"], rate["clicks"], rate["ctr"]) == (2, 2, 1.0)
    assert events.run(spark, config, [DAY]) == counts


@pytest.mark.wide  # test_events.py has one that is four days late
def test_a_late_event_repairs_the_day_before(spark: SparkSession, config: Config, warehouse: Warehouse) -> None:
    days = [date(2026, 3, 10), date(2026, 3, 11)]
    land(config, days[0], [event("a", "impression", "2026-03-10T10:00:00Z", position=1)])
    events.run(spark, config, days[:1])
    assert [row["is_clicked"] for row in warehouse.read(dwd.impression, days[:1]).collect()] == [0]
    land(config, days[1], [event("b", "click", "2026-03-10T23:59:00Z", impression_id="ea")])
    events.run(spark, config, days[1:])
    assert [row["is_clicked"] for row in warehouse.read(dwd.impression, days[:1]).collect()] == [1]


def test_users_and_items_come_over_jdbc_from_derby(spark: SparkSession, config: Config, warehouse: Warehouse) -> None:
    world = World(SimulatorSettings(users=50, items=40), 1.0, 1)
    fill_database(world, config.get(Paths).business)
    counts = imports.run(spark, config, DAY, [])
    assert counts["rows_out"] == 90
    users = {row["user_id"]: row for row in warehouse.read(dim.user, [DAY]).collect()}
    assert len(users) == 50
    assert {row["gender"] for row in users.values()} <= {"F", "M", None}
    assert warehouse.read(dim.item, [DAY]).where("published_at is null or category is null").count() == 0
    assert warehouse.newest_snapshot(dim.user, date(2026, 3, 30)).count() == 50
    with pytest.raises(
        UserError, match="no snapshot up to 2020-01-01; the first is of 2026-03-02: choose that day or a later"
    ):
        warehouse.newest_snapshot(dim.user, date(2020, 1, 1))


def test_columns_that_a_dimension_has_no_place_for_are_its_attributes(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("u1", "F", True, None), ("u2", "M", None, None)], "user_id string, gender string, pro boolean, `a b` int"
    )
    imported = imports.with_attributes(rows, dim.user).orderBy("user_id").collect()
    assert [row["attributes"] for row in imported] == [{"pro": "true"}, {}]
    same = rows.select("user_id", "gender")
    assert imports.with_attributes(same, dim.user).columns == ["user_id", "gender"]


def test_a_source_that_is_not_there_is_one_clear_line(spark: SparkSession, tmp_path: Path, config: Config) -> None:
    nowhere = load(
        overrides=[f"paths.home={tmp_path}", f"paths.warehouse_root={config.get(Paths).warehouse}"], environment={}
    )
    with pytest.raises(UserError, match=r"no business database: set business\.url"):
        imports.run(spark, nowhere, date(2026, 3, 20), [])
    wrong = nowhere.with_values({"business.url": f"jdbc:derby:{tmp_path}/none"})
    with pytest.raises(UserError, match=r"can't work with jdbc:derby:.*none"):
        imports.run(spark, wrong, date(2026, 3, 20), [])


def test_a_run_folder_is_loaded_exactly_once(spark: SparkSession, config: Config, warehouse: Warehouse) -> None:
    day = date(2026, 3, 25)
    with start_run(config, "fm", day) as first:
        first.log_metric("fine", "valid", "auc", 0.71, 100)
        first.log_trial(
            model="fm", trial=0, parameters="{}", metric="auc", value=0.7, seed=7, seconds=0.1, status="done"
        )
        first.log_best_trial(model="fm", trial=0, parameters="{}", metric="auc", value=0.7)
    with pytest.raises(RuntimeError), start_run(config, "fm", day) as broken:
        broken.log_metric("fine", "valid", "auc", 0.99, 100)
        raise RuntimeError
    for _ in range(2):
        results.run(spark, config)
    with start_run(config, "lightgbm", day) as second:
        second.log_metric("coarse", "valid", "auc", 0.72, 100)
    results.run(spark, config)
    found = {(row["run_id"], row["value"]) for row in warehouse.read(ads.model_metric, [day]).collect()}
    assert found == {(first.run_id, 0.71), (second.run_id, 0.72)}
    assert warehouse.read(ads.model_metric, [day]).count() == 2
    assert warehouse.read(ads.tuning_trial, [day]).count() == warehouse.read(ads.tuning_best, [day]).count() == 1


def test_runs_with_damaged_files_are_left_out_by_name_and_the_others_are_loaded(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut off, as a full disk leaves a file, or all zeros, as a power cut does; restored, the runs are loaded, too."""
    day = date(2026, 3, 26)
    of_test = config.with_values({"paths.home": str(tmp_path), "paths.warehouse_root": config.get(Paths).warehouse})
    run_ids = []
    for auc in (0.71, 0.72, 0.73, 0.74, 0.75):
        with start_run(of_test, "fm", day) as run:
            run.log_metric("fine", "valid", "auc", auc, 100)
            run.log_trial(
                model="fm", trial=0, parameters="{}", metric="auc", value=auc, seed=7, seconds=0.1, status="done"
            )
        run_ids.append(run.run_id)
    names = ["metrics.jsonl", "run.json", "trials.jsonl"]  # of the second run to the fourth
    files = [of_test.get(Paths).runs / run_id / name for run_id, name in zip(run_ids[1:4], names, strict=True)]
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(bytes(len(content)) if file.name == "trials.jsonl" else content[: len(content) * 2 // 3])

    assert results.run(spark, of_test)["runs"] == 2
    assert loaded_runs(warehouse, day, run_ids) == [run_ids[0], run_ids[4]]
    messages = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    assert len(messages) == len(files)
    for file in files:
        assert sum(f"{file} is damaged (" in message for message in messages) == 1

    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert results.run(spark, of_test)["runs"] == 5
    assert loaded_runs(warehouse, day, run_ids) == run_ids


def loaded_runs(warehouse: Warehouse, day: date, run_ids: list[str]) -> list[str]:
    """Those of the runs that have rows in both tables."""
    metrics, trials = (
        {row["run_id"] for row in warehouse.read(table, [day]).select("run_id").collect()}
        for table in (ads.model_metric, ads.tuning_trial)
    )
    assert metrics == trials
    return [run_id for run_id in run_ids if run_id in metrics]
