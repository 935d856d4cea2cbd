"""Checkpoints: written atomically with a checksum, loaded without unpickling code.

`weights.{epoch:02d}-{val_loss:.4f}.pt` is written at the end of an epoch, `step.{epoch:02d}-{step:08d}.pt` within one.
A file holds model, optimizer, position in the feed, losses of the epochs and version of the feature index. What else a
run needs follows from the position: schedules are functions of it, and so are the seeds of shuffling and dropout.
"""

import io
import logging
import re
from pathlib import Path
from typing import Any

import torch

from conf import UserError
from conf.atomic import read_with_checksum, write_with_checksum

log = logging.getLogger(__name__)

# The loss in the name is what `keep_best` and `load_best` go by, so that choosing one reads no file.
NAME = re.compile(r"weights\.(\d+)-(\d+\.\d+|nan|inf)\.pt")
STEP = re.compile(r"step\.(\d+)-(\d+)\.pt")


def save(folder: Path, epoch: int, val_loss: float, state: dict[str, Any], keep_best: int) -> Path:
    """Write the checkpoint of a whole epoch, and remove those that are neither the last nor among the best.

    Args:
        folder: the run's `checkpoints/`.
        epoch: number of the epoch, from 0.
        val_loss: loss on the validation rows, the smaller the better.
        state: what `torch.save` can write and `torch.load(weights_only=True)` can read.
        keep_best: how many stay besides the last.

    Raises:
        UserError: the disk is full or can't be written to; the checkpoints before stay.
    """
    path = folder / f"weights.{epoch:02d}-{val_loss:.4f}.pt"
    _write(path, state)
    _prune(folder, keep_best)
    return path


def save_step(folder: Path, epoch: int, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint within an epoch; `step` counts from the start of training.

    The one before it stays, in case this one is damaged. Raises UserError when it can't be written.
    """
    path = folder / f"step.{epoch:02d}-{step:08d}.pt"
    _write(path, state)
    for old in sorted(_matching(folder, STEP))[:-2]:  # all are of one epoch, and steps have leading zeros
        old.unlink()
    return path


def _write(path: Path, state: dict[str, Any]) -> None:
    # In memory first: the checksum is of the whole file, and a half-written one must never have the name.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        write_with_checksum(path, buffer.getvalue())
    except OSError as error:
        raise UserError(
            f"can't write checkpoint {path.name}: {error.strerror}; the last good one stays, go on with --resume"
        ) from None


def load_newest(folder: Path) -> dict[str, Any] | None:
    """State of the newest whole checkpoint, of an epoch or within one; None when the folder has none.

    A corrupt one is named in the log, and the one before it is loaded: better some steps again than none.
    """
    for path in sorted(_matching(folder, NAME, STEP), key=_progress, reverse=True):
        state = load(path)
        if state is not None:
            return state
        log.warning("checkpoint %s is corrupt: loading the one before", path)
    return None


def load(path: Path) -> dict[str, Any] | None:
    """State of one checkpoint, on the CPU whatever device wrote it; None when its checksum does not fit."""
    try:
        data = read_with_checksum(path)
    except UserError:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return state


def load_best(folder: Path) -> dict[str, Any] | None:
    """State of the whole checkpoint with the smallest validation loss; None when there is none.

    A corrupt one is named in the log, and the next best is loaded. Checkpoints within an epoch have no loss.
    """
    for path in sorted(_matching(folder, NAME), key=_loss):
        state = load(path)
        if state is not None:
            return state
        log.warning("checkpoint %s is corrupt: loading the next best", path)
    return None


def _prune(folder: Path, keep_best: int) -> None:
    checkpoints = _matching(folder, NAME)
    last = max(checkpoints, key=_progress)
    keep = {last, *sorted(checkpoints, key=_loss)[:keep_best]}
    # Checkpoints within the epoch go as well: that of the epoch's end is newer.
    for path in _matching(folder, NAME, STEP):
        if path not in keep:
            path.unlink()


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
