"""What a kill within `write_atomically` leaves, and its removal."""

import os
import subprocess
import sys
from pathlib import Path

from conf.atomic import remove_staged

KILLED = """
import os, signal, sys
from pathlib import Path
from conf import atomic
atomic.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
atomic.write_atomically(Path(sys.argv[1]), "new")
"""


def test_the_file_of_a_killed_writer_is_removed_once_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "state/current.json"
    path.parent.mkdir()
    path.write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    (staged,) = path.parent.glob(".*")
    assert path.read_text() == "old"
    assert remove_staged(tmp_path, older_than_s=3600) == 0
    assert remove_staged(tmp_path, older_than_s=0, skipped=["state"]) == 0
    assert remove_staged(tmp_path, older_than_s=0) == 1
    assert not staged.exists()


def test_the_file_of_a_writer_that_goes_on_stays(tmp_path: Path) -> None:
    for name in (f".current.json.{os.getpid()}", ".hidden", "plain.1"):
        (tmp_path / name).touch()
    assert remove_staged(tmp_path, older_than_s=0) == 0
