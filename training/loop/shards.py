"""Sharded tables in checkpoints: each rank writes its rows beside the file, and any number of ranks reads them.

A checkpoint `weights.00-0.1234.pt` has these rows in `weights.00-0.1234.rows/`, a `.npy` file of each tensor (weights
and the optimizer's moments) and rank. The checkpoint lists them with their checksums and is written last: without one
of them it isn't whole. No rank holds more rows than its own; files are read and written in blocks.
"""

import hashlib
import io
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor, nn
from torch.optim import Optimizer

from conf.atomic import file_digest, staged_file
from training.nn.sharded_embedding import ShardedEmbedding, sharded_modules, sharded_parameters

BLOCK_ROWS = 1 << 16


class RowFile(TypedDict):
    """What a checkpoint lists of a file: plain values, which load without unpickling code."""

    name: str
    sha256: str
    tensor: str
    """`model.<weight>`, or `optimizer.<number>.<slot>`."""
    first_row: int
    num_rows: int
    """Of the whole tensor."""


def rows_folder(checkpoint: Path) -> Path:
    """Where the rows of a checkpoint's sharded tables are."""
    return checkpoint.with_suffix(".rows")


def write_rows(checkpoint: Path, state: dict[str, Any], objective: nn.Module, optimizer: Optimizer) -> list[RowFile]:
    """Take the rows of sharded tables out of a checkpoint's state, and write them; every rank must call it.

    Args:
        checkpoint: path of the checkpoint's own file, which isn't there yet.
        state: `model` and `optimizer` as their `state_dict` gives them; loses these tensors.
        objective: has the tables.
        optimizer: of the objective's weights.

    Returns:
        The files of this rank, for the checkpoint's list.

    Raises:
        OSError: a file can't be written.
    """
    files: list[RowFile] = []
    for tensor, module, rows in _taken(state, objective, optimizer):
        if not module.num_own_rows:
            continue
        name = f"{len(files):03d}-{module.rank}.npy"
        digest = _write_npy(rows_folder(checkpoint) / name, rows[: module.num_own_rows])
        files.append(
            RowFile(name=name, sha256=digest, tensor=tensor, first_row=module.first_row, num_rows=module.num_rows)
        )
    return files


def _taken(
    state: dict[str, Any], objective: nn.Module, optimizer: Optimizer
) -> Iterator[tuple[str, ShardedEmbedding, Tensor]]:
    """Name, table and rows of each sharded tensor, which leaves the state."""
    for name, module in sharded_modules(objective):
        yield f"model.{name}.weight", module, state["model"].pop(f"{name}.weight")
    # Copied: the dicts of `state_dict()` are the optimizer's own, which training goes on with.
    state["optimizer"]["state"] = {number: dict(slots) for number, slots in state["optimizer"]["state"].items()}
    for number, module in sharded_parameters(objective, optimizer):
        slots = state["optimizer"]["state"].get(number, {})
        for slot, value in list(slots.items()):
            if isinstance(value, Tensor) and value.shape == module.weight.shape:
                yield f"optimizer.{number}.{slot}", module, slots.pop(slot)


def _write_npy(path: Path, rows: Tensor) -> str:
    """Write a tensor as numpy does, block by block; returns the SHA-256 of the file."""
    digest, header = hashlib.sha256(), io.BytesIO()
    descr = npy.dtype_to_descr(rows[:0].cpu().numpy().dtype)
    npy.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": tuple(rows.shape)})
    with staged_file(path) as out:
        for data in chain([header.getvalue()], _bytes_by_block(rows.detach())):
            digest.update(data)
            out.write(data)
    return digest.hexdigest()


def _bytes_by_block(rows: Tensor) -> Iterator[bytes]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS].cpu().numpy().tobytes()


class SavedRows:
    """The rows of sharded tables in a checkpoint, of which any part is read; empty for one that has none."""

    def __init__(self, checkpoint: Path, files: Collection[RowFile]) -> None:
        self._folder, self._files = rows_folder(checkpoint), files

    def is_whole(self) -> bool:
        """Whether all files are there with their checksums."""
        return all(_has_digest(self._folder / file["name"], file["sha256"]) for file in self._files)

    def shapes(self) -> dict[str, torch.Size]:
        """Name and shape of each whole tensor."""
        return {file["tensor"]: torch.Size((file["num_rows"], self._array(file).shape[1])) for file in self._files}

    def blocks(self, tensor: str) -> Iterator[tuple[int, Tensor]]:
        """First row and rows of the blocks of a tensor, in no order of ranks."""
        for file in self._files:
            if file["tensor"] == tensor:
                array = self._array(file)
                for start in range(0, len(array), BLOCK_ROWS):
                    yield file["first_row"] + start, torch.from_numpy(np.array(array[start : start + BLOCK_ROWS]))

    def _array(self, file: RowFile) -> np.ndarray:
        array: np.ndarray = np.load(self._folder / file["name"], mmap_mode="r", allow_pickle=False)
        return array


def _has_digest(path: Path, expected: str) -> bool:
    try:
        return file_digest(path) == expected
    except OSError:
        return False


def load_weights(objective: nn.Module, model: dict[str, Tensor], saved: SavedRows) -> None:
    """Load a checkpoint's weights, whatever number of ranks wrote it: this rank takes its rows.

    Args:
        objective: whose tables may be sharded or whole.
        model: `state_dict` of the checkpoint; whole tables, where it has them.
        saved: the tables' rows that it has not.
    """
    state, modules = dict(model), {f"{name}.weight": module for name, module in sharded_modules(objective)}
    own = objective.state_dict()
    for tensor in saved.shapes():
        if tensor.startswith("model."):
            name = tensor.removeprefix("model.")
            _put_rows(saved, tensor, modules.get(name), own[name])  # in place: never twice in memory
            state[name] = own[name]
    for name, module in modules.items():
        if name in model:
            state[name] = module.shard_of(model[name])
    objective.load_state_dict(state)


def optimizer_slots(
    objective: nn.Module, state: dict[str, Any], optimizer: Optimizer, saved: SavedRows
) -> dict[str, Any]:
    """A checkpoint's state of the optimizer with this rank's rows of sharded tables; arguments as of `load_weights`."""
    modules = dict(sharded_parameters(objective, optimizer))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for tensor in saved.shapes():
        if tensor.startswith("optimizer."):
            _, position, slot = tensor.split(".", maxsplit=2)
            number = int(position)
            rows = torch.zeros_like(weights[number])
            _put_rows(saved, tensor, modules.get(number), rows)
            state["state"].setdefault(number, {})[slot] = rows
    for number, module in modules.items():
        slots = state["state"].get(number, {})
        for slot, value in slots.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != module.weight.shape:
                slots[slot] = module.shard_of(value)
    return state


def _put_rows(saved: SavedRows, tensor: str, module: ShardedEmbedding | None, target: Tensor) -> None:
    """Copy the saved rows into a whole table, or those of this rank into its shard."""
    with torch.no_grad():
        for start, block in saved.blocks(tensor):
            if module is None:
                target[start : start + len(block)] = block
            else:
                module.put(start, block, target)


@contextmanager
def whole_tables(model: dict[str, Tensor], saved: SavedRows, folder: Path) -> Iterator[dict[str, Tensor]]:
    """A checkpoint's weights with whole tables, which are files that are mapped, not memory.

    Args:
        model: `state_dict` of the checkpoint.
        saved: the rows of its tables.
        folder: for these files, removed in the end.
    """
    state, paths = dict(model), []
    try:
        for number, (tensor, shape) in enumerate(saved.shapes().items()):
            if not tensor.startswith("model."):
                continue
            paths.append(folder / f".table-{number}")
            with paths[-1].open("wb") as file:  # a full disk would end the process where the mapped file is written
                os.posix_fallocate(file.fileno(), 0, max(shape.numel() * 4, 1))
            table = torch.from_file(str(paths[-1]), shared=True, size=shape.numel()).view(shape)
            _put_rows(saved, tensor, None, table)
            state[tensor.removeprefix("model.")] = table
        yield state
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
