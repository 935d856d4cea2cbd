"""Runs as a register: champions, what they read, and going back."""

import json
from datetime import date
from pathlib import Path

import pytest

from conf import Config, Paths, UserError, load
from conf.runs import promotion_status, start_run
from conf.versions import describe_version, publish_version
from recsys.registry.runs import describe_run, list_runs, rollback

DAYS = [date(2026, 1, day) for day in (1, 2, 3)]


@pytest.fixture
def promoted(tmp_path: Path) -> tuple[Config, list[str]]:
    """An FM and a list of each day, all promoted; the second day's promotion stands again on the third."""
    config = load(overrides=[f"paths.home={tmp_path}"], environment={})
    runs = []
    for day in DAYS:
        about = {"split": "day", "sources": [{"table": "dwd_impression", "partition": str(day), "location": "file:/x"}]}
        with publish_version(config.get(Paths).datasets("examples", day), about) as version:
            pass
        with start_run(config, "fm", day) as fine:
            fine.log_dataset(describe_version(version))
            fine.log_metric("fine", "test", "auc", 0.7, 10)
        with start_run(config, "recommend", day) as lists:
            lists.log_input_run(fine.run_id)
        folder = config.get(Paths).runs / "promoted"
        folder.mkdir(exist_ok=True)
        (folder / f"{day}.json").write_text(json.dumps({"fm": fine.run_id, "recommend": lists.run_id}))
        runs.append(fine.run_id)
    return config, runs


def test_a_number_is_traced_to_partitions(promoted: tuple[Config, list[str]]) -> None:
    config, runs = promoted
    listed = list_runs(config, None, "fm")
    assert [(row["run_id"], row["part"]) for row in listed] == [
        (runs[2], "champion"), (runs[1], "was champion"), (runs[0], "was champion"),
    ]  # fmt: skip
    lists = list_runs(config, DAYS[2], "recommend")[0]["run_id"]
    found = describe_run(config, lists)
    assert found["inputs"][0]["run_id"] == runs[2]
    assert found["inputs"][0]["inputs"][0]["sources"][0]["partition"] == "2026-01-03"
    assert found["code_version"]
    assert describe_run(config, runs[0])["metrics"][0]["value"] == 0.7
    with pytest.raises(UserError, match="does not exist"):
        describe_run(config, "fm-nothing")


def test_going_back_twice_reaches_the_first_champion(promoted: tuple[Config, list[str]]) -> None:
    config, runs = promoted
    assert rollback(config, DAYS[2])["champions"]["fm"] == runs[1]
    parts = promotion_status(config.get(Paths).runs)
    assert (parts[runs[1]], parts[runs[2]]) == ("champion", "rolled back")
    told = rollback(config, DAYS[2])
    assert told["champions"]["fm"] == runs[0]
    assert set(told["rolled_back"]) >= {runs[1], runs[2]}
    with pytest.raises(UserError, match="nothing was promoted before"):
        rollback(config, DAYS[0])
    with pytest.raises(UserError, match="nothing was promoted for"):
        rollback(config, date(2026, 2, 1))
