"""The FM beyond one machine: rows of its table spread over Ray actors, workers that stream partitions of the examples.

Feature i lives in shard i mod n; ids are hashes, so shards fill evenly. A worker takes a block of examples, pulls the
state of the features in it, learns the block in order with the kernel of `ftrl.py`, and pushes what changed. One worker
so learns just what one process would; several learn side by side from state that is a block old (parameter server,
Li et al. 2014). A shard writes a snapshot every so many pushes; one that dies is started again from it, by Ray.
"""

import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from conf.atomic import read_with_checksum, write_with_checksum
from recsys.fine.csr import Csr
from recsys.fine.deltas import added
from recsys.fine.fm import FM
from recsys.settings import FMSettings

ALIVE = {"max_restarts": -1, "max_task_retries": -1, "num_cpus": 0}


class Examples(NamedTuple):
    """What a worker learns: `weight` of 0 leaves a row out."""

    rows: Csr
    label: NDArray[np.float32]
    weight: NDArray[np.float32]


class State(NamedTuple):
    """`linear` (n, 2), `v` and `s` (n, width) of n features, and `bias` (1, 2), which shard 0 alone keeps."""

    linear: NDArray[np.float32]
    v: NDArray[np.float32]
    s: NDArray[np.float32]
    bias: NDArray[np.float32]


class Shard:
    """Features `number`, `number + shards`, … of a model; an actor."""

    def __init__(self, path: Path, snapshot_every: int) -> None:
        """From the snapshot at `path`: the one that the driver wrote, or, when started again, its own last one."""
        self._path, self._every = path, snapshot_every
        self._state, self.pushes = _read(path)

    def pull(self, at: NDArray[np.int64]) -> State:
        """State of the rows `at` of this shard."""
        mine = self._state
        return State(mine.linear[at], mine.v[at], mine.s[at], mine.bias.copy())

    def push(self, at: NDArray[np.int64], old: State, new: State) -> None:
        """Add what a worker's block changed: sums for z and v; √n grows by the squares of its own gradients."""
        # Before anything changes: if this call dies and Ray repeats it, it counts once.
        if self.pushes and self.pushes % self._every == 0:
            _write(self._path, self._state, self.pushes)
        for name, table in self._state._asdict().items():
            rows = slice(None) if name == "bias" else at
            table[rows] = added(name, table[rows], getattr(old, name), getattr(new, name))
        self.pushes += 1

    def state(self) -> tuple[State, int]:
        """All rows, and the number of pushes that are in them."""
        return self._state, self.pushes

    def pid(self) -> int:
        """Of the process that it lives in."""
        return os.getpid()


class ShardedFM:
    """An FM whose table lives in `settings.shards` actors; snapshots go to `folder`, which they must all reach."""

    def __init__(self, model: FM, folder: Path) -> None:
        """Start the actors from the state of `model`. Needs a running Ray."""
        import ray

        settings = model.settings
        if settings.inclusion != "all" or settings.weights != "float32":
            raise UserError("fm.shards works with fm.inclusion=all and fm.weights=float32")
        folder.mkdir(parents=True, exist_ok=True)
        self.settings, self._fields = settings, model.fields
        actor = ray.remote(Shard).options(**ALIVE)
        self.shards = []
        for number in range(settings.shards):
            part = slice(number, None, settings.shards)
            path = folder / f"shard-{number}.npz"
            _write(path, State(model.linear[part], model.v[part], model.s[part], model.bias), 0)
            self.shards.append(actor.remote(path, settings.snapshot_every))
        ray.get([shard.__ray_ready__.remote() for shard in self.shards])

    def learn(self, parts: Sequence[Callable[[], Examples]], workers: int) -> list[NDArray[np.float32]]:
        """Learn `parts` in order, `workers` of them at a time; returns what was predicted before each row was learned.

        A part is called in the worker, so it may read its own file. A worker that dies is an error: what it pushed
        stays, and to learn the rest again would count it twice.
        """
        import ray

        work = ray.remote(max_retries=0)(learn_part)
        waiting, results = dict(enumerate(parts)), {}
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < workers:
                number = min(waiting)
                running[work.remote(waiting.pop(number), self.settings, self._fields, self.shards)] = number
            done, _ = ray.wait(list(running))
            for one in done:
                results[running.pop(one)] = ray.get(one)
        return [results[number] for number in range(len(parts))]

    def collect(self) -> FM:
        """The whole table as one model, to score with and to save."""
        import ray

        states = [state for state, _ in ray.get([shard.state.remote() for shard in self.shards])]
        owner = np.arange(1 << self.settings.bits) % len(states)
        return _whole(self.settings, self._fields, owner, dict(enumerate(states)))

    def pushes(self) -> list[int]:
        """Blocks that are in the state of each shard."""
        import ray

        return [ray.get(shard.state.remote())[1] for shard in self.shards]


@contextmanager
def sharded(model: FM, folder: Path) -> Iterator[ShardedFM]:
    """A ShardedFM from `model`; its actors and their snapshots end with the block."""
    import ray

    model_shards = ShardedFM(model, folder)
    try:
        yield model_shards
    finally:
        for shard in model_shards.shards:
            ray.kill(shard)
        shutil.rmtree(folder, ignore_errors=True)


def learn_part(
    part: Callable[[], Examples], settings: FMSettings, fields: int, shards: Sequence[Any]
) -> NDArray[np.float32]:
    """Learn one part, block by block; NaN for rows that are left out."""
    import ray

    rows, label, weight = part()
    rows.check(1 << settings.bits)
    out = np.full(len(label), np.nan, np.float32)
    pushed: list[Any] = []
    for start in range(0, len(label), settings.shard_rows):
        stop = min(start + settings.shard_rows, len(label))
        block = rows[start:stop]
        features, local = np.unique(block.index[block.index >= 0], return_inverse=True)
        owner = features % len(shards)
        index = np.full(len(block.index), -1, np.int32)
        index[block.index >= 0] = local
        # The first shard is always asked: it has the bias.
        owners = [number for number in range(len(shards)) if number == 0 or (owner == number).any()]
        at = {number: features[owner == number] // len(shards) for number in owners}
        pulled = dict(zip(owners, ray.get([shards[number].pull.remote(at[number]) for number in owners]), strict=True))
        model = _whole(settings, fields, owner, pulled)
        out[start:stop] = model.learn(block.with_index(index), label[start:stop], weight[start:stop])
        for number in owners:
            old, mine = pulled[number], owner == number
            bias = model.bias if number == 0 else old.bias
            new = State(model.linear[mine], model.v[mine], model.s[mine], bias)
            # Calls of one caller are done in their order, so the next pull sees this push.
            pushed.append(shards[number].push.remote(at[number], old, new))
    ray.get(pushed)
    out[weight == 0] = np.nan
    return out


def _whole(settings: FMSettings, fields: int, owner: NDArray[np.integer], parts: dict[int, State]) -> FM:
    """One model of features whose shards are `owner`, from the state that each shard has of its own."""
    arrays = []
    for name in ("linear", "v", "s"):
        like = getattr(parts[0], name)
        whole = np.empty((len(owner), like.shape[1]), like.dtype)
        for number, state in parts.items():
            whole[owner == number] = getattr(state, name)
        arrays.append(whole)
    linear, v, s = arrays
    return FM.of_state(settings, fields, linear, v, s, parts[0].bias.copy())


def _write(path: Path, state: State, pushes: int) -> None:
    """Whole or not at all, with a checksum at the end."""
    buffer = io.BytesIO()
    np.savez(buffer, pushes=pushes, **state._asdict())
    write_with_checksum(path, buffer.getvalue())


def _read(path: Path) -> tuple[State, int]:
    with np.load(io.BytesIO(read_with_checksum(path)), allow_pickle=False) as saved:
        return State(*(saved[name].copy() for name in State._fields)), int(saved["pushes"])
