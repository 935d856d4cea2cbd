"""Run folders whose run did not end: which there are, whether their process lives, and their removal.

A run locks a file of its folder while it goes on. The system frees the lock with the process, however that ends: it
tells a run that goes on from one that was killed, which no process id does, for ids are used again.
"""

import fcntl
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conf.errors import UserError

log = logging.getLogger(__name__)

STARTED = "started.json"
DONE = "run.json"
LOCK = ".lock"


class RunGoesOnError(UserError):
    """A process writes the run folder at this moment."""


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Hold a run folder, which must exist, for this process. Raises RunGoesOnError when another one holds it."""
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunGoesOnError(f"run {folder.name} still goes on in another process") from None
        except OSError as error:  # a file system without locks: then its age alone keeps it from removal
            log.debug("%s can't be locked: %s", folder, error)
        yield


def unfinished_folders(runs: Path) -> list[Path]:
    """Folders of runs that were started and have not ended, by name; some may still go on."""
    folders = sorted({path.parent for name in (STARTED, LOCK) for path in runs.glob(f"*/{name}")})
    return [folder for folder in folders if not (folder / DONE).exists()]


def is_going_on(folder: Path) -> bool:
    """Whether a process holds the run's folder."""
    if not (folder / LOCK).exists():  # of a version without locks
        return False
    try:
        with locked_run(folder):
            return False
    except RunGoesOnError:
        return True
    except FileNotFoundError:  # removed meanwhile
        return False


def describe_unfinished(folder: Path) -> dict[str, Any]:
    """The time of its last write (UTC), its bytes on disk, and whether it still goes on."""
    written_at, size = _last_write(folder)
    at = datetime.fromtimestamp(written_at, UTC).isoformat(timespec="seconds")
    return {"written_at": at, "bytes": size, "goes_on": is_going_on(folder)}


def remove_unfinished(runs: Path, *, older_than_s: float) -> int:
    """Remove folders of unfinished runs whose last write is longer ago, and whose process has ended.

    Returns:
        How many.
    """
    removed = 0
    for folder in unfinished_folders(runs):
        if time.time() - _last_write(folder)[0] < older_than_s:
            continue
        # Held while it is removed: nobody resumes it meanwhile. It may have ended well since it was looked at.
        with suppress(RunGoesOnError, FileNotFoundError), locked_run(folder):
            if not (folder / DONE).exists():
                shutil.rmtree(folder)
                removed += 1
    return removed


def _last_write(folder: Path) -> tuple[float, int]:
    """Time of the newest file within, and the bytes of all; what vanishes meanwhile is left out."""
    newest, size = 0.0, 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.lstat()
            newest, size = max(newest, status.st_mtime), size + status.st_size
    return newest, size
