"""Ranks that watch each other: a pause of all of them is nobody's silence, that of one is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

RANK = """
import sys, time
from pathlib import Path
from training.launch.peers import watch_peers

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
with watch_peers(folder, rank, 2.0, lambda rank, text: (folder / f"{rank}.txt").write_text(text)):
    until = time.monotonic() + 30
    while not (folder / "over").exists() and time.monotonic() < until:
        time.sleep(0.1)
"""


def started(folder: Path, rank: int) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", RANK, str(folder), str(rank)])
    until = time.monotonic() + 30
    while not (folder / f"ranks/{rank}.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return process


def test_a_pause_of_all_ranks_is_no_silence_and_one_that_stays_stopped_is_killed(tmp_path: Path) -> None:
    ranks = [started(tmp_path, rank) for rank in range(3)]
    try:
        time.sleep(1)  # some beats
        for process in ranks:
            os.kill(process.pid, signal.SIGSTOP)
        time.sleep(4)
        for process in ranks:
            os.kill(process.pid, signal.SIGCONT)
        time.sleep(1)
        assert [process.poll() for process in ranks] == [None, None, None]
        os.kill(ranks[1].pid, signal.SIGSTOP)
        assert ranks[1].wait(timeout=20) == -signal.SIGKILL
        assert "was killed" in (tmp_path / "1.txt").read_text()
        (tmp_path / "over").touch()
        assert [ranks[rank].wait(timeout=20) for rank in (0, 2)] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
