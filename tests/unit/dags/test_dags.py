"""The DAGs as Airflow sees them: they load, have no cycle and import nothing heavy; where their tasks run; alerts."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, parse_command

from conf import load
from dags import local_airflow
from dags.local_airflow import environment_of
from etl.relational.settings import BusinessSettings
from etl.tables import ALL

LOAD = """
import json, sys
from importlib import import_module
found = {}
for name in ("daily", "weekly_tune", "hourly_hot_topics", "predictions"):
    dag = import_module("dags." + name).dag
    dag.check_cycle() if hasattr(dag, "check_cycle") else dag.topological_sort()
    found[dag.dag_id] = {
        task.task_id: {
            "kind": type(task).__name__, "pool": task.pool, "retries": task.retries, "doc": task.doc_md or "",
            "timeout": task.execution_timeout.total_seconds(), "assets": [a.name for a in task.outlets],
            "backoff": bool(task.retry_exponential_backoff), "after": sorted(task.upstream_task_ids),
            "command": getattr(task, "bash_command", None) or getattr(task, "application_args", None),
            "folder": getattr(task, "cwd", None),
        }
        for task in dag.tasks
    }
    found[dag.dag_id + " deadline"] = bool(dag.deadline)
print(json.dumps({"dags": found, "heavy": sorted({"torch", "ray", "pyspark", "pandas", "mlflow"} & set(sys.modules))}))
"""


def loaded(home: Path, **environment: str) -> dict[str, Any]:
    """In a process of its own: Airflow reads its settings once."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=ROOT, env={**os.environ, "AIRFLOW_HOME": str(home), **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return loaded(tmp_path_factory.mktemp("airflow"))


def tasks_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [task for dag in found["dags"].values() if isinstance(dag, dict) for task in dag.values()]


def test_all_dags_load_without_heavy_imports(plain: dict[str, Any]) -> None:
    assert plain["heavy"] == []
    daily = plain["dags"]["millrace_daily"]
    assert len(daily) == 19
    assert set(daily["publish"]["after"]) >= {"promote", "train"}
    assert plain["dags"]["millrace_daily deadline"]
    for task in tasks_of(plain):
        assert task["retries"] == 2
        assert task["backoff"]
        assert task["timeout"] > 0
        assert "By hand: `millrace " in task["doc"]
        assert set(task["assets"]) <= set(ALL)


def test_every_command_of_a_task_parses(plain: dict[str, Any]) -> None:
    for task in tasks_of(plain):
        line = task["command"].removeprefix("exec millrace ")
        arguments = shlex.split(
            line.replace(line[line.index("{{") : line.rindex("}}") + 2], "2026-01-07") if "{{" in line else line
        )
        parse_command(arguments)


def test_stages_go_to_the_clusters_that_are_configured(plain: dict[str, Any], tmp_path: Path) -> None:
    here = plain["dags"]["millrace_daily"]
    assert {task["kind"] for task in here.values()} == {"BashOperator"}
    assert here["weblog"]["pool"] == "millrace_metastore"
    assert here["train"]["pool"] == "default_pool"
    there = loaded(tmp_path, MILLRACE_SPARK_CONN="spark_cluster", MILLRACE__RAY__JOBS="http://head:8265")
    daily = there["dags"]["millrace_daily"]
    assert daily["weblog"]["kind"] == "SparkSubmitOperator"
    assert daily["weblog"]["command"][:3] == ["etl", "weblog", "--date"]
    assert len(daily["weblog"]["command"]) == 4
    assert daily["train"]["command"].startswith("exec millrace submit --on ray train deepfm ")
    assert daily["coarse"]["kind"] == "BashOperator"
    assert there["heavy"] == []


def test_days_are_over_by_the_sites_clock(tmp_path: Path) -> None:
    """At 02:15 UTC, New York's day has two hours to go: the run of that day would be of a part of it."""
    code = """
import datetime, jinja2, pendulum, sys
from airflow.sdk.execution_time import macros
from dags import daily, tasks, weekly_tune
from airflow.serialization.encoders import coerce_to_core_timetable
timetable = coerce_to_core_timetable(daily.dag.timetable)
print(timetable._get_partition_info(pendulum.parse(sys.argv[1]))[1], timetable._timezone.name)
ds = jinja2.Environment(); ds.filters["ds"] = lambda at: at.strftime("%Y-%m-%d")
run = type("Run", (), {"run_after": datetime.datetime(2026, 11, 2, 2, 30, tzinfo=datetime.UTC)})
for template in (tasks.DAY, tasks.DAY_BEFORE):
    print(ds.from_string(template).render(params={}, dag_run=run, macros=macros))
"""
    zones, shown = ("", '"America/New_York"'), []
    for zone, starts_at in zip(zones, ("2026-11-02T02:15Z", "2026-11-02T07:15Z"), strict=True):
        done = subprocess.run(
            [sys.executable, "-c", code, starts_at], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
            env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "MILLRACE__SITE__TIMEZONE": zone},
        )  # fmt: skip
        shown.append(done.stdout.splitlines()[-3:])
    assert shown[0] == ["2026-11-01 UTC", "2026-11-02", "2026-11-01"]
    assert shown[1] == ["2026-11-01 America/New_York", "2026-11-01", "2026-10-31"]
    config = load(overrides=["site.timezone=America/New_York", f"paths.home={tmp_path}"], environment={})
    assert environment_of(config)["MILLRACE__SITE__TIMEZONE"] == zones[-1]


def test_a_backfill_is_of_the_days_of_the_sites_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """02:15 in Tokyo is 17:15 UTC of the day before: the first day would be missing, and one more at the end."""
    commands: list[list[str]] = []
    monkeypatch.setattr(local_airflow, "_run", lambda words, environment: commands.append(words))
    for zone, bounds in (
        (None, ["2026-01-03T00:00:00+00:00", "2026-01-05T23:59:59+00:00"]),
        ("Asia/Tokyo", ["2026-01-02T15:00:00+00:00", "2026-01-05T14:59:59+00:00"]),
    ):
        config = load(overrides=[f"paths.home={tmp_path}"], environment={}).with_values({"site.timezone": zone})
        days = [date(2026, 1, day) for day in (3, 4, 5)]
        local_airflow.backfill(config, days, stages=[], backwards=False, again=False, at_once=1)
        words = commands[-2]
        assert [words[words.index(option) + 1] for option in ("--from-date", "--to-date")] == bounds


def test_alerts_reach_the_webhook_and_a_dead_one_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import alerts

    got: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Task:
        dag_id, task_id, run_id, try_number = "millrace_daily", "weblog", "r1", 3

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        monkeypatch.setenv(alerts.URL, f"http://127.0.0.1:{server.server_port}/")
        alerts.task_failed({"ti": Task(), "exception": ValueError("no logs\nof that day")})
        asyncio.run(alerts.day_late({"dag_run": {"dag_run_id": "r1"}}, dag="millrace_daily", hours=6))
    finally:
        server.shutdown()
        server.server_close()
    assert got[0]["text"] == "millrace_daily, run r1: weblog failed after 3 tries. ['no logs']"
    assert got[1]["text"] == "millrace_daily, run r1: not done 6 hours after it was due"
    alerts.send("nobody listens now")


def test_tasks_run_in_the_folder_where_airflow_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `my_package.net:build` is found there, as on the command line."""
    monkeypatch.chdir(tmp_path)
    environment = environment_of(load(overrides=[f"paths.home={tmp_path}"], environment={}))
    folders = {task["folder"] for task in tasks_of(loaded(tmp_path, MILLRACE_FOLDER=environment["MILLRACE_FOLDER"]))}
    assert folders == {str(tmp_path)}


def test_tasks_have_the_settings_that_airflow_was_started_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tmp_path / "wide.yaml"
    experiment.write_text("train:\n  epochs: 5\n  batch_size: 64\nrecall:\n  quota: {ease: 9}\n")
    monkeypatch.setenv("MILLRACE__TRAIN__EPOCHS", "6")
    monkeypatch.setenv("MILLRACE__BUSINESS__PASSWORD", "hunter2")
    monkeypatch.setenv("MILLRACE__RECALL__QUOTA__EASE", "7")
    config = load(
        profile="standalone",
        experiment=experiment,
        overrides=[
            f"paths.home={tmp_path}",
            "fm.k=3",
            "recall.quota.ease=8",
            "train.metrics=[ece]",
            "spark.driver_memory=900m",
        ],
    )
    found = load(environment=environment_of(config))
    assert (found.profile, found.resolved()) == ("standalone", config.resolved())
    secret = found.get(BusinessSettings).password
    assert secret is not None
    assert secret.get_secret_value() == "hunter2"
