"""Ranking a day: coarse, fine, blended, and what no model can read."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.ranked_days import STATISTICS, publish_day, rows_of, trained, write

from conf import Config, Paths, UserError, load
from conf.runs import FUNNEL
from conf.versions import publish_version
from features.catalog import DENSE, SPARSE
from recsys.blend import rank
from recsys.coarse import train as coarse
from recsys.dataset import examples_folder, read_rows
from recsys.fine import train as fine
from recsys.registry import promote


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(
        overrides=[f"paths.home={tmp_path}", "coarse.rounds=40", "fm.bits=12", "recommend.length=5"], environment={}
    )


def my_ranker(config: Config, day: date, rows: object) -> np.ndarray:
    """A user's ranker: what the simulation clicks by."""
    columns = {feature.name: place for place, feature in enumerate(DENSE)}
    return 1 / (1 + np.exp(-rows.dense[:, columns["item_rate"]]))  # type: ignore[attr-defined]


def test_a_users_own_ranker_takes_part_in_the_blend(config: Config) -> None:
    name = f"{__name__}:my_ranker"
    day = date(2026, 3, 1)
    config = config.with_values({"recommend.rankers": [name]})
    publish_day(config, day)
    trained(config, day)
    runs = config.get(Paths).runs
    blend = json.loads(next(runs.glob("recommend-*/model/blend.json")).read_text())
    assert set(blend["weights"]) == {"merged", "coarse", "fine", name}
    assert {row["model"] for row in map(json.loads, next(runs.glob("recommend-*/metrics.jsonl")).open())} > {name}


@pytest.mark.parametrize("is_logged", [True, pytest.param(False, marks=pytest.mark.wide)], ids=["stack", "blend"])
def test_lists_and_metrics_are_the_same_of_any_number_of_blocks_of_users(config: Config, is_logged: bool) -> None:
    day = date(2026, 3, 1)
    publish_day(config, day, is_logged=is_logged)
    coarse.run(config, day)
    fine.run(config, day)
    results = {}
    for rows in (2000, 350, 130):
        run = config.get(Paths).runs / rank.run(config.with_values({"recommend.block_rows": rows}), day)["run_id"]
        lists = pd.read_parquet(run / "ranked_lists.parquet").sort_values(
            ["list", "user_id", "rank"], ignore_index=True
        )
        texts = [(run / name).read_text() for name in ("model/blend.json", FUNNEL)]
        metrics = [{**json.loads(line), "run_id": "", "at": ""} for line in (run / "metrics.jsonl").open()]
        published = pq.ParquetFile(run / "recommendations.parquet")
        results[published.num_row_groups] = metrics, texts, lists, published.read().to_pandas()
    assert list(results) == [1, 3, 7]
    metrics, texts, *frames = results[1]
    assert (json.loads(texts[0])["kind"] == "stack") == is_logged
    for metric in ("off_policy_sndr", "ece_by_position", "exposure_clicked"):
        assert any(row["metric"] == metric for row in metrics) == is_logged
    assert any(row["metric"] == "ndcg" and row["value"] > 0 for row in metrics)
    for other_metrics, other_texts, *other_frames in (results[3], results[7]):
        assert other_metrics == metrics
        assert other_texts == texts
        for frame, other in zip(frames, other_frames, strict=True):
            pd.testing.assert_frame_equal(frame, other)


def test_a_day_without_clicks_trains_and_says_that_it_learned_nothing(config: Config) -> None:
    day = date(2026, 3, 1)
    publish_day(config, day, signal=0.0)
    folder = config.get(Paths).datasets("examples", day)
    for part in folder.glob("v-*/*/part-0.parquet"):
        table = pq.read_table(part)
        place = table.schema.get_field_index("label")
        pq.write_table(table.set_column(place, "label", pa.array(np.zeros(len(table), np.float32))), part)
    trained(config, day)
    told = promote.run(config, day)
    assert told["promoted"] is False


def test_linear_variants_are_trained_beside_the_fm_and_leave_it_as_it_is(config: Config) -> None:
    """R8, R9: named models with rates and features of their own, and the importance of each feature."""
    day = date(2026, 3, 1)
    publish_day(config, day)
    plain = fine.run(config, day)
    models = {"all": {"alpha": 0.1}, "blind": {"alpha": 0.1, "without": ["item_rate"]}}
    values = {"linear_variants.models": models, "linear_variants.field_importance": True}
    report = fine.run(config.with_values(values), day)
    assert report["test_log_loss"] == plain["test_log_loss"]
    folder = config.get(Paths).runs / report["run_id"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    losses = {row["model"]: row["value"] for row in rows if row["metric"] == "progressive_log_loss"}
    # The clicks follow item_rate: a model that lacks it is worse, and by about as much as its importance says.
    importance = {row["metric"]: row["value"] for row in rows if row["model"] == "linear"}
    assert losses["linear/blind"] > losses["linear/all"] + 0.02
    assert len([name for name in importance if name.startswith("importance ")]) == len(SPARSE) + len(DENSE)
    features = {name: value for name, value in importance.items() if name.startswith("importance ")}
    assert max(features, key=lambda name: features[name]) == "importance item_rate"
    memory = importance["memory_bytes"]
    # Weights of their own take a number per model and feature; a shared one takes one, with the same counts.
    shared = fine.run(config.with_values({**values, "linear_variants.share_weights": True}), day)
    rows = [json.loads(line) for line in (folder.parent / shared["run_id"] / "metrics.jsonl").open()]
    shared_memory = next(row["value"] for row in rows if (row["model"], row["metric"]) == ("linear", "memory_bytes"))
    assert memory - shared_memory == 4 * 2**12


def test_a_linear_variant_without_an_unknown_feature_is_refused(config: Config) -> None:
    day = date(2026, 3, 1)
    publish_day(config, day)
    with pytest.raises(UserError, match=r"odd\.without names unknown features itme_rate; choose from "):
        fine.run(config.with_values({"linear_variants.models": {"odd": {"without": ["itme_rate"]}}}), day)


def test_an_unknown_order_of_the_lists_is_refused(config: Config) -> None:
    with pytest.raises(UserError, match=r"unknown score 'deepest' in recommend\.order; choose from blend, merged"):
        rank.run(config.with_values({"recommend.order": "deepest"}), date(2026, 3, 1))


@pytest.mark.wide  # training on tables spread over actors is in test_sharded.py
def test_a_table_over_ray_actors_ranks_as_one_in_this_process(config: Config) -> None:
    day = date(2026, 3, 1)
    publish_day(config, day)
    alone = fine.run(config, day)
    shared = fine.run(config.with_values({"fm.shards": 2, "fm.shard_workers": 1, "ray.num_cpus": 2}), day)
    for metric in ("valid_auc", "test_auc", "test_log_loss", "progressive_log_loss"):
        assert shared[metric] == pytest.approx(alone[metric], abs=1e-5)
    runs = config.get(Paths).runs
    assert not list(runs.glob("fm-*/shards"))


@pytest.mark.parametrize("objective", ["binary", "lambdarank"])
def test_coarse_ranks_and_is_calibrated_and_threads_may_share_it(config: Config, objective: str) -> None:
    day = date(2026, 3, 1)
    publish_day(config, day)
    told = coarse.run(config.with_values({"coarse.objective": objective, "coarse.rounds": 150}), day)
    assert told["test_auc"] > 0.75
    assert told["test_ece"] < 0.05
    folder = sorted(config.get(Paths).runs.glob("lightgbm-*"))[-1]
    assert (folder / "model/model.txt").read_text().startswith("tree")
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    importance = {row["metric"]: row["value"] for row in metrics if row["metric"].startswith("importance ")}
    assert max(importance, key=lambda name: importance[name]) == "importance item_rate"
    ranker = coarse.load(folder)
    rows = [read_rows(examples_folder(config, day) / name) for name in ("train", "valid", "test")] * 4
    with ThreadPoolExecutor(4) as pool:
        side_by_side = list(pool.map(ranker.predict, rows))
    for found, part in zip(side_by_side, rows, strict=True):
        np.testing.assert_array_equal(found, ranker.predict(part))


def test_a_warm_start_goes_on_from_yesterday_and_knows_more(config: Config) -> None:
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    for day in (first, second):
        publish_day(config, day)
    cold = fine.run(config, second)
    warm = config.with_values({"fm.warm_start": True})
    fine.run(warm, first)
    found = fine.run(warm, second)
    assert found["progressive_log_loss"] < cold["progressive_log_loss"]
    assert found["test_log_loss"] < cold["test_log_loss"] * 1.01
    # The same day again has nothing new in its training rows: none is learned twice.
    again = fine.run(warm, date(2026, 3, 2))
    assert again["test_auc"] == pytest.approx(found["test_auc"], abs=1e-9)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "f_category",
            1_000_000_000,
            r"f_category is 1000000000 in row 7 of .*part-0\.parquet, row group 0; its ids lie in \[0, 256\)",
        ),
        ("f_user_id", -3, r"f_user_id is -3 in row 7 of .*part-0\.parquet, row group 0; its ids lie in \[0, 65536\)"),
        ("f_gender", 8, r"f_gender is 8 in row 7 of .*; its ids lie in \[0, 8\)"),
        ("f_item_rate", np.nan, r"f_item_rate is nan in row 7 of .*part-0\.parquet"),
        ("f_item_rate", np.inf, r"f_item_rate is inf in row 7 of "),
    ],
)
def test_a_row_that_no_model_can_read_is_refused_by_name(
    config: Config, column: str, value: float, message: str
) -> None:
    """An id beyond its feature would be an index error, or the embedding of another field."""
    day = date(2026, 3, 1)
    with publish_version(config.get(Paths).datasets("examples", day), {"statistics": STATISTICS}) as folder:
        for number, split in enumerate(("train", "valid", "test")):
            rows = rows_of(number, 500, day.toordinal())
            rows[column][7] = value if split == "valid" else rows[column][7]
            write(folder / split, rows)
    for stage in (coarse, fine):
        with pytest.raises(UserError, match=message):
            stage.run(config, day)


def test_hourly_metrics_are_of_the_hours_that_the_clock_shows() -> None:
    """Berlin's clocks go back on 2026-10-25 at 01:00 UTC; India is half an hour off; UTC is as it was."""
    night = np.array([datetime(2026, 10, 25, *at, tzinfo=UTC).timestamp() for at in ((0, 5), (0, 59), (1, 5), (2, 0))])
    assert fine.clock_hours(night, "Europe/Berlin").tolist() == ["2026-10-25T02"] * 3 + ["2026-10-25T03"]
    assert fine.clock_hours(night, "Asia/Kolkata").tolist() == [
        "2026-10-25T05",
        *["2026-10-25T06"] * 2,
        "2026-10-25T07",
    ]
    utc = [datetime.fromtimestamp(at // 3600 * 3600, UTC).strftime("%Y-%m-%dT%H") for at in night]
    assert fine.clock_hours(night, "UTC").tolist() == utc
    assert fine.clock_hours(night[:0], "UTC").tolist() == []
