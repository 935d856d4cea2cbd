"""The warehouse in a home with blanks and letters beyond ASCII, under LC_ALL=C: a process and a JVM of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, SMALL, Millrace

LOAD = """
import json
from datetime import date
from conf import load
from etl.session import spark_session
from etl.stage import stage_run
from etl.tables import ads, ops
from etl.warehouse.store import Warehouse
from etl.warehouse.vacuum import vacuum
day, config = date(2026, 1, 7), load()
with spark_session(config) as spark:
    warehouse = Warehouse(spark, config)
    with stage_run(warehouse, "recall", [day]) as counts:
        rows = spark.createDataFrame([("hot", 10, 0.5, 3, str(day))], "channel string, k int, recall double, users long, dt string")
        for _ in range(2):
            counts[day].rows_in = counts[day].rows_out = warehouse.write(ads.recall_daily, rows, [day])[day]
    stages = [[row["stage"], row["status"], row["rows_in"]] for row in warehouse.read(ops.run).collect()]
    recalls = [row["recall"] for row in warehouse.read(ads.recall_daily, [day]).collect()]
    print(json.dumps([stages, recalls, vacuum(warehouse, ads.recall_daily.name, older_than_s=0)]))
"""


@pytest.mark.timeout(300)
def test_a_partition_is_written_in_a_home_with_an_odd_name(tmp_path: Path) -> None:
    """A blank split Java's options; the letters were no URI for Arrow, so that every stage ended after its swap."""
    parent = tmp_path / "Mein Käse & (Co)" / Path(*["très profond"] * 40)
    parent.mkdir(parents=True)
    (tmp_path / "link").symlink_to(parent)
    home = tmp_path / "link/a b=c,☃"
    log = tmp_path / "access.log"
    log.write_text('1.1.1.1 - - [07/Jan/2026:06:00:00 +0000] "GET /a HTTP/1.1" 200 1 "-" "Mozilla/5.0"\n' * 3)
    done = Millrace(home)("etl", "collect", str(log), "--once", LC_ALL="C")
    assert json.loads(done.stdout)["lines"] == 3, done.stderr
    environment = {**os.environ, **SMALL, "LC_ALL": "C", "MILLRACE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[["recall", "done", 1]], [0.5], 1]
    assert (parent / home.name / "warehouse").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Mein Käse & (Co)", "access.log", "link"]
