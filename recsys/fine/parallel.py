"""Training on several threads without locks (Hogwild, Niu et al. 2011): blocks of rows side by side on one table.

Threads that write the same row of the table wait for one another's cache lines. Most features are rare and never meet;
a few (the device, the first position of a list) are in every other example. Each thread has copies of these, and of w0,
during a block, and what it changed is added afterwards.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from recsys.fine.csr import Csr
from recsys.fine.deltas import apply_delta
from recsys.fine.fm import OnlineFM
from recsys.fine.ftrl import jit

BLOCK_ROWS = 8192  # most rows that a thread trains on before the others see what changed for the frequent features
MIN_BLOCKS = 32  # or small data would be trained on stale state
MIN_SHARE = 0.002  # of the examples, above which a feature is frequent
MAX_FREQUENT = 1024
SAMPLE_SIZE = 100_000  # entries of the index that are counted to find frequent features


def partial_fit_threads(
    model: OnlineFM,
    rows: Csr,
    label: NDArray[np.float32],
    weight: NDArray[np.float32] | None = None,
    *,
    threads: int,
) -> NDArray[np.float32]:
    """Train a model as `OnlineFM.partial_fit` does, with blocks side by side: as good, but not bit-identical.

    Takes and returns what `OnlineFM.partial_fit` does; `threads` share the work, since the kernels release the GIL.

    Raises:
        ValueError: shapes, ids or values that the kernels can't take.
    """
    rows, weight = model.prepare(rows, label, weight)
    size, frequent = model.size, frequent_features(rows)
    position = np.full(size, -1, np.int16)  # of a feature among the frequent ones
    position[frequent] = np.arange(len(frequent))
    out = np.empty(len(label), np.float32)
    length = min(BLOCK_ROWS, max(len(label) // MIN_BLOCKS, 1))
    lock, slots = threading.Lock(), SimpleQueue[int]()
    for slot in range(threads):
        slots.put(slot)
    # The copies of each slot lie behind the table, so that the kernels see one array.
    copies = np.zeros(threads * len(frequent), np.int64)
    tables = {name: np.concatenate([table, table[copies]]) for name, table in model.arrays().items()}

    def fit_block(start: int) -> None:
        slot = slots.get()
        block, first_copy = slice(start, start + length), size + slot * len(frequent)
        own = slice(first_copy, first_copy + len(frequent))
        with lock:
            for table in tables.values():
                table[own] = table[frequent]
            bias = model.bias.copy()
            before = {name: table[frequent] for name, table in tables.items()} | {"bias": bias.copy()}
        part = rows[block].with_index(_redirect(rows[block].index, position, first_copy))
        random_state = np.array([(model.settings.seed * 2 + 1) * (start + 1)], np.uint32)
        try:
            model.run_kernel(part, label[block], weight[block], bias, random_state, out[block])
            with lock:
                for name, table in tables.items():
                    table[frequent] = apply_delta(name, table[frequent], before[name], table[own])
                model.bias[:] = apply_delta("bias", model.bias, before["bias"], bias)
        finally:
            slots.put(slot)

    starts = range(0, len(label), length)
    with ThreadPoolExecutor(threads) as pool:
        for check in [pool.submit(rows[at : at + length].validate, size) for at in starts]:
            check.result()
        model.set_arrays(tables)
        try:
            for future in [pool.submit(fit_block, at) for at in starts]:
                future.result()
        finally:
            model.set_arrays({name: table[:size] for name, table in tables.items()})
    return out


def frequent_features(rows: Csr) -> NDArray[np.int64]:
    """Ids of the features in more than MIN_SHARE of the first examples: the MAX_FREQUENT most frequent ones."""
    sample = rows.index[:SAMPLE_SIZE]
    num_examples = max(int(np.searchsorted(rows.indptr, len(sample))), 1)
    counts = np.bincount(sample[sample >= 0])
    frequent = np.flatnonzero(counts > num_examples * MIN_SHARE)
    return frequent[np.argsort(-counts[frequent], kind="stable")[:MAX_FREQUENT]]


@jit
def _redirect(index, position, first_copy):  # type: ignore[no-untyped-def]
    """`index` with frequent features replaced by a thread's copies of them."""
    out = np.empty_like(index)
    for entry in range(len(index)):
        i = index[entry]
        out[entry] = i
        if i >= 0 and position[i] >= 0:
            out[entry] = first_copy + position[i]
    return out
