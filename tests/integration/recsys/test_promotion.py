"""Which day's models and lists are published, and which are kept out."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from data.ranked_days import ITEM, STATISTICS, publish_day, trained

from conf import Config, Paths, UserError, load
from conf.runs import decision_file, promotion_decision
from conf.versions import publish_version
from features.catalog import DENSE, index_version
from features.metrics import off_policy
from recsys.blend import rank
from recsys.blend.lists import lists_to_publish, rank_to_publish
from recsys.blend.unknown_user import unknown_user_list
from recsys.blend.weights import Blend
from recsys.coarse import train as coarse
from recsys.fine import train as fine
from recsys.registry import promote
from recsys.serve.recommend import recommend
from recsys.settings import RecommendSettings
from tuning.targets.fm import FactorisationMachine
from tuning.targets.lightgbm import LightGBM
from tuning.targets.trial import Trial
from tuning.targets.value import list_value


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(
        overrides=[f"paths.home={tmp_path}", "coarse.rounds=40", "fm.bits=12", "recommend.length=5"], environment={}
    )


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
