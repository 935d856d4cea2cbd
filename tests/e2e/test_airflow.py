"""The daily DAG under a real Airflow: loads without errors, and `airflow dags test` runs the day to success."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

BIN = Path(sys.executable).parent


def airflow(home: Path, *arguments: str, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MILLRACE_HOME": str(home / "millrace"),
        "MILLRACE__SPARK__DRIVER_MEMORY": "2g",
        "MILLRACE__TRAIN__EPOCHS": "1",
    }
    command = [str(BIN / "airflow"), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_daily_dag_loads_and_runs_to_success(tmp_path: Path, millrace: object) -> None:
    millrace.home = tmp_path / "millrace"  # type: ignore[attr-defined]
    for line in (
        "simulate --days 4 --scale 0.1",
        "run --date 2026-01-03 --since 2026-01-01 --to events",
    ):
        done = millrace(*line.split())  # type: ignore[operator]
        assert done.returncode == 0, done.stderr
    migrated = airflow(tmp_path, "db", "migrate")
    assert migrated.returncode == 0, migrated.stderr
    errors = airflow(tmp_path, "dags", "list-import-errors")
    assert "No data found" in errors.stdout, errors.stdout
    tested = airflow(tmp_path, "dags", "test", "millrace_daily", "2026-01-04", timeout=780)
    told = tested.stdout + tested.stderr
    assert tested.returncode == 0, told[-3000:]
    assert "state=success" in told, told[-3000:]
    done = millrace("sql", "select count(*) n from ads_recommendation where dt = '2026-01-04'", "--format", "json")  # type: ignore[operator]
    assert done.stdout.strip() != '[{"n": 0}]', done.stderr
