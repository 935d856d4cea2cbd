"""Learning on several cores without locks (Niu et al. 2011): blocks of rows side by side on one table.

Threads that write the same row of the table wait for one another's cache lines. Most rows are rare and never meet; a
few (the phone, the first place of a list) are in every other example. Each thread has copies of these, and of w0,
during a block, and what it changed is added afterwards.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.fine.csr import Csr
from recsys.fine.deltas import added
from recsys.fine.ftrl import jit

if TYPE_CHECKING:
    from recsys.fine.fm import FM

BLOCK = 8192  # rows, at most, that a thread learns before it shows the others what it learned of the frequent features
BLOCKS = 32  # at least so many, or small data would be learned from state that is too old
SHARE, HOT = 0.002, 1024  # threads have copies of features in a larger share of the examples; of so many, at most
SAMPLE = 100_000  # places of the index that are looked at to find them


def learn(
    model: "FM", rows: Csr, label: NDArray[np.float32], weight: NDArray[np.float32], threads: int
) -> NDArray[np.float32]:
    """One pass; returns what was predicted for each row before it was learned from. Not bit-identical."""
    size, hot = model.size, frequent(rows)
    place = np.full(size, -1, np.int16)
    place[hot] = np.arange(len(hot))
    out = np.empty(len(label), np.float32)
    length = min(BLOCK, max(len(label) // BLOCKS, 1))
    lock, slots = threading.Lock(), SimpleQueue[int]()
    for slot in range(threads):
        slots.put(slot)
    # Copies stand behind the table, so that kernels see one array.
    spare = np.zeros(threads * len(hot), np.int64)
    tables = {name: np.concatenate([table, table[spare]]) for name, table in model.arrays().items()}

    def learn_block(start: int) -> None:
        slot = slots.get()
        block, first = slice(start, start + length), size + slot * len(hot)
        own = slice(first, first + len(hot))
        with lock:
            for table in tables.values():
                table[own] = table[hot]
            bias = model.bias.copy()
            before = {name: table[hot] for name, table in tables.items()} | {"bias": bias.copy()}
        mine = rows[block]
        index = np.empty_like(mine.index)
        _with_copies(mine.index, place, first, index)
        draw = np.array([(model.settings.seed * 2 + 1) * (start + 1)], np.uint32)
        try:
            model.learn_rows(mine.with_index(index), label[block], weight[block], bias, draw, out[block])
            with lock:
                for name, table in tables.items():
                    table[hot] = added(name, table[hot], before[name], table[own])
                model.bias[:] = added("bias", model.bias, before["bias"], bias)
        finally:
            slots.put(slot)

    starts = range(0, len(label), length)
    with ThreadPoolExecutor(threads) as pool:
        for checked in [pool.submit(rows[at : at + length].check, size) for at in starts]:
            checked.result()
        model.set_arrays(tables)
        try:
            for done in [pool.submit(learn_block, at) for at in starts]:
                done.result()
        finally:
            model.set_arrays({name: table[:size] for name, table in tables.items()})
    return out


def frequent(rows: Csr) -> NDArray[np.int64]:
    """Ids of the features in more than SHARE of the examples, the HOT most frequent ones."""
    sample = rows.index[:SAMPLE]
    examples = max(int(np.searchsorted(rows.indptr, len(sample))), 1)
    counts = np.bincount(sample[sample >= 0])
    often = np.flatnonzero(counts > examples * SHARE)
    return often[np.argsort(-counts[often], kind="stable")[:HOT]]


@jit
def _with_copies(index, place, first, out):  # type: ignore[no-untyped-def]
    for at in range(len(index)):
        i = index[at]
        out[at] = i
        if i >= 0 and place[i] >= 0:
            out[at] = first + place[i]
