"""What every process of every backend runs: the jobs one after the other, their outcome in the run folder.

The run folder is the one place that the launcher of every backend can read, also on a cluster.
"""

import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from conf import UserError
from conf.atomic import write_atomically
from conf.errors import error_line, root_cause
from training.launch.booking import DOCTOR
from training.launch.devices import Agreement
from training.launch.peers import name_stopped_peers, watch_peers
from training.loop.fit import fit
from training.loop.job import Job
from training.settings import TrainSettings

log = logging.getLogger(__name__)

Metrics = dict[str, float]

GROUP = "group.json"  # what the workers train on, once all of them are there
FINAL = "final.json"  # the metrics of a finished job
ERROR = "error.json"  # a mistake that the user has to correct
FAILURES = "failed.*.json"  # of each process of the last attempt that raised something else

# What a rank raises when another one is gone: a consequence, never the cause.
_LOST_PEER = re.compile(
    "DistBackendError|DistNetworkError|HorovodInternalError|closed by peer|reset by peer|Broken pipe|Gloo.*[Tt]imed out"
)


def run_jobs(jobs: Sequence[Job], make_worker: Callable[[], Any], *, has_threads: bool = True) -> None:
    """Train `jobs` in this process; `make_worker` is called once, for the first job.

    Rank 0 writes a job's metrics to `final.json`; any rank writes a mistake of the user's to `error.json`, and any
    other error to a file of its own. A job that is done is not trained again when the workers are started anew. Threads
    that watch the other ranks need `has_threads`: that they run while this one waits for others.

    Raises:
        UserError: a job can't be trained as it is set up; starting the workers anew would end the same way.
    """
    worker = None
    for job in jobs:
        if (job.run_folder / ERROR).exists():
            raise failure_cause(jobs, RuntimeError("it failed before the workers were started anew"))
        try:
            # In here: what goes wrong while the group forms is recorded, too.
            if worker is None:
                worker = make_worker()
                # What an earlier attempt recorded; every other rank waits in the first broadcast meanwhile.
                earlier = [path for each in jobs for path in each.run_folder.glob(FAILURES)] if worker.rank == 0 else []
                for path in earlier:
                    path.unlink()
            # Rank 0 decides for all: a file may not be visible on every node of a shared folder at once.
            if worker.broadcast((job.run_folder / FINAL).exists()):
                continue
            with _watching(job, worker, has_threads=has_threads):
                metrics = fit(worker, job)
            if worker.rank == 0:
                write_atomically(job.run_folder / FINAL, json.dumps(metrics))
        except UserError as error:
            write_atomically(job.run_folder / ERROR, json.dumps({"error": str(error)}))
            raise
        except Exception as error:
            _record_failure(job, error, None if worker is None else worker.rank)
            raise


def _watching(job: Job, worker: Any, *, has_threads: bool) -> AbstractContextManager[None]:
    limit_s = job.config.get(TrainSettings).timeout_s if worker.world_size > 1 else 0
    if limit_s and not has_threads:
        return name_stopped_peers(job.run_folder, worker.rank, partial(_record, job))
    return watch_peers(job.run_folder, worker.rank, limit_s, partial(_record, job))


def record_group(jobs: Sequence[Job], agreement: Agreement) -> None:
    """Write to the jobs' run folders that the workers are there, and what they train on; rank 0 calls it."""
    for job in jobs:
        write_atomically(job.run_folder / GROUP, json.dumps(vars(agreement)))


def group_of(job: Job) -> Agreement | None:
    """What a job's workers train on; None before all of them are there."""
    path = job.run_folder / GROUP
    return Agreement(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _record_failure(job: Job, error: Exception, rank: int | None) -> None:
    """Write an error to the run folder: launchers raise what they noticed of it, which is often nothing."""
    text = error_line(error)
    _record(job, rank, text, is_lost_peer=bool(_LOST_PEER.search(text)))


def _record(job: Job, rank: int | None, text: str, *, is_lost_peer: bool = False) -> None:
    failure = {"at": time.time(), "rank": rank, "error": text, "is_lost_peer": is_lost_peer}
    path = job.run_folder / FAILURES.replace("*", f"{rank}-{socket.gethostname()}-{os.getpid()}")
    try:
        write_atomically(path, json.dumps(failure))
    except OSError:  # a full disk, perhaps the very error: it goes on to the launcher
        log.warning("can't record in %s: %s", path, text)


def failure_cause(jobs: Sequence[Job], error: Exception) -> UserError:
    """The error to raise when a group of workers failed.

    Args:
        jobs: of which one may have an `error.json`, whose text it then is.
        error: what the launcher raised. Named is what a worker raised first, or else this, then how to resume.
    """
    # First, for what the launcher raises then is a consequence: ranks that waited in vain for the one that stopped.
    for job in jobs:
        path = job.run_folder / ERROR
        if path.exists():
            return UserError(json.loads(path.read_text(encoding="utf-8"))["error"])
    if isinstance(mistake := root_cause(error), UserError):  # raised where no job is open, as in a worker's imports
        return UserError(error_line(mistake))
    unfinished = next((job for job in jobs if not (job.run_folder / FINAL).exists()), jobs[0])
    log.debug("workers failed", exc_info=error)
    failure = _first_failure(jobs)
    if failure is None and not any(group_of(job) for job in jobs):
        return UserError(f"the workers did not start: {error_line(error)} ({DOCTOR.format('ray, spark, horovod')})")
    return UserError(
        f"a worker of {unfinished.run_folder.name} failed: {failure or error_line(error)}. "
        "Its checkpoints stay: when that is mended, go on with --resume"
    )


def _first_failure(jobs: Sequence[Job]) -> str | None:
    """Rank and error of the process that failed first by itself; None when no process could record one."""
    paths = [path for job in jobs for path in job.run_folder.glob(FAILURES)]
    failures = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    if not failures:
        return None
    first = min(failures, key=lambda failure: (failure["is_lost_peer"], failure["at"]))
    rank = "a rank that had yet to join" if first["rank"] is None else f"rank {first['rank']}"
    if first["is_lost_peer"]:
        return f"another rank ended without a word, as when it is killed or out of memory ({rank}: {first['error']})"
    return f"{rank}: {first['error']}"


def read_metrics(jobs: Sequence[Job]) -> list[Metrics]:
    """The metrics of finished jobs, in their order, from their run folders; says so where no GPU could be used."""
    if (group := group_of(jobs[0])) and group.note:
        log.warning("%s", group.note)
    return [json.loads((job.run_folder / FINAL).read_text()) for job in jobs]
