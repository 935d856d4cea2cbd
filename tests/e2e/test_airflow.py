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
from engines.listeners import nothing_reachable, tree
from engines.postgres import postgres_server
from support import FEW_CHANNELS, Millrace

from dags.stages import NAMES
from etl.tables import ALL

# The day that the scheduler is about to run by itself: the one before the newest 02:15 UTC. Then three past days.
_LAST = (datetime.now(UTC) - timedelta(hours=2, minutes=15)).date() - timedelta(days=1)
FIRST, *PAST, DAY = [str(_LAST - timedelta(days=back)) for back in (4, 3, 2, 1, 0)]
# Where 02:15 UTC passes meanwhile, the scheduler has begun one more day.
OURS = f"partition_key <= '{DAY}'"
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
def metastore_on_postgres() -> Iterator[dict[str, str]]:
    """Settings of a metastore that serves several tasks at once."""
    with postgres_server() as server:
        yield server.as_metastore


@contextmanager
def running_airflow(millrace: Millrace, settings: dict[str, str]) -> Iterator[dict[str, Any]]:
    with nothing_reachable(lambda: _tree(millrace.home)):
        done = millrace("dags", "up", **settings)
        try:
            assert done.returncode == 0, done.stderr
            yield json.loads(done.stdout)
        finally:
            ended = millrace("dags", "down", **settings)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["stopped"] >= 4
    assert not [p for p in psutil.process_iter() if _is_of(p, millrace.home)]


def _tree(home: Path) -> list[psutil.Process]:
    """The processes of the running Airflow, tasks with all that they start among them."""
    note = home / "airflow/up.json"
    pid = json.loads(note.read_text()).get("pid") if note.exists() else None
    return tree(pid) if pid else []


def _is_of(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("AIRFLOW_HOME") == str(home / "airflow")
    except psutil.Error:
        return False


@pytest.mark.slow
@pytest.mark.timeout(2700)
def test_a_backfill_and_the_scheduled_day_run_at_once_and_a_killed_task_is_tried_again(millrace: Millrace) -> None:
    """On the embedded metastore, whose pool runs one Spark task at a time; the loading of events stands for the day."""
    settings = {**SETTINGS, "MILLRACE_DAILY_STAGES": "events"}
    simulated = millrace("simulate", "--days", "3", "--scale", "0.02", "--set", f"simulator.start={PAST[1]}")
    assert simulated.returncode == 0, simulated.stderr
    with running_airflow(millrace, settings) as told:
        airflow = Airflow(millrace.home)
        _is_open_to_its_user_alone(millrace, told)
        _has_parsed_all_dags(airflow)
        _backfill_with_a_kill(millrace, settings, airflow, PAST[1:], PAST[1])
        _check_runs(airflow, PAST[1:], PAST[1], daily=("events",))
    loaded = millrace("sql", "select dt from dwd_impression group by dt order by dt", "--format", "json", **settings)
    assert {row["dt"] for row in json.loads(loaded.stdout)} >= {*PAST[1:], DAY}, loaded.stderr


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.timeout(2700)
def test_the_whole_scheduled_day_beside_a_backfill_newest_first_with_a_task_killed(
    millrace: Millrace, metastore_on_postgres: dict[str, str]
) -> None:
    settings = {**SETTINGS, **metastore_on_postgres}
    for line in (
        f"simulate --days 5 --scale 0.05 --set simulator.start={FIRST}",
        "warehouse init",
        f"run --date {PAST[-1]} --since {FIRST} --from import --to events",
    ):
        done = millrace(*line.split(), **settings)
        assert done.returncode == 0, done.stderr
    killed = PAST[1]
    with running_airflow(millrace, settings) as told:
        airflow = Airflow(millrace.home)
        _is_open_to_its_user_alone(millrace, told)
        _has_parsed_all_dags(airflow)
        unpaused = millrace("dags", "airflow", "dags", "unpause", "millrace_predictions", "-y", **settings)
        assert unpaused.returncode == 0, unpaused.stderr
        _backfill_with_a_kill(millrace, settings, airflow, PAST, killed)
        _check_runs(airflow, PAST, killed, daily=NAMES)
        followed = "select partition_key from dag_run where dag_id = 'millrace_predictions'"
        airflow.wait("what depends on a partition", lambda: {key for (key,) in airflow.rows(followed)} >= {DAY}, 120)
    # The day whose task was killed has the rows that an unbroken run of its stages writes.
    before = _checksums(millrace, settings, killed)
    again = millrace("run", "--date", killed, "--only", "events", **settings)
    assert again.returncode == 0, again.stderr
    assert _checksums(millrace, settings, killed) == before
    lists = millrace(
        "sql", "select dt, count(distinct user_id) > 100 ok from ads_recommendation group by dt order by dt",
        "--format", "json", **settings,
    )  # fmt: skip
    assert json.loads(lists.stdout) == [{"dt": DAY, "ok": True}], lists.stderr
    assert (millrace.home / "reports" / f"{DAY}.html").stat().st_size > 1e6


def _is_open_to_its_user_alone(millrace: Millrace, told: dict[str, Any]) -> None:
    with urllib.request.urlopen(f"{told['url']}/api/v2/version", timeout=30) as answer:
        assert json.load(answer)["version"].startswith("3.")
    assert len(told["password"]) >= 8
    assert (millrace.home / "airflow").stat().st_mode & 0o077 == 0
    for name in ("up.json", "airflow.log", "simple_auth_manager_passwords.json.generated"):
        assert (millrace.home / "airflow" / name).stat().st_mode & 0o077 == 0, name


def _has_parsed_all_dags(airflow: Airflow) -> None:
    airflow.wait("four DAGs", lambda: len(airflow.rows("select dag_id from dag")) == 4, 120)
    assert airflow.rows("select * from import_error") == []


def _backfill_with_a_kill(
    millrace: Millrace, settings: dict[str, str], airflow: Airflow, past: list[str], killed: str
) -> None:
    """Load past days, newest first, beside the scheduled day; kill one's task; return when all days are green."""
    created = millrace(
        "dags", "backfill", "--since", past[0], "--date", past[-1], "--backwards", "--only", "events", **settings
    )
    assert created.returncode == 0, created.stderr
    process = airflow.wait("a task to kill", lambda: _process_of(millrace.home, f"events --date {killed}"), 900)
    time.sleep(3)  # well into its work
    os.kill(process.pid, signal.SIGKILL)
    states = f"select state, count(*) from dag_run where dag_id = 'millrace_daily' and {OURS} group by state"
    airflow.wait("green days", lambda: airflow.rows(states) == [("success", len(past) + 1)], 2200)


def _check_runs(airflow: Airflow, past: list[str], killed: str, daily: tuple[str, ...]) -> None:
    tries = dict(
        airflow.rows(
            "select r.partition_key, t.try_number from task_instance t join dag_run r using (dag_id, run_id)"
            f" where t.task_id = 'events' and r.{OURS}"
        )
    )
    assert tries == {day: 2 if day == killed else 1 for day in (*past, DAY)}
    at_once = airflow.rows(
        "select count(*) from dag_run a join dag_run b on a.start_date < b.start_date and b.start_date < a.end_date"
        " where a.dag_id = b.dag_id"
    )
    assert at_once[0][0] >= 1
    order = airflow.rows(
        "select partition_key from dag_run where dag_id = 'millrace_daily' and run_type = 'backfill' order by start_date"
    )
    assert order[0] == (past[-1],)
    states = (
        "select t.task_id, t.state from task_instance t join dag_run r using (dag_id, run_id) where r.partition_key = "
    )
    assert set(airflow.rows(f"{states} '{DAY}' and t.dag_id = 'millrace_daily'")) == states_of(daily)
    assert set(airflow.rows(f"{states} '{killed}'")) == states_of(("events",))
    partitions = airflow.rows(
        "select distinct partition_key from asset_event e join asset a on a.id = e.asset_id where a.name = 'ads_ctr_daily'"
        f" and {OURS}"
    )
    assert sorted(key for (key,) in partitions) == [*past, DAY]  # a partition is an asset


def states_of(stages: tuple[str, ...]) -> set[tuple[str, str]]:
    """Tasks and their states in a run that takes `stages` alone."""
    return {(name, "success" if name in stages else "skipped") for name in NAMES}


def _process_of(home: Path, line: str) -> psutil.Process | None:
    """The process of the task with this command line, when it runs."""
    for process in psutil.process_iter(["cmdline"]):
        if _is_of(process, home) and line in " ".join(process.info["cmdline"] or ()):
            return process
    return None


def _checksums(millrace: Millrace, settings: dict[str, str], day: str) -> list[Any]:
    """Rows and a checksum of all columns of each table's partition of a day."""
    parts = [
        f"select '{name}' name, count(*) n, sum(xxhash64(to_json(struct({', '.join(ALL[name].column_names)})))) s"
        f" from {name} where {partition} = '{ALL[name].partition_value(date.fromisoformat(day))}'"
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
