"""The DAGs under a real scheduler: a whole day, and beside it a backfill newest first, with a task killed."""

import json
import os
import signal
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines.postgres import postgres_server
from support import FEW_CHANNELS, Millrace

from dags.stages import NAMES
from etl.tables import ALL

# The day that the scheduler is about to run by itself: the one before the newest 02:15 UTC. Then three past days.
_LAST = (datetime.now(UTC) - timedelta(hours=2, minutes=15)).date() - timedelta(days=1)
FIRST, *PAST, DAY = [str(_LAST - timedelta(days=back)) for back in (4, 3, 2, 1, 0)]
KILLED = PAST[1]
LOADED = ("events",)  # stages of the past days
# What a day's own logs determine, whatever other days are there; and what tells that the day went all the way.
TABLES = {
    "dwd_impression": "dt", "dwd_interaction": "dt",
    "ads_ctr_daily": "dt", "ods_quarantine": "dt",
}  # fmt: skip
SETTINGS = {
    **FEW_CHANNELS,
    "MILLRACE__DAGS__PARALLEL": "3",
    "MILLRACE__DAGS__METASTORE_SLOTS": "2",
    "MILLRACE__TRAIN__EPOCHS": "1",
    "MILLRACE__DAGS__PORT": "0",
    "MILLRACE_RETRY_MINUTES": "0.05",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
}


class Airflow:
    """What the tests look at: the database of the running Airflow."""

    def __init__(self, home: Path) -> None:
        self._path = home / "airflow/airflow.db"

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def wait(self, what: str, until: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := until():
                    return found
            except sqlite3.OperationalError:  # busy
                pass
            time.sleep(0.5)
        raise AssertionError(f"{what}: not within {seconds} s; {self.rows('select run_id, state from dag_run')}")


@pytest.fixture
def settings() -> Iterator[dict[str, str]]:
    """With a metastore of its own that serves several tasks at once."""
    with postgres_server() as server:
        yield {
            **SETTINGS,
            "MILLRACE__METASTORE__URL": server.url,
            "MILLRACE__METASTORE__USER": "shop",
            "MILLRACE__METASTORE__PASSWORD": "secret",
        }


@contextmanager
def up(millrace: Millrace, settings: dict[str, str]) -> Iterator[dict[str, Any]]:
    done = millrace("dags", "up", **settings)
    try:
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout)
    finally:
        ended = millrace("dags", "down", **settings)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["stopped"] >= 4
    assert not [p for p in psutil.process_iter() if _is_of(p, millrace.home)]


def _is_of(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("AIRFLOW_HOME") == str(home / "airflow")
    except psutil.Error:
        return False


@pytest.mark.slow
@pytest.mark.timeout(2700)
@pytest.mark.parametrize(
    "stages",
    [
        pytest.param(("events", "features"), id="two stages"),
        pytest.param(tuple(NAMES), id="the whole day", marks=pytest.mark.wide),
    ],
)
def test_a_day_and_a_backfill_newest_first_at_once_with_a_task_killed(
    millrace: Millrace, settings: dict[str, str], stages: tuple[str, ...]
) -> None:
    settings |= {"MILLRACE_DAILY_STAGES": ",".join(stages)}
    for line in (
        f"simulate --days 5 --scale 0.05 --set simulator.start={FIRST}",
        "warehouse init",
        f"run --date {PAST[-1]} --since {FIRST} --from import --to events",
    ):
        done = millrace(*line.split(), **settings)
        assert done.returncode == 0, done.stderr
    with up(millrace, settings) as told:
        _four_days(millrace, settings, told, stages)
    # The day whose task was killed has the rows that an unbroken run of its stages writes.
    before = _sums(millrace, settings)
    again = millrace("run", "--date", KILLED, "--only", "events", **settings)
    assert again.returncode == 0, again.stderr
    assert _sums(millrace, settings) == before
    if set(stages) != set(NAMES):
        return
    lists = millrace(
        "sql", "select dt, count(distinct user_id) > 100 ok from ads_recommendation group by dt order by dt",
        "--format", "json", **settings,
    )  # fmt: skip
    assert json.loads(lists.stdout) == [{"dt": DAY, "ok": True}], lists.stderr
    assert (millrace.home / "reports" / f"{DAY}.html").stat().st_size > 1e6


def _four_days(millrace: Millrace, settings: dict[str, str], told: dict[str, Any], daily: tuple[str, ...]) -> None:
    airflow = Airflow(millrace.home)
    with urllib.request.urlopen(f"{told['url']}/api/v2/version", timeout=30) as answer:
        assert json.load(answer)["version"].startswith("3.")
    assert len(told["password"]) >= 8
    assert (millrace.home / "airflow").stat().st_mode & 0o077 == 0
    listed = airflow.wait("four DAGs", lambda: len(airflow.rows("select dag_id from dag")) == 4, 120)
    assert listed
    assert airflow.rows("select * from import_error") == []

    started = time.monotonic()
    stages = [word for stage in LOADED for word in ("--only", stage)]
    created = millrace("dags", "backfill", "--since", PAST[0], "--date", PAST[-1], "--backwards", *stages, **settings)
    assert created.returncode == 0, created.stderr
    assert millrace("dags", "airflow", "dags", "unpause", "millrace_predictions", "-y", **settings).returncode == 0

    process = airflow.wait("a task to kill", lambda: _task(millrace.home, f"events --date {KILLED}"), 900)
    time.sleep(3)  # well into its work
    os.kill(process.pid, signal.SIGKILL)

    # Where 02:15 UTC passes meanwhile, the scheduler has begun one more day.
    ours = f"partition_key <= '{DAY}'"
    states = f"select state, count(*) from dag_run where dag_id = 'millrace_daily' and {ours} group by state"
    airflow.wait(
        "four green days", lambda: airflow.rows(states) == [("success", 4)], 2200 - (time.monotonic() - started)
    )
    tries = dict(
        airflow.rows(
            "select r.partition_key, t.try_number from task_instance t join dag_run r using (dag_id, run_id)"
            f" where t.task_id = 'events' and r.{ours}"
        )
    )
    assert tries == {day: 2 if day == KILLED else 1 for day in (*PAST, DAY)}
    both = airflow.rows(
        "select count(*) from dag_run a join dag_run b on a.start_date < b.start_date and b.start_date < a.end_date"
        " where a.dag_id = b.dag_id"
    )
    assert both[0][0] >= 1  # two runs at once
    run = (
        "select t.task_id, t.state from task_instance t join dag_run r using (dag_id, run_id) where r.partition_key = "
    )
    assert set(airflow.rows(f"{run} '{DAY}' and t.dag_id = 'millrace_daily'")) == states_of(daily)
    assert set(airflow.rows(f"{run} '{KILLED}'")) == states_of(LOADED)
    events = airflow.rows(
        "select distinct partition_key from asset_event e join asset a on a.id = e.asset_id where a.name = 'ads_ctr_daily'"
        f" and {ours}"
    )
    assert sorted(key for (key,) in events) == [*PAST, DAY]  # a partition is an asset
    if "train" not in daily:  # what writes ads_model_metric
        return
    followed = "select partition_key from dag_run where dag_id = 'millrace_predictions'"
    airflow.wait("what depends on a partition", lambda: {key for (key,) in airflow.rows(followed)} >= {DAY}, 120)


def states_of(stages: tuple[str, ...]) -> set[tuple[str, str]]:
    """Tasks and their states in a run that takes `stages` alone."""
    return {(name, "success" if name in stages else "skipped") for name in NAMES}


def _task(home: Path, line: str) -> psutil.Process | None:
    """The process of a task, when it runs."""
    for process in psutil.process_iter(["cmdline"]):
        if _is_of(process, home) and line in " ".join(process.info["cmdline"] or ()):
            return process
    return None


def _sums(millrace: Millrace, settings: dict[str, str]) -> list[Any]:
    """Rows and a checksum of all columns of each table's partition of the day whose task was killed."""
    parts = [
        f"select '{name}' name, count(*) n, sum(xxhash64(to_json(struct({', '.join(ALL[name].column_names)})))) s"
        f" from {name} where {partition} = '{ALL[name].partition_value(date.fromisoformat(KILLED))}'"
        for name, partition in TABLES.items()
    ]
    done = millrace(
        "sql",
        " union all ".join(parts),
        "--format",
        "json",
        "--set",
        "spark.extra={spark.sql.ansi.enabled: 'false'}",
        **settings,
    )
    assert done.returncode == 0, done.stderr
    return sorted(json.loads(done.stdout), key=str)
