"""Ranking and promotion over published examples and candidates made by hand: no Spark needed."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf import Config, Paths, UserError, load
from conf.runs import FUNNEL, decision_file, promotion_decision
from conf.versions import publish_version
from features.catalog import DENSE, SPARSE, index_version
from features.metrics import off_policy
from recsys.blend import rank
from recsys.blend.judge import position_id
from recsys.blend.lists import lists_to_publish, rank_to_publish
from recsys.blend.unknown_user import unknown_user_list
from recsys.blend.weights import Blend
from recsys.coarse import train as coarse
from recsys.dataset import HOT_ITEMS, examples_folder, read_rows
from recsys.fine import train as fine
from recsys.registry import promote
from recsys.serve.recommend import recommend
from recsys.settings import RecommendSettings
from tuning.targets.fm import FactorisationMachine
from tuning.targets.lightgbm import LightGBM
from tuning.targets.trial import Trial
from tuning.targets.value import list_value

USERS, ITEMS = 40, 30
ITEM = [feature.name for feature in SPARSE].index("item_id")
STATISTICS = {
    "prior": 0.2,
    "by_position": {},
    "mean": {feature.name: 0.0 for feature in DENSE},
    "deviation": {feature.name: 1.0 for feature in DENSE},
}


def rows_of(seed: int, number: int, day: int, *, signal: float = 2.0) -> dict[str, np.ndarray]:
    """Clicks follow user_id's hash and one dense feature by `signal`; at 0 there is nothing to learn."""
    rng = np.random.default_rng(seed)
    # Lists of ten: one user at one moment.
    user, item = np.repeat(rng.integers(1, USERS + 1, number // 10), 10), rng.integers(1, ITEMS + 1, number)
    columns: dict[str, np.ndarray] = {f"f_{feature.name}": np.zeros(number, np.int64) for feature in SPARSE}
    columns |= {f"f_{feature.name}": rng.normal(size=number).astype(np.float32) for feature in DENSE}
    columns["f_user_id"], columns["f_item_id"] = user, item
    logit = signal * (columns["f_item_rate"] + (item % 3 - 1)) - 1.5
    columns["label"] = (rng.random(number) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    columns["user_id"], columns["item_id"] = np.char.add("u", user.astype(str)), np.char.add("i", item.astype(str))
    columns["at_s"] = np.repeat(day * 86_400.0 + np.sort(rng.random(number // 10)) * 86_400, 10)
    return columns


def write(folder: Path, columns: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "part-0.parquet")


def by_user(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows in the order of users, an item once each, as candidates are."""
    pairs = np.char.add(np.char.add(columns["user_id"], " "), columns["item_id"])
    first = np.unique(pairs, return_index=True)[1]
    return {name: values[first] for name, values in columns.items()}


def publish_day(
    config: Config,
    day: date,
    *,
    signal: float = 2.0,
    truth: float = 2.0,
    zone: str | None = None,
    is_logged: bool = False,
) -> None:
    """Examples that teach `signal` and are tested by `truth`, and candidates; without `zone` as of an older version.

    Examples have places in lists only when the day `is_logged`.
    """
    paths, n = config.get(Paths), day.toordinal()
    clock = {"timezone": zone, "features": index_version(zone)} if zone else {}
    examples = {"split": "day", "statistics": STATISTICS | clock, **clock}
    with publish_version(paths.datasets("examples", day), examples) as folder:
        for split, seed, number, strength in (
            ("train", 1, 6000, signal),
            ("valid", 2, 1500, signal),
            ("test", 3, 2000, truth),
        ):
            columns = rows_of(seed + n, number, n, signal=strength)
            places = {"f_position": np.tile([position_id(place) for place in range(1, 11)], number // 10)}
            write(folder / split, columns | (places if is_logged else {}))
    with publish_version(paths.datasets("candidates", day), {"split": "day", **clock}) as folder:
        for name in ("fit", "holdout", "serve"):
            columns = by_user(rows_of(4 + n, 1500, n))
            channels = np.array(["ease+hot"] * len(columns["label"]))
            write(folder / name, columns | {"channels": channels, "score": columns["f_item_rate"].astype(np.float32)})
        found = rows_of(4 + n, 1500, n)
        clicked = found["label"] > 0
        pairs = pa.table({name: found[name][clicked] for name in ("user_id", "item_id")})
        pq.write_table(pairs.group_by(["user_id", "item_id"]).aggregate([]), folder / "positives.parquet")
        items = [f"i{i}" for i in range(1, ITEMS + 1)]
        published = pa.array([1_700_000_000_000_000] * ITEMS, pa.timestamp("us"))
        about = {"item_id": items, "category": ["x", "y"] * (ITEMS // 2), "published_at": published}
        pq.write_table(pa.table(about | {"popularity": [1.0] * ITEMS}), folder / "items.parquet")
        heat = {"heat": [0.0, *[float(i) for i in range(1, ITEMS)]]}  # nobody chose i1 yet
        pq.write_table(pa.table({name: about[name] for name in ("item_id", "published_at")} | heat), folder / HOT_ITEMS)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(
        overrides=[f"paths.home={tmp_path}", "coarse.rounds=40", "fm.bits=12", "recommend.length=5"], environment={}
    )


def trained(config: Config, day: date) -> None:
    coarse.run(config, day)
    fine.run(config, day)
    rank.run(config, day)


def test_a_better_day_is_promoted_and_a_surely_worse_one_is_kept_out(config: Config) -> None:
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    publish_day(config, first)
    trained(config, first)
    told = promote.run(config, first)
    assert told["promoted"] is True
    runs = config.get(Paths).runs
    champion = json.loads((runs / "promoted" / f"{first}.json").read_text())
    assert (runs / champion["recommend"] / "recommendations.parquet").exists()
    # What the second day learns holds on its validation rows, and not in the test rows.
    publish_day(config, second, signal=-2.0, truth=2.0)
    trained(config, second)
    told = promote.run(config, second)
    assert told["promoted"] is False
    assert told["champion"] == champion["fm"]
    assert told["loss_change_low"] > 0
    assert "significantly worse than the champion" in told["reasons"][0]
    assert not (runs / "promoted" / f"{second}.json").exists()
    # Each day's decision stays, for its page.
    assert promotion_decision(runs, first) == {**champion, "promoted": True}
    assert promotion_decision(runs, second) == told
    decision_file(runs, second).write_text("{")
    with pytest.raises(UserError, match=f"decisions/{second}.json is damaged"):
        promotion_decision(runs, second)


def test_lists_that_earn_less_by_the_log_are_kept_out_whatever_the_log_loss_says(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The lists are what is published: a good model whose lists are ordered by something else must not pass."""
    first, second, third = (date(2031, 3, day) for day in (1, 2, 3))
    publish_day(config, first, is_logged=True)
    trained(config, first)
    promote.run(config, first)
    publish_day(config, second, is_logged=True)
    trained(config.with_values({"recommend.boosts": {"category": {"x": 1.0}}}), second)
    told = promote.run(config, second)
    assert told["list_gain_low"] < told["list_gain"] < told["list_gain_high"]
    runs = config.get(Paths).runs
    lists = json.loads((runs / "promoted" / f"{first}.json").read_text())["recommend"]
    assert told["lists"] == lists
    rows = [json.loads(line) for line in (runs / told["recommend"] / "metrics.jsonl").open()]
    logged = [row["value"] for row in rows if row["metric"] == "off_policy_gain"]
    assert logged == [told["list_gain"]]
    assert told["promoted"] is False
    assert told["list_gain_high"] < 0
    assert "the lists earn significantly less than those of" in told["reasons"][0]
    # A log that can't answer leaves it to the log loss, which finds nothing wrong.
    publish_day(config, third, is_logged=True)
    coarse.run(config, third)
    fine.run(config, third)
    monkeypatch.setattr(off_policy, "MIN_EFFECTIVE_SLOTS", 1e9)
    rank.run(config, third)
    told = promote.run(config, third)
    assert told["promoted"] is True
    assert "list_gain" not in told
    assert told["loss_change"] < 0.1
    assert "the log can't judge the day's lists beside the champion's" in caplog.text


def test_a_search_can_go_by_what_lists_earn(config: Config) -> None:
    day = date(2031, 3, 1)
    publish_day(config, day, is_logged=True)
    fine.run(config, day)
    assert list_value(config, day, "valid") is None  # nobody asked for it
    config = config.with_values({"tune.metric": "off_policy_snips"})
    value = list_value(config, day, "valid")
    assert value is not None
    by_truth = lambda rows: rows.dense[:, [f.name for f in DENSE].index("item_rate")] + rows.sparse[:, ITEM] % 3  # noqa: E731
    good, bad = value.measure(by_truth), value.measure(lambda rows: -by_truth(rows))
    assert good["off_policy_snips"] > 1.5 * bad["off_policy_snips"]
    # The trials of both rankers report it, and so does the test of the best settings.
    for target in (FactorisationMachine(), LightGBM()):
        reports: list[dict[str, float]] = []

        def report(metrics: dict[str, float], *_: object, to: list[dict[str, float]] = reports, **__: object) -> None:
            to.append(metrics)

        trial = Trial(2, config.get(Paths).home, report)
        target.run(config, target.data(config, day), trial)
        assert reports
        assert all(report["off_policy_snips"] > bad["off_policy_snips"] for report in reports)
        assert target.test(config, day)["effective_sample_size"] > 100


def test_an_unknown_user_gets_what_is_hot_then_what_is_new(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """docs/recommender.md, "Bad input": a user without a history gets what is hot and new."""
    day = date(2026, 3, 1)
    publish_day(config, day)
    trained(config, day)
    promote.run(config, day)
    caplog.set_level("INFO")
    rows = recommend(config, "nobody")
    assert [row["item_id"] for row in rows] == ["i30", "i29", "i28", "i27", "i26"]  # recommend.length is 5
    assert {(row["user_id"], row["score"], row["channels"]) for row in rows} == {("nobody", None, "hot")}
    assert "user 'nobody' was not in dim_user on 2026-03-01" in caplog.text
    rows = recommend(config, "u1")
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(0 < row["score"] < 1 for row in rows)
    # The blend and the re-ranking order a list, and the command says so where scores don't fall.
    assert "score is the FM's click probability alone" in caplog.text
    hot = unknown_user_list(
        pd.DataFrame(
            {"item_id": ["a", "b", "c"], "published_at": [None, "2026-01-02", "2026-01-03"], "heat": [1, 0, 0]}
        ),
        9,
    )
    assert hot.to_dict("list") == {"item_id": ["a", "c", "b"], "channels": ["hot", "new", "new"]}


def test_a_model_no_better_than_the_click_rate_is_kept_out(config: Config) -> None:
    day = date(2026, 3, 1)
    publish_day(config, day, signal=0.0, truth=0.0)
    trained(config, day)
    told = promote.run(config, day)
    assert told["promoted"] is False
    assert "the constant click rate" in told["reasons"][0]


def test_the_same_model_again_is_promoted(config: Config) -> None:
    """Not significantly worse is good enough: a day's model has newer items and users."""
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    for day in (first, second):
        publish_day(config, day)
        trained(config, day)
        assert promote.run(config, day)["promoted"] is True


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


def test_models_of_other_features_are_refused_and_a_new_feature_does_not_stop_the_days(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    publish_day(config, first)
    trained(config, first)
    promote.run(config, first)
    for module, name in ((fine, "FIELDS"), (coarse, "NAMES")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, [*getattr(module, name), "newest"])
            match = rf"run (fm|lightgbm)-\S+ was trained on features of unknown version, this is {index_version()}: new: newest"
            with pytest.raises(UserError, match=match):
                rank.run(config, first)
    runs = config.get(Paths).runs
    champion = promote.champion_run_id(runs, second)
    publish_day(config, second)
    # The champion learned of a feature that is no more, as after one was appended.
    loaded = fine.load

    def load(folder: Path, *arguments: Any) -> Any:
        if folder.name != champion:
            return loaded(folder, *arguments)
        with monkeypatch.context() as patched:
            patched.setattr(fine, "FIELDS", [*fine.FIELDS, "newest"])
            return loaded(folder, *arguments)

    monkeypatch.setattr(fine, "load", load)
    warm = config.with_values({"fm.warm_start": True})
    fine.run(warm, second)
    assert "new: newest; train again: starting anew" in caplog.text
    coarse.run(config, second)
    rank.run(config, second)
    decision = promote.run(config, second)
    assert decision["promoted"]
    assert decision["not_compared"].endswith("new: newest; train again")


def test_models_that_learned_the_hours_of_another_zone_are_not_used(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """The hour 8 of a model that learned UTC's hours is the morning of London, and not that of New York."""
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    publish_day(config, first, zone="UTC")
    trained(config, first)
    promote.run(config, first)
    publish_day(config, second, zone="America/New_York")
    fine.run(config.with_values({"fm.warm_start": True}), second)
    hours = "was trained on hours and days of UTC, the data set has those of America/New_York; train again"
    assert f"{hours}: starting anew" in caplog.text
    coarse.run(config, second)
    rank.run(config, second)
    decision = promote.run(config, second)
    assert decision["promoted"]
    assert decision["not_compared"].endswith(hours)
    # A day that was built again after the zone was declared needs its candidates and models anew.
    examples = config.get(Paths).datasets("examples", first) / "current.json"
    local = {"timezone": "America/New_York", "statistics": STATISTICS | {"timezone": "America/New_York"}}
    examples.write_text(json.dumps(json.loads(examples.read_text()) | local))
    with pytest.raises(
        UserError, match=r"the candidates of 2026-03-01 have hours and days of UTC, its training set of"
    ):
        rank.run(config, first)
    with pytest.raises(UserError, match=hours):
        coarse.predictor(config, first, "test")


@pytest.mark.parametrize(
    ("zone", "expected"), [("America/New_York", ["i1", "i3"]), ("UTC", ["i1", "i2"]), (None, ["i1", "i2"])]
)
def test_freshness_counts_to_the_end_of_the_local_day(config: Config, zone: str | None, expected: list[str]) -> None:
    """2026-11-01 ends at 05:00 UTC in New York: what came out a week before that is still fresh, a minute more is not."""
    day = date(2026, 11, 1)
    metadata = {"statistics": STATISTICS, **({"timezone": zone} if zone else {})}
    with publish_version(config.get(Paths).datasets("examples", day), metadata):
        pass
    published = ["2026-01-01T00:00", "2026-10-26T04:59", "2026-10-26T05:00"]
    items = pd.DataFrame({"category": None, "published_at": pd.to_datetime(published)}, index=["i1", "i2", "i3"])
    scores = [0.9, 0.5, 0.1]
    candidates = pd.DataFrame({"user_id": "u", "item_id": items.index, "channels": "hot", "label": 0.0})
    candidates = candidates.assign(merged=scores, coarse=scores, fine=scores)
    settings = {"length": 2, "diversity": 0, "fresh_share": 0.5, "fresh_days": 7}
    config = config.with_values({f"recommend.{name}": value for name, value in settings.items()})
    blend = Blend({"fine": 1.0})
    ranked = rank_to_publish(config, candidates, blend, items, day, "fine")
    lists = lists_to_publish(ranked, blend, config.get(RecommendSettings))
    assert lists["item_id"].tolist() == expected


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


def test_a_damaged_model_is_refused_in_one_line(config: Config) -> None:
    day = date(2026, 3, 1)
    publish_day(config, day)
    trained(config, day)
    model = next(config.get(Paths).runs.glob("fm-*/model/fm_test.npz"))
    raw = bytearray(model.read_bytes())
    raw[len(raw) // 2] ^= 1
    model.write_bytes(bytes(raw))
    with pytest.raises(UserError, match="is corrupt: its checksum does not match"):
        rank.run(config, day)
    fine.run(config, day)
    model = next(config.get(Paths).runs.glob("lightgbm-*/model/model.txt"))
    text = model.read_text()
    model.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"model\.txt is corrupt: its checksum does not match"):
        rank.run(config, day)
    (model.parent / "SHA256SUMS").unlink()  # as an older version left it
    with pytest.raises(UserError, match=r"model\.txt is no whole LightGBM model"):
        rank.run(config, day)
    model.write_text(text)
    rank.run(config, day)
