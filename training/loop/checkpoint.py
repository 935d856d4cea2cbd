"""Checkpoints: written atomically with a checksum, loaded without unpickling code.

`weights.{epoch:02d}-{val_loss:.4f}.pt` is written at the end of an epoch, `step.{epoch:02d}-{step:08d}.pt` within one.
A file holds model, optimizer, position in the feed, losses of the epochs and version of the feature index; the rows of
sharded tables are beside it (`shards.py`). What else a run needs follows from the position: schedules are functions of
it, and so are the seeds of shuffling and dropout.
"""

import io
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from conf import UserError
from conf.atomic import read_with_checksum, write_with_checksum
from training.loop.shards import SavedRows, rows_folder

log = logging.getLogger(__name__)

# The loss in the name is what `keep_best` and `load_best` go by, so that choosing one reads no file.
NAME = re.compile(r"weights\.(\d+)-(\d+\.\d+|nan|inf)\.pt")
STEP = re.compile(r"step\.(\d+)-(\d+)\.pt")


def epoch_path(folder: Path, epoch: int, val_loss: float) -> Path:
    """The checkpoint of a whole epoch, from 0; its loss on the validation rows is the smaller the better."""
    return folder / f"weights.{epoch:02d}-{val_loss:.4f}.pt"


def step_path(folder: Path, epoch: int, step: int) -> Path:
    """The checkpoint within an epoch; `step` counts from the start of training."""
    return folder / f"step.{epoch:02d}-{step:08d}.pt"


def save(path: Path, state: dict[str, Any], keep_best: int) -> None:
    """Write the checkpoint of a whole epoch, and remove those that are neither the last nor among the best.

    Args:
        path: as of `epoch_path`, in the run's `checkpoints/`.
        state: what `torch.save` can write and `torch.load(weights_only=True)` can read.
        keep_best: how many stay besides the last.

    Raises:
        UserError: the disk is full or can't be written to; the checkpoints before stay.
    """
    _write(path, state)
    _prune(path.parent, keep_best)


def save_step(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint within an epoch, by its `step_path`.

    The one before it stays, in case this one is damaged. Raises UserError when it can't be written.
    """
    _write(path, state)
    for old in sorted(_matching(path.parent, STEP))[:-2]:  # all are of one epoch, and steps have leading zeros
        _remove(old)


def _write(path: Path, state: dict[str, Any]) -> None:
    # In memory first: the checksum is of the whole file, and a half-written one must never have the name.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with disk_errors(path):
        write_with_checksum(path, buffer.getvalue())


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Around the writing of a checkpoint, or of files beside it: an error of the disk becomes a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"can't write checkpoint {path.name}: {error.strerror}; the last good one stays, go on with --resume"
        ) from None


def saved_rows(path: Path, state: dict[str, Any]) -> SavedRows:
    """The rows of sharded tables that a checkpoint has in files beside it."""
    return SavedRows(path, state.get("rows", ()))


def load_newest(folder: Path) -> tuple[dict[str, Any], SavedRows] | None:
    """State of the newest whole checkpoint, of an epoch or within one, and its rows; None when the folder has none.

    A corrupt one is named in the log, and the one before it is loaded: better some steps again than none.
    """
    for path in sorted(_matching(folder, NAME, STEP), key=_progress, reverse=True):
        state = load(path)
        if state is not None:
            return state, saved_rows(path, state)
        log.warning("checkpoint %s is corrupt: loading the one before", path)
    return None


def load(path: Path) -> dict[str, Any] | None:
    """State of one checkpoint, on the CPU whatever device wrote it; None when its checksum does not fit.

    So it is when a file of its tables' rows is gone or damaged.
    """
    try:
        data = read_with_checksum(path)
    except UserError:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return state if saved_rows(path, state).is_whole() else None


def load_best(folder: Path) -> tuple[dict[str, Any], SavedRows] | None:
    """State and rows of the whole checkpoint with the smallest validation loss; None when there is none.

    A corrupt one is named in the log, and the next best is loaded. Checkpoints within an epoch have no loss.
    """
    for path in sorted(_matching(folder, NAME), key=_loss):
        state = load(path)
        if state is not None:
            return state, saved_rows(path, state)
        log.warning("checkpoint %s is corrupt: loading the next best", path)
    return None


def _prune(folder: Path, keep_best: int) -> None:
    checkpoints = _matching(folder, NAME)
    last = max(checkpoints, key=_progress)
    keep = {last, *sorted(checkpoints, key=_loss)[:keep_best]}
    # Checkpoints within the epoch go as well: that of the epoch's end is newer.
    for path in _matching(folder, NAME, STEP):
        if path not in keep:
            _remove(path)
    for rows in folder.glob("*.rows"):  # of a save that was killed before the checkpoint's own file was there
        if not rows.with_suffix(".pt").exists():
            shutil.rmtree(rows)


def _remove(path: Path) -> None:
    path.unlink()
    shutil.rmtree(rows_folder(path), ignore_errors=True)  # most have none


def _matching(folder: Path, *patterns: re.Pattern[str]) -> list[Path]:
    """The checkpoints in `folder` whose names match one of `patterns`, in no order."""
    return [path for path in folder.glob("*.pt") if any(pattern.fullmatch(path.name) for pattern in patterns)]


def _progress(path: Path) -> tuple[int, float]:
    """Epoch and step; the end of an epoch is after all its steps."""
    if match := STEP.fullmatch(path.name):
        return int(match[1]), float(match[2])
    return int(NAME.fullmatch(path.name)[1]), float("inf")  # type: ignore[index]


def _loss(path: Path) -> float:
    return float(NAME.fullmatch(path.name)[2])  # type: ignore[index]
