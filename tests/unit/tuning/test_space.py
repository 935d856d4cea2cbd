"""Spaces, searches and the choice of the best, without Ray."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from conf import UserError, load
from conf.tuned import save_tuned_settings
from training.finished.limits import Limit
from tuning import explain
from tuning.searches.judge import Judge
from tuning.searches.samplers import sampler
from tuning.searches.space import Choice, Depends, Numbers, Space, read_range, space_of
from tuning.searches.study import SavedStudy
from tuning.targets import TARGETS, target_of

SPACE = Space(
    {
        "optimizer.name": Choice(("sgd", "adam")),
        "fm.k": Numbers(2, 16, log=True, whole=True),
        "train.learning_rate": Depends(
            "optimizer.name", {"sgd": Numbers(0.01, 0.1, log=True), "adam": Numbers(0.001, 0.01, log=True)}
        ),
    }
)


@pytest.mark.parametrize("model", [*TARGETS, "deepfm", "din"])
def test_every_range_names_a_setting_that_takes_its_values(model: str) -> None:
    config = load(environment={})
    space = space_of(model, target_of(model).family, {})
    for point in space.grid(20):
        config.with_values({name.split("[")[0]: value for name, value in point.items()})
    assert space.grid(20)


def test_grid_has_every_combination_on_the_scale_of_each_range() -> None:
    space = Space({"a": Numbers(0.01, 1, log=True), "b": Choice(("x", "y"))})
    grid = space.grid(6)
    assert [point["b"] for point in grid] == ["x", "y"] * 3
    assert [round(point["a"], 6) for point in grid[::2]] == [0.01, 0.1, 1.0]
    assert len(SPACE.grid(1000)) == len({tuple(sorted(point.items())) for point in SPACE.grid(1000)})


def test_dependent_ranges_are_drawn_by_the_choice() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(30):
        point = SPACE.suggest(study.ask())
        low, high = (0.01, 0.1) if point["optimizer.name"] == "sgd" else (0.001, 0.01)
        assert low <= point["train.learning_rate"] <= high
        assert point["fm.k"] in range(2, 17)


def test_zooming_keeps_the_good_points_and_leaves_the_rest() -> None:
    points = [
        {"optimizer.name": "adam", "fm.k": 4, "train.learning_rate": 0.002},
        {"optimizer.name": "adam", "fm.k": 5, "train.learning_rate": 0.003},
    ]
    near = SPACE.around(points)
    assert near.ranges["optimizer.name"] == Choice(("adam",))
    rate = near.ranges["train.learning_rate"]
    assert isinstance(rate, Depends)
    assert list(rate.ranges) == ["adam"]
    assert 0.001 < rate.ranges["adam"].low < 0.002
    assert 0.003 < rate.ranges["adam"].high < 0.01
    assert isinstance(near.ranges["fm.k"], Numbers)
    assert near.ranges["fm.k"].high < 16


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"low": 1}, "high"),
        ({"low": 2, "high": 1}, "above"),
        ({"low": 0, "high": 1, "log": True}, "positive"),
        ({"values": []}, "no values"),
        (3, "int"),
    ],
)
def test_a_range_that_makes_no_sense_is_told(value: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_range("fm.alpha", value)


def test_only_settings_with_ranges_can_be_searched() -> None:
    with pytest.raises(UserError, match=r"no range for fm\.nothing"):
        space_of("fm", "fm", {}, ["fm.nothing"])
    with pytest.raises(UserError, match=r"depends on optimizer\.name"):
        space_of("deepfm", "deep", {}, ["train.learning_rate"])
    with pytest.raises(UserError, match="unknown model 'nonsense'"):
        target_of("nonsense")


def result_of(point: dict[str, Any]) -> dict[str, Any]:
    """Of a trial; one with a large y fails."""
    value = (point["x"] - 0.3) ** 2 + math.log10(point["y"] / 0.1) ** 2
    return {"status": "failed", "objective": math.inf} if point["y"] > 0.9 else {"status": "done", "objective": value}


PLANE = Space({"x": Numbers(0, 1), "y": Numbers(0.01, 1, log=True), "z": Choice(((1, 2), (3,)))})


def points_of_search(search: str, file: Path, trials: int = 25, seed: int = 3) -> list[dict[str, Any]]:
    """Two trials at a time, of which the second ends first; goes on with what the file holds."""
    study = SavedStudy(file, PLANE, sampler(search, seed, 2), PLANE.grid(trials) if search == "grid" else [])
    while len(study.rows) < trials:
        trials_at_once = [study.ask() for _ in range(min(2, trials - len(study.rows)))]
        for number, point in reversed(trials_at_once):
            study.tell(number, {"point": point, **result_of(point)})
    return [row["point"] for row in study.ordered_rows()]


@pytest.mark.parametrize("search", ["grid", "random", "bayes", "evolution"])
def test_searches_draw_within_the_space_and_the_same_for_the_same_seed(search: str, tmp_path: Path) -> None:
    points = points_of_search(search, tmp_path / "all.jsonl")
    assert points == points_of_search(search, tmp_path / "again.jsonl")
    # Children of the same parents may be the same.
    assert len({tuple(point.values()) for point in points}) > (15 if search == "evolution" else 24)
    assert all(0 <= point["x"] <= 1 and 0.01 <= point["y"] <= 1.000001 for point in points)
    assert {point["z"] for point in points} == {(1, 2), (3,)}


@pytest.mark.parametrize("search", ["random", "bayes", "evolution"])
def test_a_search_killed_after_any_byte_goes_on_as_if_it_had_not_been(search: str, tmp_path: Path) -> None:
    points = points_of_search(search, tmp_path / "all.jsonl")
    content = (tmp_path / "all.jsonl").read_bytes()
    for cut in range(0, len(content), 397):
        (tmp_path / "killed.jsonl").write_bytes(content[:cut])
        resumed = points_of_search(search, tmp_path / "killed.jsonl")
        assert len(resumed) == 25
        # Up to the kill the points are the same; later ones depend on the order in which interrupted trials end.
        drawn = content[:cut].count(b'"drawn"')
        assert resumed[:drawn] == points[:drawn]
        if search == "random":
            assert resumed == points


def test_a_study_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    points_of_search("random", tmp_path / "all.jsonl")
    with pytest.raises(UserError, match=r"all\.jsonl was written with another seed"):
        points_of_search("random", tmp_path / "all.jsonl", seed=4)


def rows() -> list[dict[str, Any]]:
    judge = Judge("auc", [Limit.parse("latency_ms<=5")])
    made = []
    for number, (auc, latency) in enumerate([(0.9, 9.0), (0.8, 4.0), (0.7, 1.0), (0.85, 5.0), (0.95, 1.0)]):
        metrics = {"auc": auc, "latency_ms": latency}
        point = {"optimizer.name": "adam", "fm.k": 2 + number, "train.learning_rate": 0.002}
        made.append({"trial": number, "point": point, "metrics": metrics, "value": auc, "status": "done"})
        made[-1]["objective"] = judge.objective(metrics)
    made[-1]["status"] = "stopped"
    return made


def test_the_best_keeps_the_limits_and_ran_to_its_end() -> None:
    judge = Judge("auc", [Limit.parse("latency_ms<=5")])
    assert judge.best(rows())["trial"] == 3
    assert Judge("auc").best(rows())["trial"] == 0
    assert judge.objective({"auc": 0.99, "latency_ms": 9}) > judge.objective({"auc": 0.1, "latency_ms": 5})
    with pytest.raises(UserError, match="none of 4 trials keeps latency_ms<=0"):
        Judge("auc", [Limit.parse("latency_ms<=0")]).best(rows())
    with pytest.raises(UserError, match="don't measure 'ndcg'"):
        Judge("ndcg").objective({"auc": 0.5})
    with pytest.raises(UserError, match="is no limit"):
        Limit.parse("fast")


def test_importance_finds_what_matters_and_the_page_stands_alone(tmp_path: Path) -> None:
    space = Space({"x": Numbers(0, 1), "y": Numbers(0, 1)})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    made = []
    for number in range(60):
        point = space.suggest(study.ask())
        value = (point["x"] - 0.2) ** 2 + 0.001 * point["y"]
        made.append(
            {
                "trial": number,
                "point": point,
                "metrics": {"loss": value},
                "value": value,
                "objective": value,
                "status": "done",
            }
        )
    importance = explain.write(tmp_path, made, space, "loss")
    assert importance["x"] > 0.8
    assert sum(importance.values()) == pytest.approx(1, abs=0.01)
    page = (tmp_path / explain.PAGE).read_text()
    assert '"type":"parcoords"' in page
    assert 'src="http' not in page
    assert len(page) < 2_000_000


def test_what_a_search_found_stands_over_the_profile_and_under_what_is_said(tmp_path: Path) -> None:
    save_tuned_settings(tmp_path, "fm", {"fm.alpha": 0.123, "fm.k": 4})
    home = f"paths.home={tmp_path}"
    from recsys.settings import FMSettings

    settings = load(overrides=[home], environment={}).get(FMSettings)
    assert (settings.alpha, settings.k) == (0.123, 4)
    assert load(environment={"MILLRACE_HOME": str(tmp_path)}).get(FMSettings).alpha == 0.123
    assert load(overrides=[home, "fm.alpha=0.2"], environment={}).get(FMSettings).alpha == 0.2
    (tmp_path / "tuned/fm.yaml").write_text("fm: {nonsense: 1}")
    with pytest.raises(UserError, match=r"unknown setting 'fm\.nonsense'"):
        load(overrides=[home], environment={})
