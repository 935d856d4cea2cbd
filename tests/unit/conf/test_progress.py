import logging
import subprocess
import sys
import time

import pytest
from support import ROOT

from conf.console.progress import waiting


def wait_for_lines(caplog: pytest.LogCaptureFixture, number: int) -> list[str]:
    """The first log lines, within ten seconds."""
    ends = time.monotonic() + 10
    while len(caplog.messages) < number and time.monotonic() < ends:
        time.sleep(0.01)
    return caplog.messages[:number]


def test_long_work_says_what_it_is_and_how_far(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with waiting("recall", lambda: "3 of 7 tasks", every_s=0.05):
        lines = wait_for_lines(caplog, 2)
    assert lines == ["recall: still going on after 0 s, 3 of 7 tasks"] * 2
    assert {record.name for record in caplog.records} == {"conf.console.progress"}


def test_short_work_says_nothing_and_a_finished_one_no_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ValueError, match="its own"), waiting("first", every_s=0.05):
        raise ValueError("its own")
    with waiting("second", every_s=0.05):
        lines = wait_for_lines(caplog, 2)
    assert lines == ["second: still going on after 0 s"] * 2


def test_the_innermost_of_several_speaks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with waiting("the day", every_s=0.02):
        with waiting("recall", every_s=0.05):
            wait_for_lines(caplog, 3)
            inner = {message.split(":")[0] for message in caplog.messages}
        caplog.clear()
        outer = {message.split(":")[0] for message in wait_for_lines(caplog, 3)}
    assert (inner, outer) == ({"recall"}, {"the day"})


def test_progress_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with waiting("recall", lambda: str(1 / 0), every_s=0.05):
        assert wait_for_lines(caplog, 2) == ["recall: still going on after 0 s"] * 2


QUIET = """
import logging, subprocess, sys, tempfile
from conf.console.logs import set_up_logging
from etl.jvm_stderr import quiet_stderr
set_up_logging()
with tempfile.TemporaryFile() as file, quiet_stderr(file):
    subprocess.run(["sh", "-c", "echo of the JVM >&2"], check=True)
    logging.getLogger("conf").info("still going on")
logging.getLogger("conf").info("and on")
"""


def test_a_log_line_gets_through_while_the_launcher_of_spark_is_silenced() -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert [line.split(": ")[-1] for line in done.stderr.splitlines()] == ["still going on", "and on"]
