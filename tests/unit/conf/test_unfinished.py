"""Folders of runs that did not end: listed, removed once they are old and their process has ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from support import ROOT, run_front_door

from conf import Config, UserError, load
from conf.runs import start_run, unfinished_run
from conf.unfinished import is_going_on, remove_unfinished

DAY = date(2026, 1, 7)
RUN = """
import sys, time
from datetime import date
from conf import load
from conf.runs import start_run

with start_run(load(overrides=["paths.home=" + sys.argv[1]], environment={}), "fm", date(2026, 1, 7)) as run:
    print(run.folder, flush=True)
    time.sleep(120)
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(overrides=[f"paths.home={tmp_path}"], environment={})


@pytest.fixture
def going_on(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process in the middle of a run, and the run's folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.wait(timeout=30)


def broken_run(config: Config) -> Path:
    with pytest.raises(RuntimeError), start_run(config, "fm", DAY) as run:
        (run.checkpoints / "step").write_bytes(b"x" * 1000)
        raise RuntimeError
    return run.folder


def age(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_only_old_folders_of_unfinished_runs_are_removed(config: Config, tmp_path: Path) -> None:
    old, new = broken_run(config), broken_run(config)
    with start_run(config, "fm", DAY) as finished:
        pass
    foreign = tmp_path / "runs/notes"
    foreign.mkdir()
    for folder in (old, finished.folder, foreign):
        age(folder, 7200)
    assert remove_unfinished(tmp_path / "runs", older_than_s=3600) == 1
    assert sorted((tmp_path / "runs").iterdir()) == sorted([new, finished.folder, foreign])
    assert remove_unfinished(tmp_path / "runs", older_than_s=0) == 1
    assert not new.exists()


def test_a_long_run_that_writes_is_as_old_as_its_last_write(config: Config, tmp_path: Path) -> None:
    folder = broken_run(config)
    age(folder, 7200)
    (folder / "checkpoints/newer").touch()
    assert remove_unfinished(tmp_path / "runs", older_than_s=3600) == 0


def test_a_run_whose_process_lives_stays_and_is_not_resumed(
    config: Config, tmp_path: Path, going_on: tuple["subprocess.Popen[str]", Path]
) -> None:
    process, folder = going_on
    age(folder, 7200)
    assert is_going_on(folder)
    assert remove_unfinished(tmp_path / "runs", older_than_s=0) == 0
    with (
        pytest.raises(UserError, match=f"run {folder.name} still goes on in another process"),
        start_run(config, "fm", DAY, resumed=unfinished_run(config, "fm", DAY)),
    ):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert not is_going_on(folder)
    assert remove_unfinished(tmp_path / "runs", older_than_s=3600) == 1
    assert not folder.exists()


def test_they_are_listed(config: Config, tmp_path: Path, going_on: tuple["subprocess.Popen[str]", Path]) -> None:
    folder = broken_run(config)
    killed_early = tmp_path / "runs/deepfm-20260107T000000-abc123"
    killed_early.mkdir()
    (killed_early / ".lock").touch()
    with start_run(config, "fm", DAY):
        pass
    code, out, _ = run_front_door("runs", "list", "--unfinished", home=tmp_path)
    rows = {row["run_id"]: row for row in json.loads(out)}
    assert code == 0
    assert set(rows) == {folder.name, killed_early.name, going_on[1].name}
    assert [rows[name]["goes_on"] for name in (folder.name, killed_early.name, going_on[1].name)] == [
        False,
        False,
        True,
    ]
    assert rows[folder.name]["bytes"] > 1000
    assert (rows[folder.name]["model"], rows[folder.name]["dt"]) == ("fm", str(DAY))
    assert rows[killed_early.name]["model"] is None
    _, out, _ = run_front_door("runs", "list", "--unfinished", "--model", "deepfm", home=tmp_path)
    assert json.loads(out) == []
