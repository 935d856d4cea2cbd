"""One short seed of kills, freezes and readers; the wide ones, and the seven planted bugs, in `make test-all`."""

from pathlib import Path

import pytest
from history.checker import violations
from history.driver import run_seed
from history.plants import PLANTS, catch, is_caught, plant
from pyspark.sql import SparkSession

from conf import Config


def test_a_day_under_kills_and_freezes_is_that_of_a_quiet_run(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    history = run_seed(spark, config, 1, tmp_path / "short", 16, ("import", "export", "collect", "results", "vacuum"))
    assert violations(history) == []
    assert len([one for one in history.attempts if one.fault]) >= 5
    assert len([read for read in history.reads if read.content]) >= 20


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(2, 6))
def test_every_stage_under_faults(spark: SparkSession, config: Config, tmp_path: Path, seed: int) -> None:
    history = run_seed(spark, config, seed, tmp_path / "wide", 40)
    assert violations(history) == []


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_caught(tmp_path: Path, name: str) -> None:
    plant(PLANTS[name], tmp_path / "tree")
    lines = catch(PLANTS[name], tmp_path / "tree")
    assert is_caught(PLANTS[name], lines), lines
