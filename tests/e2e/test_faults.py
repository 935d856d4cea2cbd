"""Workers that die by a real kill: training goes on, or stops with a clear error and goes on when asked to."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from data.training_sets import make_job
from engines.listeners import nothing_reachable

from conf.runs import read_jsonl
from training.launch import job_file
from training.loop.job import HISTORY, Job

pytestmark = pytest.mark.slow
LIMIT_S = 240
SECRET = "geheim-4711"
OVERRIDES = ["train.epochs=3", "train.checkpoint_steps=2", "net.dropout=0.2", "train.batch_size=50"]


def weights(job: Job) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(job.run_folder / "model/deepfm.pt", weights_only=True)
    return found


def are_equal(one: Job, other: Job) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(other).values(), strict=True))


def launched(job: Job, backend: str) -> "subprocess.Popen[str]":
    """`BACKENDS[backend]` on two workers, in a process of its own."""
    code = (
        "import sys; from pathlib import Path\n"
        "from conf import UserError; from training.launch import job_file; from training.launch.backends import BACKENDS\n"
        "try: BACKENDS[sys.argv[1]]([job_file.load(Path(sys.argv[2]))], 2)\n"
        "except UserError as error: sys.exit(str(error))\n"
    )
    environment = {**os.environ, "MILLRACE__BUSINESS__PASSWORD": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET}
    return subprocess.Popen(
        [sys.executable, "-c", code, backend, str(job_file.save(job))],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def wait_for(what: Any, process: "subprocess.Popen[str] | None" = None) -> Any:
    """The first true value of `what()`."""
    ends = time.monotonic() + LIMIT_S
    while time.monotonic() < ends:
        if found := what():
            return found
        if process is not None and process.poll() is not None:
            pytest.fail(f"ended before its time: {process.communicate()[1][-2000:]}")
        time.sleep(0.02)
    pytest.fail("nothing happened")


def checkpoint_within_an_epoch(job: Job) -> bool:
    return any((job.run_folder / "checkpoints").glob("step.0[1-9]-*"))


@pytest.mark.wide  # that a run goes on where it ended is in test_fit.py and test_processes.py
@pytest.mark.parametrize(
    ("backend", "overrides", "program", "fault"),
    [
        ("horovod", ["train.hosts=localhost:2"], "horovod_worker", signal.SIGKILL),
        ("horovod", ["train.hosts=localhost:2", "train.timeout_s=8"], "horovod_worker", signal.SIGSTOP),
        ("spark", [], "train.py", signal.SIGKILL),
        ("spark", ["train.timeout_s=8"], "train.py", signal.SIGSTOP),
    ],
)
def test_a_killed_or_stopped_worker_stops_the_job_and_resume_ends_as_an_unbroken_run(
    tmp_path: Path, backend: str, overrides: list[str], program: str, fault: signal.Signals
) -> None:
    whole, broken = (
        make_job(tmp_path / name, "deepfm", *OVERRIDES, *overrides, rows=2000) for name in ("whole", "broken")
    )
    process = launched(broken, backend)
    try:
        wait_for(lambda: checkpoint_within_an_epoch(broken), process)
        workers = [
            pid
            for pid in _children(process.pid)
            if _command(pid).startswith(sys.executable) and program in _command(pid)
        ]
        assert workers
        # horovodrun writes the environment that it has on their command lines.
        assert not any(SECRET in _command(pid) for pid in _children(process.pid))
        killed_at = time.monotonic()
        os.kill(workers[-1], fault)
        _, told = process.communicate(timeout=60)
        assert time.monotonic() - killed_at < 60
        assert process.returncode == 1
        if fault == signal.SIGSTOP:
            assert re.search(
                r"rank \d: it (has stood still for \d+ s|stands still) \(process \d+ on .+\) and was killed", told
            ), told
        # The killed one can't say why; the other names what it saw of it, unless it is ended before it can.
        elif "another rank ended without a word" not in told:
            assert "names the process that ended first" in told, told
        assert "go on with --resume" in told
    finally:
        process.kill()
    assert not (broken.run_folder / "final.json").exists()
    for job in (broken, whole):
        with nothing_reachable():
            again = launched(job, backend)
            assert again.wait(timeout=LIMIT_S) == 0
    assert are_equal(whole, broken)
    assert [row["epoch"] for row in read_jsonl(broken.run_folder / HISTORY)] == list(range(3))


@pytest.mark.wide
def test_a_killed_worker_of_ray_train_is_replaced_and_the_run_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = (make_job(tmp_path / name, "deepfm", *OVERRIDES, rows=2000) for name in ("whole", "broken"))
    process = launched(broken, "ray")
    try:
        wait_for(lambda: checkpoint_within_an_epoch(broken), process)
        workers = [pid for pid in _children(process.pid) if _command(pid).startswith("ray::RayTrainWorker")]
        assert len(workers) >= 2
        os.kill(workers[-1], signal.SIGKILL)
        _, told = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, told[-2000:]
    finally:
        process.kill()
    assert launched(whole, "ray").wait(timeout=LIMIT_S) == 0
    assert are_equal(whole, broken)


def _everybody() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    """All descendants."""
    parents: dict[int, list[int]] = {}
    for other in _everybody():
        try:
            parent = int(Path(f"/proc/{other}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(other)
    found, left = [], [pid]
    while left:
        left = [child for one in left for child in parents.get(one, [])]
        found += left
    return found
