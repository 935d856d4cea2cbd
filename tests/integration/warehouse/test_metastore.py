"""The metastore on PostgreSQL, moving there, and the HiveServer2 endpoint over both: real servers and processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from engines.listeners import nothing_reachable
from engines.postgres import Postgres, postgres_server
from support import ROOT, SMALL, Millrace

from conf import Config, UserError, load
from conf.runs import start_run
from etl.spark_options import spark_program
from etl.warehouse.serve import endpoint_options, running_server
from etl.warehouse.settings import ServeSettings

QUERY = "select model, metric, value from ads_model_metric where dt = '2026-01-02' order by metric"
CLIENT = """
import sys
from impala.dbapi import connect
cursor = connect(host="127.0.0.1", port=int(sys.argv[1]), auth_mechanism="PLAIN", user="me").cursor()
cursor.execute(sys.argv[2])
print(cursor.fetchall())
"""
ROWS = [("fm", "auc", 0.75), ("fm", "log_loss", 0.5)]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@contextmanager
def endpoint(config: Config) -> Iterator[int]:
    """A running endpoint, whose process shows no secret; its port."""
    with nothing_reachable(), running_server(config) as (process, port):
        commands = subprocess.run(["ps", "auxww"], capture_output=True, text=True, check=True).stdout
        assert str(process.pid) in commands
        assert "secret" not in commands
        yield port


def check_rows_by_db_api(port: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(port), QUERY], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == str(ROWS), done.stderr


def check_rows_by_beeline(port: int) -> None:
    done = subprocess.run(
        [
            str(spark_program("beeline")), "-u", f"jdbc:hive2://127.0.0.1:{port}/default", "-n", "me",
            "--outputformat=csv2", "--silent=true", "-e", QUERY,
        ],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert lines[-2:] == ["fm,auc,0.75", "fm,log_loss,0.5"], done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("both", [False, pytest.param(True, marks=pytest.mark.wide)], ids=["one client", "two clients"])
def test_moving_to_postgres_serving_it_and_writing_from_several_processes(
    tmp_path: Path, millrace: Millrace, postgres: Postgres, both: bool
) -> None:
    """`both`: by the DB API and beeline, and before the move, on the embedded metastore; a third process writes, too."""
    home = f"paths.home={millrace.home}"
    embedded = load(
        overrides=[home, "serve.port=0", "spark.driver_memory=1g", "spark.compile_little=true"], environment={}
    )
    with start_run(embedded, "fm", date(2026, 1, 2)) as found:
        found.log_metrics("fine", "test", {"auc": 0.75, "log_loss": 0.5}, 10)
    lines = ("simulate --days 2 --scale 0.02", "etl results", "etl events --date 2026-01-01")
    done = millrace.in_one_session(*lines)
    assert done.returncode == 0, done.stderr
    if both:
        with endpoint(embedded) as port:
            check_rows_by_db_api(port)

    on_server = postgres.as_metastore
    refused = millrace("sql", "select 1", **on_server)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].endswith("run `millrace warehouse init` once")
    for _ in range(2):  # again changes nothing
        done = millrace("warehouse", "init", **on_server)
        assert done.returncode == 0, done.stderr
    moved = millrace("warehouse", "move", **on_server)
    assert moved.returncode == 0, moved.stderr
    assert '"partitions_there_before": 0' in moved.stdout
    config = load(
        overrides=[home, "serve.port=0", "spark.driver_memory=1g", "spark.compile_little=true"],
        environment=on_server,
    )
    assert "secret" not in str(config.resolved())
    with endpoint(config) as port:
        check_rows_by_db_api(port)
        if both:
            check_rows_by_beeline(port)

    # A day that makes the one before again, for late events, and another stage that writes the same quarantine table, at
    # once; and the first day of that stage.
    lines = ("etl events --date 2026-01-02", "etl weblog --date 2026-01-01", "etl events --date 2026-01-01")
    environment = {**os.environ, **SMALL, **on_server, "MILLRACE_HOME": str(millrace.home)}
    environment["MILLRACE__SPARK__DRIVER_MEMORY"] = "1g"
    command = str(Path(sys.executable).parent / "millrace")
    running = [
        subprocess.Popen([command, *line.split()], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for line in lines[: 3 if both else 2]
    ]
    for process in running:
        _, told = process.communicate(timeout=400)
        assert process.returncode == 0, told
    counted = millrace(
        "sql",
        "select (select count(distinct stage) from ods_quarantine where dt = '2026-01-01') stages,"
        " (select count(distinct dt) from dwd_impression) days,"
        " (select count(*) from ops_run where status = 'done' and stage in ('events', 'weblog')) runs,"
        " (select count(*) from ops_run where status <> 'done') not_done",
        "--format", "json", **on_server,
    )  # fmt: skip
    rows = json.loads(counted.stdout)
    # Whichever day's events come second make the other day again as well; only the second day always makes the first.
    expected = (5, 6) if both else (4,)
    assert rows in [[{"stages": 2, "days": 2, "runs": runs, "not_done": 0}] for runs in expected], counted.stderr


def test_an_endpoint_for_others_wants_authentication() -> None:
    with pytest.raises(UserError, match="lets others in"):
        endpoint_options(ServeSettings(host="0.0.0.0"))
    with pytest.raises(UserError, match=r"needs serve\.ldap_url"):
        endpoint_options(ServeSettings(host="0.0.0.0", authentication="ldap"))
    options = endpoint_options(
        ServeSettings(
            host="0.0.0.0", authentication="ldap", ldap_url="ldaps://directory", ldap_user_pattern="uid=%s,dc=example"
        )
    )
    assert options["hive.server2.authentication"] == "LDAP"
