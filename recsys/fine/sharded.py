"""The FM beyond one machine: rows of its table spread over Ray actors, workers that stream partitions of the examples.

Feature i lives in shard i mod n; ids are hashes, so shards fill evenly. A worker takes a block of examples, pulls the
state of the features in it, trains on the block in order with the kernels of `ftrl.py`, and pushes what changed. One
worker so learns just what one process would; several train side by side on state that is a block old (parameter server,
Li et al. 2014). A shard writes a snapshot every so many pushes; one that dies is started again from it, by Ray.
"""

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from conf.atomic import read_with_checksum, write_with_checksum
from recsys.fine.csr import Csr
from recsys.fine.deltas import apply_delta
from recsys.fine.fm import OnlineFM
from recsys.settings import FMSettings

# Restart for ever, and repeat the calls that a death interrupted; no core, since an actor mostly waits.
ACTOR_OPTIONS = {"max_restarts": -1, "max_task_retries": -1, "num_cpus": 0}


class Examples(NamedTuple):
    """What a worker trains on."""

    rows: Csr
    label: NDArray[np.float32]  # (rows,)
    weight: NDArray[np.float32]  # (rows,) 0 leaves a row out


class ShardState(NamedTuple):
    """Tables of some features, and the bias, which shard 0 alone owns."""

    linear: NDArray[np.float32]  # (features, 2)
    v: NDArray[np.float32]  # (features, width)
    s: NDArray[np.float32]  # (features, width)
    bias: NDArray[np.float32]  # (1, 2)


class Shard:
    """An actor with the features number, number + shards, number + 2·shards … of a model."""

    def __init__(self, path: Path, snapshot_every: int) -> None:
        """Start from the snapshot at `path`: the driver's, or, when restarted by Ray, the actor's own last one."""
        self._path, self._snapshot_every = path, snapshot_every
        with np.load(io.BytesIO(read_with_checksum(path)), allow_pickle=False) as file:
            self._state = ShardState(*(file[name].copy() for name in ShardState._fields))
            self.pushes = int(file["pushes"])

    def pull(self, rows: NDArray[np.int64]) -> ShardState:
        """Copy the state of rows (features,) of this shard."""
        state = self._state
        return ShardState(state.linear[rows], state.v[rows], state.s[rows], state.bias.copy())

    def push(self, rows: NDArray[np.int64], before: ShardState, after: ShardState) -> None:
        """Add what a worker's block changed in rows (features,): see `apply_delta`."""
        # Before anything changes: if this call dies and Ray repeats it, it counts once.
        if self.pushes and self.pushes % self._snapshot_every == 0:
            _write_snapshot(self._path, self._state, self.pushes)
        for name, table in self._state._asdict().items():
            part = slice(None) if name == "bias" else rows
            table[part] = apply_delta(name, table[part], getattr(before, name), getattr(after, name))
        self.pushes += 1

    def state(self) -> tuple[ShardState, int]:
        """The state of all rows, and the number of pushes that are in it."""
        return self._state, self.pushes


class ShardedFM:
    """An FM whose table lives in `fm.shards` actors; get one from `sharded`, which also ends it."""

    def __init__(self, model: OnlineFM, snapshots: Path) -> None:
        """Start the actors from the state of `model`. Ray must be running.

        Args:
            model: the model to continue from.
            snapshots: folder that driver and actors can reach.

        Raises:
            UserError: settings that shards do not support.
        """
        import ray

        settings = model.settings
        if settings.inclusion != "all" or settings.weights != "float32":
            raise UserError("fm.shards works with fm.inclusion=all and fm.weights=float32")
        snapshots.mkdir(parents=True, exist_ok=True)
        self.settings, self._fields = settings, model.fields
        actor = ray.remote(Shard).options(**ACTOR_OPTIONS)
        self.shards = []
        for number in range(settings.shards):
            part = slice(number, None, settings.shards)
            path = snapshots / f"shard-{number}.npz"
            _write_snapshot(path, ShardState(model.linear[part], model.v[part], model.s[part], model.bias), 0)
            self.shards.append(actor.remote(path, settings.snapshot_every))
        ray.get([shard.__ray_ready__.remote() for shard in self.shards])

    def partial_fit(self, partitions: Sequence[Callable[[], Examples]], workers: int) -> list[NDArray[np.float32]]:
        """Train on partitions in order, `workers` of them at a time.

        A worker that dies is an error: what it pushed stays, and to train on the rest again would count it twice.

        Args:
            partitions: called in the worker, so that each may read its own file.
            workers: Ray tasks at a time; with one the result is that of one process.

        Returns:
            For each partition (rows,) the predictions before each row was learned from; NaN for rows that are left out.

        Raises:
            ValueError: ids or values that the kernels can't take.
        """
        import ray

        task = ray.remote(max_retries=0)(fit_partition)
        pending, results = dict(enumerate(partitions)), {}
        running: dict[Any, int] = {}
        while pending or running:
            # The oldest partition first, as online learning follows time.
            while pending and len(running) < workers:
                number = min(pending)
                running[task.remote(pending.pop(number), self.settings, self._fields, self.shards)] = number
            finished, _ = ray.wait(list(running))
            for reference in finished:
                results[running.pop(reference)] = ray.get(reference)
        return [results[number] for number in range(len(partitions))]

    def to_model(self) -> OnlineFM:
        """Collect the whole table into one model in this process, to predict with and to save."""
        import ray

        states = [state for state, _ in ray.get([shard.state.remote() for shard in self.shards])]
        owner = np.arange(1 << self.settings.bits) % len(states)
        return _assemble(self.settings, self._fields, owner, dict(enumerate(states)))

    def pushes(self) -> list[int]:
        """Number of blocks that are in the state of each shard."""
        import ray

        return [ray.get(shard.state.remote())[1] for shard in self.shards]


@contextmanager
def sharded(model: OnlineFM, snapshots: Path) -> Iterator[ShardedFM]:
    """Spread a model over actors; they and their snapshots end with the block. Takes and raises what ShardedFM does."""
    import ray

    sharded_model = ShardedFM(model, snapshots)
    try:
        yield sharded_model
    finally:
        for shard in sharded_model.shards:
            ray.kill(shard)
        shutil.rmtree(snapshots, ignore_errors=True)


def fit_partition(
    partition: Callable[[], Examples], settings: FMSettings, fields: int, shards: Sequence[Any]
) -> NDArray[np.float32]:
    """Train on one partition, block by block; the task of a worker.

    Args:
        partition: reads the examples.
        settings: the section `fm`.
        fields: number of fields, for a field-aware model.
        shards: handles of the actors.

    Returns:
        (rows,) predictions before each row was learned from; NaN for rows that are left out.

    Raises:
        ValueError: ids or values that the kernels can't take.
    """
    import ray

    rows, label, weight = partition()
    rows.validate(1 << settings.bits)
    out = np.full(len(label), np.nan, np.float32)
    pushes: list[Any] = []
    for start in range(0, len(label), settings.shard_rows):
        stop = min(start + settings.shard_rows, len(label))
        block = rows[start:stop]
        # The block gets tables of its own features only, numbered from 0.
        features, local = np.unique(block.index[block.index >= 0], return_inverse=True)
        owner = features % len(shards)  # (features,) number of the shard
        index = np.full(len(block.index), -1, np.int32)
        index[block.index >= 0] = local
        # The first shard takes part in any case: it has the bias.
        owners = [number for number in range(len(shards)) if number == 0 or (owner == number).any()]
        shard_rows = {number: features[owner == number] // len(shards) for number in owners}
        states = ray.get([shards[number].pull.remote(shard_rows[number]) for number in owners])
        before = dict(zip(owners, states, strict=True))
        model = _assemble(settings, fields, owner, before)
        out[start:stop] = model.partial_fit(block.with_index(index), label[start:stop], weight[start:stop])
        for number in owners:
            own = owner == number
            bias = model.bias if number == 0 else before[number].bias
            after = ShardState(model.linear[own], model.v[own], model.s[own], bias)
            # Calls of one caller run in their order, so the next pull sees this push without waiting for it here.
            pushes.append(shards[number].push.remote(shard_rows[number], before[number], after))
    ray.get(pushes)
    out[weight == 0] = np.nan
    return out


def _assemble(
    settings: FMSettings, fields: int, owner: NDArray[np.integer], states: Mapping[int, ShardState]
) -> OnlineFM:
    """Make one model of features whose shards are `owner` (features,) from each shard's state of its own features."""
    arrays = []
    for name in ("linear", "v", "s"):
        first = getattr(states[0], name)
        whole = np.empty((len(owner), first.shape[1]), first.dtype)
        for number, state in states.items():
            whole[owner == number] = getattr(state, name)
        arrays.append(whole)
    linear, v, s = arrays
    return OnlineFM.from_arrays(settings, fields, linear, v, s, states[0].bias.copy())


def _write_snapshot(path: Path, state: ShardState, pushes: int) -> None:
    """Whole or not at all, with a checksum: an actor may die while it writes."""
    buffer = io.BytesIO()
    np.savez(buffer, pushes=pushes, **state._asdict())
    write_with_checksum(path, buffer.getvalue())
