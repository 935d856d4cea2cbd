"""`millrace doctor --gpu`: an all-reduce between all GPUs, then DeepFM trained on them by every backend.

With `--cpu` the same over gloo between processes on CPUs, which proves the way but no GPU.
"""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conf import Config, UserError
from conf.errors import error_line
from conf.machine.network import LISTENING_INTERFACE, loopback_interface
from conf.runs import read_jsonl
from doctor.engines import PROBE, probe
from etl.settings import SparkSettings
from training.inputs.batch import Columns
from training.inputs.dataset import TaskDataset
from training.inputs.schema import Inputs
from training.launch.backends import BACKENDS
from training.launch.booking import DOCTOR
from training.launch.ray_session import ray_session
from training.launch.worker_jobs import group_of
from training.loop.job import HISTORY, Job

log = logging.getLogger(__name__)

FIELDS, VALUES, ROWS = tuple(f"c{i}" for i in range(8)), 500, 20_000
CPU_PROCESSES = 2
# Of the small model; the rest is as the user has it.
SETTINGS = {"train.epochs": 2, "train.batch_size": 1024, "train.max_failures": 0, "train.launch_timeout_s": 60.0}
# What is trained: backend, name of the line, settings besides.
RUNS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("local", "local", {}),
    ("local", "local bfloat16", {"train.precision": "bfloat16"}),
    ("ray", "ray", {}),
    ("ray", "ray sharded", {"net.sharded": True}),
    ("horovod", "horovod", {}),
    ("spark", "spark", {}),
)


@dataclass(frozen=True)
class Proof:
    """A line: what was run, and how fast; or why it was not."""

    name: str
    has_run: bool
    text: str

    def __str__(self) -> str:
        return f"{'ran' if self.has_run else 'not run':<8} {self.name:<16} {self.text}"


def prove(config: Config, *, on_cpu: bool, seconds: float) -> list[Proof]:
    """Run the all-reduce, then every backend on all GPUs of this machine, or on two CPU processes.

    Raises UserError, one line, when there is no GPU and `on_cpu` is not set.
    """
    gpus = len(probe(PROBE)["gpus"])
    if not gpus and not on_cpu:
        raise UserError(
            f"no GPU that torch can use: nothing was run; --cpu runs it over gloo ({DOCTOR.format('cuda, gpus')})"
        )
    processes = CPU_PROCESSES if on_cpu else gpus
    proofs = [_proof("all-reduce", lambda: all_reduce(processes, on_cpu=on_cpu, seconds=seconds))]
    with tempfile.TemporaryDirectory(prefix="millrace-proof-") as scratch, _session(config, processes) as open_config:
        folder = Path(scratch)
        _write(folder / "data")
        for backend, name, settings in RUNS:
            # Spark's local mode hands out no GPUs: its line says that it ran on the CPU.
            is_local_spark = backend == "spark" and open_config.get(SparkSettings).is_local
            booked = "auto" if is_local_spark else 1
            values = {**SETTINGS, **settings, "train.gpus_per_worker": 0 if on_cpu else booked}
            job = _job(open_config.with_values(values), folder, name.replace(" ", "-"))
            workers = 1 if backend == "local" else processes
            proofs.append(_proof(name, lambda backend=backend, job=job, workers=workers: train(backend, job, workers)))  # type: ignore[misc]  # mypy knows no defaults of lambdas
    return proofs


def _proof(name: str, run: Callable[[], str]) -> Proof:
    log.info("%s", name)
    try:
        return Proof(name, True, run())
    except Exception as error:  # the others are run all the same
        log.debug("%s", name, exc_info=error)
        return Proof(name, False, error_line(error))


def all_reduce(processes: int, *, on_cpu: bool, seconds: float) -> str:
    """Exchange 64 MB (8 MB on CPUs) between all processes for so long; the text has the bus bandwidth in GB/s.

    Raises RuntimeError with the last line of a process that failed.
    """
    library, megabytes = ("gloo", 8) if on_cpu else ("nccl", 64)
    command = [sys.executable, "-W", "ignore", "-m", "doctor.all_reduce", library]
    environment = {**os.environ, **dict.fromkeys(LISTENING_INTERFACE, loopback_interface())}
    with tempfile.TemporaryDirectory(prefix="millrace-proof-") as scratch:
        # A file and no port: torch's own store would listen on every interface.
        arguments = [f"{scratch}/store", str(processes), str(megabytes), str(seconds)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
        started = [subprocess.Popen([*command, *arguments, str(rank)], **pipes) for rank in range(processes)]
        try:
            outputs = [process.communicate(timeout=seconds + 120) for process in started]
        finally:
            for process in started:
                process.kill()
    for process, (_, errors) in zip(started, outputs, strict=True):
        if process.returncode:
            raise RuntimeError((errors.strip().splitlines() or ["a process ended without a word"])[-1])
    rate = outputs[0][0].strip()
    where = f"{processes} {'processes on the CPU' if on_cpu else 'GPUs'}"
    if processes == 1:
        return f"{rate} GB/s within one GPU, by {library}: nothing is exchanged, two GPUs would show NCCL's rate"
    return f"{rate} GB/s between {where}, by {library}"


def train(backend: str, job: Job, workers: int) -> str:
    """Train a small DeepFM; the text has rows a second of the faster epoch, and on what it ran."""
    BACKENDS[backend]([job], workers)
    rate = max(float(row["rows_per_s"]) for row in read_jsonl(job.run_folder / HISTORY))
    group = group_of(job)
    by = f", {group.device} by {group.library}" if group else ""
    return f"{rate:,.0f} rows/s, {workers} worker{'s' if workers > 1 else ''}{by}"


@contextmanager
def _session(config: Config, processes: int) -> Iterator[Config]:
    """The settings with room for all processes on a local Spark and Ray, and Ray open for all runs."""
    cpus = max(processes, os.cpu_count() or 1)
    values: dict[str, object] = {"ray.num_cpus": cpus}
    if config.get(SparkSettings).is_local:
        values["spark.master"] = f"local[{cpus}]"
    config = config.with_values(values)
    with ray_session(config):
        yield config


def _job(config: Config, folder: Path, name: str) -> Job:
    inputs, columns = Inputs(FIELDS, (VALUES,) * len(FIELDS), ("zero",)), Columns(FIELDS, ("zero",))
    return Job.prepared(config, "deepfm", TaskDataset(folder / "data", inputs, columns, "proof"), folder / name)


def _write(folder: Path) -> None:
    """Three splits whose clicks follow from two fields."""
    rng = np.random.default_rng(0)
    for split, rows in (("train", ROWS), ("valid", ROWS // 10), ("test", ROWS // 10)):
        (folder / split).mkdir(parents=True)
        ids = {name: rng.integers(0, VALUES, rows) for name in FIELDS}
        label = (rng.random(rows) < 1 / (1 + np.exp(-sum(np.sin(ids[name]) for name in FIELDS[:2])))).astype(np.float32)
        table = pa.table({**ids, "zero": np.zeros(rows, np.float32), "label": label})
        pq.write_table(table, folder / split / "part-0.parquet", row_group_size=2048)
