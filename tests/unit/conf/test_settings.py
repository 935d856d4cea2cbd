from pathlib import Path

import pytest

from conf import UserError, load
from etl.relational.settings import BusinessSettings
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
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(overrides=[override], environment={})


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown profile 'mars'; choose from kubernetes, local, standalone, yarn"):
        load(profile="mars", environment={})


def test_secrets_are_masked_in_what_is_saved() -> None:
    config = load(environment={"MILLRACE__BUSINESS__PASSWORD": "hunter2"})
    assert "hunter2" not in str(config.resolved())
    assert config.get(BusinessSettings).password.get_secret_value() == "hunter2"  # type: ignore[union-attr]


def test_a_search_varies_dotted_paths() -> None:
    base = load(environment={})
    assert base.with_values({"fm.alpha": 0.3}).get(FMSettings).alpha == 0.3
    assert base.get(FMSettings).alpha != 0.3
