import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, Millrace

from conf import UserError
from etl.jvm_stderr import reason_of_end
from etl.metastore import lock
from etl.metastore.lock import MetastoreLock
from etl.session import require_java


def test_no_java_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no Java found \(Spark needs 17 or 21\): run `make setup`"):
        require_java()


def test_a_java_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin/java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r'Spark needs Java 17 or 21, .* is openjdk version "11'):
        require_java()


@pytest.mark.parametrize(
    ("code", "lines", "reason"),
    [
        (-9, [], "killed by SIGKILL: it wrote no reason"),
        (134, ["# A fatal error", "# SIGBUS (0x7) at pc=0x7f"], "with exit code 134: # SIGBUS (0x7) at pc=0x7f"),
        (
            52,
            ["x.OutOfMemoryError", "java.lang.OutOfMemoryError: unable to create native thread", "\tat java.base"],
            "with exit code 52: java.lang.OutOfMemoryError: unable to create native thread",
        ),
    ],
)
def test_the_end_of_a_jvm_has_its_reason(code: int, lines: list[str], reason: str) -> None:
    assert reason_of_end(code, lines, "4g") == f"Spark's JVM ended before its time, {reason}"


HOLD = """
import sys, time
from pathlib import Path
from etl.metastore.lock import MetastoreLock
from etl.session import require_java
with MetastoreLock(Path(sys.argv[1])).hold(0):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_the_metastore(tmp_path: Path) -> None:
    process = holder(tmp_path, 60)
    try:
        with (
            pytest.raises(UserError, match=rf"in use by process {process.pid} \(.*\) since 20.*\+00:00; waited 0.3 s"),
            MetastoreLock(tmp_path).hold(0.3),
        ):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_waiting_process_gets_the_metastore_when_it_is_free(tmp_path: Path) -> None:
    process = holder(tmp_path, 0.5)
    with MetastoreLock(tmp_path).hold(30):
        assert process.wait(timeout=10) == 0


def test_who_waits_is_told_again_and_again_for_whom_and_since_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "MESSAGE_S", 0.3)
    process = holder(tmp_path, 60)
    try:
        with caplog.at_level("INFO"), pytest.raises(UserError), MetastoreLock(tmp_path).hold(1):
            pass
    finally:
        process.kill()
        process.wait()
    # Of the lock alone: threads of other work in this process log, too.
    messages = [record.getMessage() for record in caplog.records if record.name == lock.__name__]
    assert len(messages) >= 3
    assert all(f"of at most 1 s): in use by process {process.pid} (" in message for message in messages)
    assert all(") since 20" in message for message in messages)


def test_the_lock_of_a_killed_process_is_free_when_its_jvm_is_gone(tmp_path: Path) -> None:
    process = holder(tmp_path, 60)
    process.kill()
    process.wait()
    started = time.monotonic()
    with MetastoreLock(tmp_path).hold(30):
        assert time.monotonic() - started < 10


def test_a_jvm_that_outlives_its_process_is_waited_for(tmp_path: Path) -> None:
    """After kill -9 of the Python process the JVM still holds Derby for a moment; `exec -a java` stands in for it."""
    jvm = subprocess.Popen(["bash", "-c", "exec -a java sleep 60"])
    (tmp_path / "lock.json").write_text(f'{{"pid": {os.getpid()}, "jvm": {jvm.pid}, "command": "gone"}}')
    try:
        time.sleep(0.2)
        with pytest.raises(UserError, match="in use by"), MetastoreLock(tmp_path).hold(0.3):
            pass
    finally:
        jvm.kill()
        jvm.wait()
    with MetastoreLock(tmp_path).hold(5):
        pass


@pytest.mark.timeout(120)
def test_a_kill_while_the_metastore_is_created_stops_no_later_command(millrace: Millrace) -> None:
    """Derby refuses a database that it has not finished, for ever."""
    for name in ("db", "db.new"):
        (millrace.home / f"metastore/{name}/seg0").mkdir(parents=True)
        (millrace.home / f"metastore/{name}/log").mkdir()
        (millrace.home / f"metastore/{name}/db.lck").write_text("")
    done = millrace("sql", "select 1 as one", "--format", "csv")
    assert (done.returncode, done.stdout.split()) == (0, ["one", "1"]), done.stderr
    assert (millrace.home / "metastore/db/service.properties").exists()
    assert not (millrace.home / "metastore/db.new").exists()


def test_a_metastore_that_cannot_be_opened_is_one_line_within_seconds(tmp_path: Path, millrace: Millrace) -> None:
    """Hive would try for three minutes, and then print its stacks. A folder in the way stands in for a full disk."""
    (millrace.home / "metastore/db").mkdir(parents=True)
    (millrace.home / "metastore/db/file").write_text("no database")
    started = time.monotonic()
    done = millrace("warehouse", "check", "dim_user")
    assert time.monotonic() - started < 60
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"millrace: can't open the embedded metastore in {millrace.home}/metastore: Directory ")
    assert "Caused by" not in done.stderr
