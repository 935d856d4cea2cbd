"""Checkpoints: `weights.{epoch:02d}-{val_loss:.4f}.pt`, atomic, checksummed, loaded without unpickling code."""

import io
import logging
import re
from pathlib import Path
from typing import Any

import torch

from conf import UserError
from conf.atomic import read_checked, write_checked

log = logging.getLogger(__name__)

NAME = re.compile(r"weights\.(\d+)-(\d+\.\d+)\.pt")


def save(folder: Path, epoch: int, val_loss: float, state: dict[str, Any], keep_best: int) -> Path:
    """Write one checkpoint and remove those that are neither the last nor among the `keep_best` best.

    The file is whole or not there, with a checksum.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = folder / f"weights.{epoch:02d}-{val_loss:.4f}.pt"
    write_checked(path, buffer.getvalue())
    _prune(folder, keep_best)
    return path


def load_newest(folder: Path) -> dict[str, Any] | None:
    """State of the newest checkpoint that is whole; a corrupt one is named and the one before it taken."""
    for path in sorted(_all(folder), key=_epoch, reverse=True):
        state = load(path)
        if state is not None:
            return state
        log.warning("checkpoint %s is corrupt: taking the one before", path)
    return None


def load(path: Path) -> dict[str, Any] | None:
    """State of one checkpoint; None when its checksum does not fit."""
    try:
        data = read_checked(path)
    except UserError:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
    return state


def best(folder: Path) -> Path | None:
    """The checkpoint with the smallest validation loss."""
    return min(_all(folder), key=_loss, default=None)


def _prune(folder: Path, keep_best: int) -> None:
    found = _all(folder)
    last = max(found, key=_epoch)
    keep = {last, *sorted(found, key=_loss)[:keep_best]}
    for path in found:
        if path not in keep:
            path.unlink()


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.glob("weights.*.pt") if NAME.fullmatch(path.name)]


def _epoch(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[1])  # type: ignore[index]


def _loss(path: Path) -> float:
    return float(NAME.fullmatch(path.name)[2])  # type: ignore[index]
