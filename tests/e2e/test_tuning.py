"""Searches on real Ray Tune over the models themselves: early stopping, a kill and going on, applying, recall."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, FinishedDay, Millrace, run_front_door

from conf.runs import read_jsonl

DAY = "2026-01-04"


@pytest.fixture(scope="module")
def home(finished_day: FinishedDay) -> Millrace:
    """A day with its training set."""
    return finished_day.millrace


def told(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_search_goes_on_and_its_best_is_applied(home: Millrace) -> None:
    line = ["tune", "fm", "--date", DAY, "--search", "bayes", "--trials", "8", "--set", "tune.limits=[memory_mb<=60]"]
    command = [str(Path(sys.executable).parent / "millrace"), *line]
    environment = {**os.environ, "MILLRACE_HOME": str(home.home)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    runs = home.home / "runs"
    earlier = set(runs.glob("tune-fm-*"))  # the demo searches, too
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None and not finished(runs, earlier):
            time.sleep(0.1)
        assert process.poll() is None, "the search ended before it could be killed"
        before = finished(runs, earlier)
        assert before
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    found = told(home(*line, "--resume", "--apply"))
    run = runs / found["run_id"]
    rows = read_jsonl(run / "trials.jsonl")
    assert set(runs.glob("tune-fm-*")) - earlier == {run}
    assert len(rows) == found["trials"] == 8
    kept = {row["parameters"]: json.loads(row["metrics"]) for row in rows}
    for parameters, metrics in before.items():
        assert kept[parameters] == metrics  # a trial that was done is not done again
    assert {row["status"] for row in rows} == {"done", "stopped"}  # ASHA stopped some
    done = [row for row in rows if row["status"] == "done"]
    assert found["log_loss"] == min(row["value"] for row in done if json.loads(row["metrics"])["memory_mb"] <= 60)
    assert found["best"]["fm.k"] in (2, 4)  # more factors break the limit
    assert "test_auc" in found
    assert (run / "search.html").stat().st_size > 1e6
    code, settings, _ = run_front_door("config", "show", home=home.home)
    assert (code, f"alpha: {found['best']['fm.alpha']}" in settings) == (0, True)
    query = (
        f"select (select count(*) from ads_tuning_trial where run_id = '{run.name}') trials,"
        f" (select count(*) from ads_tuning_best where run_id = '{run.name}') best,"
        f" (select count(distinct metric) from ads_model_metric where run_id = '{run.name}' and metric like 'importance %') n"
    )
    loaded = home.in_one_session("etl results", f'sql "{query}" --format json')
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.splitlines()[1:] == ['[{"trials": 8, "best": 1, "n": 6}]']


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_a_second_round_searches_around_the_best_of_the_first(home: Millrace) -> None:
    zoomed = told(home("tune", "lightgbm", "--date", DAY, "--search", "random", "--trials", "6", "--zoom"))
    rows = read_jsonl(home.home / "runs" / zoomed["run_id"] / "trials.jsonl")
    assert [row["trial"] for row in rows] == list(range(6))
    assert zoomed["log_loss"] in [row["value"] for row in rows[4:] if row["status"] == "done"]


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_population_based_training_changes_settings_while_deep_models_train(home: Millrace) -> None:
    settings = ("train.epochs=4", "tune.only=[train.weight_decay,net.dropout]", "tune.parallel=4")
    flags = [word for setting in settings for word in ("--set", setting)]
    population = told(home("tune", "deepfm", "--date", DAY, "--search", "pbt", "--trials", "4", *flags))
    assert set(population["best"]) == {"train.weight_decay", "net.dropout"}
    assert population["trials"] == 4


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_recall_is_searched_on_spark(home: Millrace) -> None:
    quota = ("--set", "recall.quota={hot: 30, ease: 30}")
    recalled = told(home("tune", "recall", "--date", DAY, "--search", "bayes", "--trials", "2", *quota))
    assert recalled["trials"] == 2
    assert 0 < recalled["test_recall@50"] < 1


def finished(runs: Path, earlier: set[Path]) -> dict[str, dict[str, float]]:
    """Trials of the new search that have ended: parameters -> metrics."""
    metrics = {}
    for path in (run / "all.jsonl" for run in set(runs.glob("tune-fm-*")) - earlier):
        text = path.read_text() if path.exists() else ""
        for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines()):  # the last one may be in the writing
            if "row" in line:
                metrics[json.dumps(line["row"]["point"], sort_keys=True)] = line["row"]["metrics"]
    return metrics
