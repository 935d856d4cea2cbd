"""One Horovod process: on Ray as a function, under `horovodrun` as `python -m training.launch.horovod_worker FILES`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from conf import UserError
from training.launch import job_file
from training.launch.worker_jobs import run_jobs
from training.loop import Job


def run_horovod_worker(jobs: Sequence[Job]) -> None:
    """Train `jobs` as one rank of a Horovod group. Raises UserError when a job can't be trained as it is set up."""
    from training.workers import HorovodWorker

    run_jobs(jobs, HorovodWorker)


def main() -> None:
    """Train the jobs of the files named on the command line; exit code 1 after a mistake of the user's."""
    try:
        run_horovod_worker([job_file.load(Path(file)) for file in sys.argv[1:]])
    except UserError:  # its text is in the run folder, where the launcher reads it
        sys.exit(1)


if __name__ == "__main__":
    main()
