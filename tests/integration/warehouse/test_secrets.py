"""Secrets are planted wherever one can be set; after some commands nothing has them but the file that the user wrote."""

import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from support import Millrace

from conf.settings import SECRETS

DAY = "2026-01-02"
PREFIX = "geheim"  # of every secret

FILE = {
    "serving": {"token": f"{PREFIX}01-0123456789"},
    "tracking": {"uri": f"http://me:{PREFIX}02@127.0.0.1:9"},
    "relational": {
        "databases": {
            "shop": {"url": f"jdbc:postgresql://127.0.0.1:9/shop?user=me&password={PREFIX}03&connectTimeout=1"},
            "old": {"url": "jdbc:derby:memory:old", "user": "me", "password": f"{PREFIX}04"},
            "lost": {"url": f"jdbc:nobody://me:{PREFIX}05@host/lost;password={PREFIX}06"},
        },
        "imports": {
            "goods": {"table": "goods", "database": "shop"},
            "stock": {"table": "stock", "database": "lost"},
        },
    },
}
SPARK_EXTRA = {
    "spark.hadoop.fs.s3a.access.key": f"{PREFIX}11",
    "spark.hadoop.fs.s3a.secret.key": f"{PREFIX}12",
    "spark.hadoop.fs.azure.account.key.me.blob.core.windows.net": f"{PREFIX}13",
    "spark.hadoop.javax.jdo.option.ConnectionPasword": f"{PREFIX}14",
}
ENVIRONMENT = {
    "MILLRACE__BUSINESS__PASSWORD": f"{PREFIX}21 @x",
    "MILLRACE__METASTORE__PASSWORD": f"{PREFIX}22",
    "MILLRACE__RAY__JOBS": f"http://me:{PREFIX}23@127.0.0.1:9",
    "MILLRACE__SPARK__EXTRA": yaml.safe_dump(SPARK_EXTRA, default_flow_style=True, width=10_000),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
REFUSED = (
    ("config", "show", "--set", f"business.password={PREFIX}31"),
    ("sql", "select 1", "--set", f"business.url=jdbc:postgresql://host/db?password={PREFIX}32"),
    ("submit", "sql", "select 1", "--set", f"serving.token={PREFIX}33"),
    ("submit", "sql", f"select '{PREFIX}22'"),
)
# A run that is tracked on a server that nobody answers for, and the archive of the code.
RUN = f"""
from datetime import date
from conf import Paths, load
from conf.code import archive
from conf.console.logs import set_up_logging
from conf.runs import start_run
from training import tracking
set_up_logging(debug=True)
config = load()
with start_run(config, "lr", date.fromisoformat("{DAY}")) as run:
    tracking.log_run(config, run, "local", 1, {{}})
archive(config.get(Paths).root / "tmp")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_secrets_are_nowhere_but_in_the_file_that_the_user_wrote(tmp_path: Path, millrace: Millrace) -> None:
    (tmp_path / "tmp").mkdir()
    millrace.home.mkdir(mode=0o700)
    secrets_file = millrace.home / SECRETS
    secrets_file.write_text(yaml.safe_dump(FILE))
    secrets_file.chmod(0o600)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {
        **ENVIRONMENT,
        "TMPDIR": str(tmp_path / "tmp"),
        "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={tmp_path / 'tmp'}",
    }
    outputs = []
    for arguments in REFUSED:
        done = millrace(*arguments, **environment)
        assert done.returncode in (1, 2), done.stderr
        outputs.append(done)
    with watched_command_lines() as command_lines:
        shown = millrace("config", "show", **environment)
        tracked = millrace.script(script, **environment)
        lines = (
            "simulate --days 2 --scale 0.02",
            f"etl import users items --date {DAY}",
            f"etl import goods --date {DAY}",
        )
        imported = millrace.in_one_session(*lines, **environment)
        lost = millrace("etl", "import", "stock", "--date", DAY, "--debug", **environment)
        submitted = millrace("submit", "train", "lr", "--date", DAY, **environment)
    outputs += [shown, tracked, imported, lost, submitted]
    # They came as far as the engines, whose messages quote URLs.
    assert "ConnectionPasword: '**********'" in shown.stdout
    assert "is not in MLflow" in tracked.stderr
    assert "can't work with jdbc:postgresql://127.0.0.1:9/shop?connectTimeout=1: " in imported.stderr
    assert "jdbc:nobody://me:**********@host/lost;password=**********" in lost.stderr
    assert "the Ray cluster at http://me:**********@127.0.0.1:9 took no job" in submitted.stderr
    assert PREFIX not in "".join(done.stdout + done.stderr for done in outputs)
    assert len(command_lines) > 3
    assert not [line for line in command_lines if PREFIX in line]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != secrets_file]
    names = {path.name for path in files}
    assert {"settings.yaml", "lock.json", "run.json"} <= names
    assert any(path.suffix == ".zip" for path in files)
    assert any("ops_run" in str(path) for path in files)
    assert [path for path in files if holds_secret(path)] == []


def holds_secret(path: Path) -> bool:
    data = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            data = b"".join(archive.read(name) for name in archive.namelist())
    if path.suffix == ".parquet" and data[-4:] == b"PAR1":
        data += str(pq.read_table(path).to_pydict()).encode()  # compressed in the file
    return any(PREFIX.encode(encoding) in data for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


@contextmanager
def watched_command_lines() -> Iterator[set[str]]:
    """Command lines of all processes of the machine during the block, as any of its users can read them."""
    lines: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for process in psutil.process_iter():
                try:
                    lines.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        thread.join()
