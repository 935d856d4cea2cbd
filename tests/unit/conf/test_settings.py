from pathlib import Path

import pytest

from conf import UserError, load
from etl.settings import SparkSettings
from recsys.settings import FMSettings


def test_later_layers_win_over_earlier_ones(tmp_path: Path) -> None:
    experiment = tmp_path / "try.yaml"
    experiment.write_text("fm:\n  alpha: 0.2\n  k: 4\n  l1: 3\n")
    environment = {"MILLRACE__FM__K": "16", "MILLRACE__FM__L1": "4"}
    config = load(experiment=experiment, environment=environment, overrides=["fm.l1=5"])
    fm = config.get(FMSettings)
    assert (fm.alpha, fm.k, fm.l1) == (0.2, 16, 5)


def test_the_profile_gives_the_base_values() -> None:
    assert load(environment={}).get(SparkSettings).master == "local[*]"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("spark.mastr=x", r"unknown setting 'spark.mastr' \(= 'x'\); allowed here: master, deploy_mode"),
        ("sprak.master=x", "unknown setting 'sprak'; sections are paths, spark"),
        ("fm.k=many", r"setting fm.k = 'many': Input should be a valid integer"),
        ("fm.alpha=-1", r"setting fm.alpha = -1: Input should be greater than 0"),
        ("fm", "write it as section.key=value"),
        ("fm.alpha=.inf", r"setting fm.alpha = inf: Input should be a finite number"),
        ("fm.alpha=.nan", r"setting fm.alpha = nan: Input should be a finite number"),
        ("train.batch_size=1.0e+23", r"setting train.batch_size = 1e\+23: "),
        ("train.batch_size=5000000000", r"setting train: batch_size is beyond 2147483647"),
        ("fm.k=yes", r"setting fm: k = true: give a value, not yes or no"),
        ("linear_variants.models={a: {l1: .inf}}", r"setting linear_variants.models.a.l1 = inf: .*finite"),
        ("fm.k=[", r"--set fm.k, line 1, column 2: not valid YAML: "),
        ("fm={k: 4, k: 8}", r"write it as section.key=value"),
        ("linear_variants.models={a: {l1: 1, l1: 2}}", r"column 13: not valid YAML: 'l1' stands here a second time"),
        ("weblog.since=2026-13-01", r"--set weblog.since: not valid YAML: month must be in 1..12"),
        ("relational.imports.users={mode: append, check_column: id}", r"imports.users.mode append: .* use merge"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(overrides=[override], environment={})


def test_a_mistake_in_a_file_is_named_with_file_and_line(tmp_path: Path) -> None:
    experiment = tmp_path / "try.yaml"
    experiment.write_text("fm:\n  alpha: 0.2\ntrain: {}\nfm:\n  k: 4\n")
    with pytest.raises(UserError, match=r"try\.yaml, line 4, column 1: not valid YAML: 'fm' .* first in line 1"):
        load(experiment=experiment, environment={})
    with pytest.raises(UserError, match="MILLRACE__FM__K, line 1, column 1: not valid YAML"):
        load(environment={"MILLRACE__FM__K": "@4"})


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown profile 'mars'; choose from kubernetes, local, standalone, yarn"):
        load(profile="mars", environment={})


def test_a_search_varies_dotted_paths() -> None:
    base = load(environment={})
    assert base.with_values({"fm.alpha": 0.3}).get(FMSettings).alpha == 0.3
    assert base.get(FMSettings).alpha != 0.3
