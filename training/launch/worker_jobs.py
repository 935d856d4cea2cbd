"""What every process of every backend runs: the jobs one after the other, their outcome in the run folder.

The run folder is the one place that the launcher of every backend can read, also on a cluster.
"""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from conf import UserError
from conf.atomic import write_atomically
from training.loop import Job, fit

log = logging.getLogger(__name__)

Metrics = dict[str, float]

FINAL = "final.json"  # the metrics of a finished job
ERROR = "error.json"  # a mistake that the user has to correct


def run_jobs(jobs: Sequence[Job], make_worker: Callable[[], Any]) -> None:
    """Train `jobs` in this process; `make_worker` is called once, for the first job.

    Rank 0 writes a job's metrics to `final.json`; any rank writes a mistake of the user's to `error.json`. A job that
    is done is not trained again when the workers are started anew.

    Raises:
        UserError: a job can't be trained as it is set up; starting the workers anew would end the same way.
    """
    worker = None
    for job in jobs:
        if (job.run_folder / ERROR).exists():
            raise failure_cause(jobs, RuntimeError("it failed before the workers were started anew"))
        try:
            # In here: what goes wrong while the group forms is recorded, too.
            worker = worker or make_worker()
            # Rank 0 decides for all: a file may not be visible on every node of a shared folder at once.
            if worker.broadcast((job.run_folder / FINAL).exists()):
                continue
            metrics = fit(worker, job)
            if worker.rank == 0:
                write_atomically(job.run_folder / FINAL, json.dumps(metrics))
        except UserError as error:
            write_atomically(job.run_folder / ERROR, json.dumps({"error": str(error)}))
            raise


def failure_cause(jobs: Sequence[Job], error: Exception) -> UserError:
    """The error to raise when a group of workers failed.

    Args:
        jobs: of which one may have an `error.json`, whose text it then is.
        error: what the launcher raised; its first line is named otherwise, with how to resume.
    """
    # First, for what the launcher raises then is a consequence: ranks that waited in vain for the one that stopped.
    for job in jobs:
        path = job.run_folder / ERROR
        if path.exists():
            return UserError(json.loads(path.read_text(encoding="utf-8"))["error"])
    unfinished = next((job for job in jobs if not (job.run_folder / FINAL).exists()), jobs[0])
    cause = getattr(error, "cause", None) or error  # Ray wraps what a task raised
    message = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
    log.debug("workers failed", exc_info=error)
    return UserError(
        f"a worker of {unfinished.run_folder.name} ended before its time ({message}); its checkpoints are kept: "
        "go on with --resume"
    )


def read_metrics(jobs: Sequence[Job]) -> list[Metrics]:
    """The metrics of finished jobs, in their order, from their run folders."""
    return [json.loads((job.run_folder / FINAL).read_text()) for job in jobs]
