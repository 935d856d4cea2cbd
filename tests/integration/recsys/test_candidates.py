"""Recall and ranking of small days written by hand, from the warehouse to lists."""

import json
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest
from data.impressions import write_days
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError
from conf.runs import finished_runs, read_jsonl, start_run
from conf.versions import current_version
from etl.tables import dwd, dws
from etl.warehouse.store import Warehouse
from features.catalog import FEATURES, index_version
from features.dataset.build import run as build
from features.transforms.hashing import hash_bucket
from recsys.blend import rank
from recsys.coarse import train as coarse
from recsys.evaluation import evaluate
from recsys.fine import train as fine
from recsys.recall import candidates
from recsys.recall.measure import log_channel_metrics, log_collected_metrics
from recsys.recall.merge import initial_weights
from recsys.registry import promote
from training.inputs.dataset import open_dataset
from training.tasks.click import Click

# The last one has 25 hours in New York: it ends at 05:00 UTC.
DAYS = [date(2026, 11, 1) - timedelta(days=n) for n in range(5, -1, -1)]
ZONE = "America/New_York"
HOUR = [feature.name for feature in FEATURES].index("hour")
SMALL = {
    "recall.als_rank": 4, "recall.als_iterations": 2, "recall.tower_dim": 4, "recall.tower_epochs": 1, "recall.keep": 8,
    "coarse.rounds": 5, "coarse.min_rows_in_leaf": 5, "fm.bits": 12,
}  # fmt: skip
TWO_CHANNELS = {"recall.quota": {"ease": 8, "hot": 8}}


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param(DAYS[-2:], id="no held-out clicks"),
        pytest.param(DAYS, id="none at all", marks=pytest.mark.wide),
    ],
)
def test_a_day_without_clicks_still_gets_its_lists(spark: SparkSession, config: Config, silent: list[date]) -> None:
    """By the clock of a zone with summer time, whose hours and whose end of the day features and lists have."""
    # All channels where they have no click to learn from, which is what is hard for them.
    channels = {} if silent == DAYS else TWO_CHANNELS
    elsewhere, day = config.with_values({**SMALL, **channels}), DAYS[-1]
    config = elsewhere.with_values({"site.timezone": ZONE})
    warehouse = Warehouse(spark, config)
    write_days(spark, warehouse, DAYS, items=20, click_rate=lambda day: 0.0 if day in silent else 0.4, zone=ZONE)
    with pytest.raises(UserError, match=r"examples up to 2026-11-01 are on other days than in UTC: site.timezone was"):
        build(spark, elsewhere, day)
    build(spark, config, day)
    assert_hours_are_those_of_the_zone(config, day)
    with pytest.raises(
        UserError, match=r"has hours and days of America/New_York, site.timezone is UTC: build it again"
    ):
        candidates.run(spark, elsewhere, day)
    if silent != DAYS:
        # Positives that are too many for the driver: the same lists from Spark.
        candidates.run(spark, config.with_values({"recall.driver_positives": 0}), day)
        on_spark = published_lists(warehouse, day)
    told = candidates.run(spark, config, day)
    assert told["rows_out"] == warehouse.read(dws.recall_candidate, [day]).count()
    if silent != DAYS:
        pd.testing.assert_frame_equal(published_lists(warehouse, day), on_spark)
    coarse.run(config, day)
    fine.run(config, day)
    told = rank.run(config, day)
    lists = pd.read_parquet(config.get(Paths).runs / told["run_id"] / "recommendations.parquet")
    assert lists["user_id"].nunique() == (10 if silent != DAYS else 0)
    told = promote.run(config, day)
    # That nobody clicks is as good as any model there, and log losses of one class are all about 0.
    assert told["promoted"] is False
    assert told["reasons"] == [
        "no validation row is a click: nothing tells whether the models are better than the constant click rate"
    ]
    folder = current_version(config.get(Paths).datasets("candidates", day), command="")[0]
    assert {path.name for path in folder.iterdir()} >= {"fit", "holdout", "serve"}
    serve = pq.read_table(folder / "serve").to_pandas()
    if silent != DAYS:
        # The first hour of the day after.
        assert set(serve["at_s"]) == {datetime(2026, 11, 2, 5, tzinfo=UTC).timestamp()}
        assert set(serve["f_hour"]) == {hash_bucket(HOUR, 0, 32)}


def published_lists(warehouse: Warehouse, day: date) -> pd.DataFrame:
    rows = warehouse.read(dws.recall_candidate, [day]).select("user_id", "rank", "item_id", "channels", "score")
    return rows.orderBy("user_id", "rank").toPandas()


def assert_hours_are_those_of_the_zone(config: Config, day: date) -> None:
    folder, metadata = current_version(config.get(Paths).datasets("examples", day), command="")
    assert metadata["timezone"] == metadata["statistics"]["timezone"] == ZONE
    assert metadata["features"] == index_version(ZONE) != index_version()
    assert open_dataset(config, Click(), day).timezone == ZONE
    # Impressions are at the hours from 0 on, as the clock shows them.
    ids = sorted(hash_bucket(HOUR, n % 24, 32) for n in range(60))
    assert sorted(pq.read_table(folder / "test").to_pandas()["f_hour"]) == ids


def test_lists_and_what_they_are_measured_by_leave_out_the_same(spark: SparkSession, config: Config) -> None:
    """Of the days before the test day: what was clicked, bought or shown, or nothing; on Spark and on the driver."""
    config, day = config.with_values({**SMALL, "recall.quota": {"hot": 20}}), DAYS[-1]
    warehouse = Warehouse(spark, config)
    write_days(spark, warehouse, DAYS, items=20)
    # The second purchase is on the test day, which lists of the days before know nothing of.
    acts = [(str(n), "u1", f"i{n}", "purchase", 1.0, None, datetime.combine(at, time(9), UTC), None, str(at))
            for n, at in ((3, DAYS[2]), (4, day))]  # fmt: skip
    warehouse.write(
        dwd.interaction, spark.createDataFrame(acts, dwd.interaction.partitioned_schema_text), [DAYS[2], day]
    )
    shown = warehouse.read(dwd.impression, DAYS).select("user_id", "item_id", "is_clicked", "dt").toPandas()
    is_earlier, is_clicked = shown["dt"] < str(day), shown["is_clicked"] == 1
    pairs = pd.MultiIndex.from_frame(shown[["user_id", "item_id"]])
    left_out = {
        "clicked": set(pairs[is_earlier & is_clicked]), "shown": set(pairs[is_earlier]), "bought": {("u1", "i3")},
        "none": set(),
    }  # fmt: skip
    clicked_later = set(pairs[~is_earlier & is_clicked])
    examples = {"split": "day", "statistics": {}}  # of a training set, whose features nobody reads here
    for exclude, excluded in left_out.items():
        # Spark is slow: of the four, one that is read from another table.
        for limit in (1000, 0) if exclude == "bought" else (1000,):
            values = {"recall.exclude": exclude, "recall.driver_positives": limit}
            with candidates.day_data(warehouse, config.with_values(values), day, examples) as data:
                truth, proposer = data.truth(("train", "valid"), "test"), data.proposer("train", "valid")
                weights = initial_weights(proposer.channels, proposer.cold_channel)
                proposed = proposer.propose(data.all_users(), weights, None).select("user_id", "item_id").collect()
            assert {tuple(row) for row in truth.pairs().to_numpy()} == clicked_later - excluded
            hot = set(shown["item_id"][is_earlier & is_clicked])
            everything = {(f"u{user}", item) for user in range(10) for item in hot}
            assert {tuple(row) for row in proposed} == everything - excluded


@pytest.mark.parametrize("seeds", [(1,), pytest.param((1, 2), marks=pytest.mark.wide)], ids=["one", "two"])
def test_an_evaluation_is_the_mean_over_its_seeds_on_rows_held_out(
    spark: SparkSession, config: Config, seeds: tuple[int, ...]
) -> None:
    few = {**SMALL, **TWO_CHANNELS, "features.random_test_share": 0.5}
    config = config.with_values(few)
    write_days(spark, Warehouse(spark, config), DAYS, items=20)
    told = evaluate.run(spark, config, split="random", k=5, relevant_from=0.0, seeds=seeds)
    runs = [run for run in finished_runs(config.get(Paths).runs) if run["model"] == rank.MODEL][-len(seeds) :]
    for metric in ("ndcg", "map", "recall"):
        values = [
            next(
                row["value"]
                for row in read_jsonl(run["folder"] / "metrics.jsonl")
                if (row["model"], row["metric"], row["split"], row["k"]) == ("blend", metric, "holdout", 5)
            )
            for run in runs
        ]
        assert told[f"blend_{metric}@5"] == pytest.approx(sum(values) / len(seeds))
        if len(seeds) == 2:
            assert told[f"blend_{metric}@5_sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert all(0 < told[f"{model}_ndcg@5"] < 1 for model in ("ease", "hot", "coarse", "fine", "blend"))


@pytest.mark.parametrize("where", ["spark", "driver"])
def test_what_a_channel_alone_has_and_what_all_have_together(spark: SparkSession, config: Config, where: str) -> None:
    """Of 3 positives of u: a is at rank 1 of both channels, b at rank 2 of cf alone, c nowhere; v's d too deep."""
    schema = "user_id string, item_id string, rank int, channel_ranks array<int>"
    proposed = [("u", "a", 1, [1, 1]), ("u", "b", 2, [2, 0]), ("v", "d", 9, [0, 9])]
    truth = [("u", "a"), ("u", "b"), ("u", "c"), ("v", "d")]
    candidates = spark.createDataFrame(proposed, schema)
    positives = spark.createDataFrame(truth, "user_id string, item_id string")
    with start_run(config, "recall", DAYS[0]) as found:
        if where == "spark":
            log_channel_metrics(candidates, positives, ["cf", "hot"], [1, 5], found)
        else:
            frame = candidates.toPandas()
            log_collected_metrics([frame[:1], frame[1:]], positives.toPandas(), ["cf", "hot"], [1, 5], found)
    rows = [json.loads(line) for line in (found.folder / "metrics.jsonl").open()]
    at_5 = {(row["model"], row["metric"]): row["value"] for row in rows if row["k"] == 5}
    assert at_5["cf", "only"] == pytest.approx((1 / 3 + 0) / 2)
    assert at_5["hot", "only"] == 0
    assert at_5["union", "union"] == pytest.approx((2 / 3 + 0) / 2)
    assert at_5["cf", "recall"] == pytest.approx((2 / 3 + 0) / 2)
    assert at_5["hot", "recall"] == pytest.approx((1 / 3 + 0) / 2)
    assert at_5["merged", "recall"] == pytest.approx((2 / 3 + 0) / 2)
    assert {metric for _, metric in at_5} == {"precision", "recall", "ndcg", "map", "only", "union"}
