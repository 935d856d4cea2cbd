"""Which features a model includes (McMahan et al. 2013, section 4.1): rare ones cost memory and are worth little.

Poisson inclusion includes a new feature with probability p at each occurrence; Bloom-filter inclusion at its n-th
occurrence, as counted by a counting Bloom filter (too early now and then, never too late). Features become rows of the
model's tables in the order of their inclusion.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.fine.ftrl import jit, next_uniform
from recsys.settings import FMSettings

NUM_HASHES = 3  # of the Bloom filter
EMPTY = -1
MIN_SLOTS = 1 << 12


@jit
def _hash(value, salt):  # type: ignore[no-untyped-def]
    """SplitMix64's finaliser."""
    x = np.uint64(value) + np.uint64(salt + 1) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit
def _find_slot(slots, feature):  # type: ignore[no-untyped-def]
    """Slot of `feature` in an open-addressed table of 2^n slots, or the empty slot where it would go."""
    mask = np.uint64(len(slots) - 1)
    slot = _hash(feature, 0) & mask
    while slots[slot] != EMPTY and slots[slot] != feature:
        slot = (slot + np.uint64(1)) & mask
    return slot


@jit
def _lookup(index, slots, rows, out):  # type: ignore[no-untyped-def]
    for entry in range(len(index)):
        slot = _find_slot(slots, index[entry])
        out[entry] = rows[slot] if slots[slot] != EMPTY else -1


@jit
def _allocate(index, slots, rows, size, max_size, p, counts, threshold, random_state, out):  # type: ignore[no-untyped-def]
    """Continue to the end or until `max_size` features are included; returns (entries done, features included)."""
    for entry in range(len(index)):
        feature = index[entry]
        slot = _find_slot(slots, feature)
        if slots[slot] != EMPTY:
            out[entry] = rows[slot]
            continue
        if size == max_size:
            return entry, size
        if len(counts):
            # The least of a feature's counters is nearest to its count: others share more of theirs.
            least = np.uint8(255)
            for salt in range(NUM_HASHES):
                counter = _hash(feature, salt + 1) & np.uint64(len(counts) - 1)
                if counts[counter] < 255:  # a byte must not wrap around to 0
                    counts[counter] += np.uint8(1)
                least = min(least, counts[counter])
            is_included = least >= threshold
        else:
            is_included = next_uniform(random_state) < p
        out[entry] = -1
        if is_included:
            slots[slot], rows[slot], out[entry] = feature, size, size
            size += 1
    return len(index), size


@jit
def _insert(features, feature_rows, slots, rows):  # type: ignore[no-untyped-def]
    for i in range(len(features)):
        slot = _find_slot(slots, features[i])
        slots[slot], rows[slot] = features[i], feature_rows[i]


class Inclusion:
    """A growing hash map from feature ids to rows of the model's tables."""

    def __init__(self, *, probability: float = 1.0, threshold: int = 0, bloom_bits: int = 20, seed: int = 7) -> None:
        """Create an empty map.

        Args:
            probability: Poisson inclusion, when there is no threshold.
            threshold: Bloom-filter inclusion: the occurrence that includes a feature; 0 for Poisson inclusion.
            bloom_bits: the filter has 2^bloom_bits one-byte counters.
            seed: of the Poisson draws.
        """
        self.probability = np.float32(probability)
        self.threshold = threshold
        self.num_features = 0
        self._counts = np.zeros(1 << bloom_bits if threshold else 0, np.uint8)
        self._random_state = np.array([seed * 2 + 1], np.uint32)  # never 0, where xorshift would stay
        self._create_slots(MIN_SLOTS)

    def allocate(self, index: NDArray[np.integer]) -> NDArray[np.int32]:
        """Count the occurrences of features, in order, and include those whose turn it is.

        Args:
            index: (entries,) feature ids.

        Returns:
            (entries,) the row of each feature, −1 for one that is not included (yet).
        """
        index = index.astype(np.int64, copy=False)
        out = np.empty(len(index), np.int32)
        start = 0
        while start < len(index):
            # At most half full, so that probing stays short.
            num_done, self.num_features = _allocate(
                index[start:], self._slots, self._rows, self.num_features, len(self._slots) // 2, self.probability,
                self._counts, self.threshold, self._random_state, out[start:],
            )  # fmt: skip
            start += num_done
            if start < len(index):
                self._double()
        return out

    def lookup(self, index: NDArray[np.integer]) -> NDArray[np.int32]:
        """Row of each feature (entries,), −1 for one that is not included; counts nothing."""
        out = np.empty(len(index), np.int32)
        _lookup(index.astype(np.int64, copy=False), self._slots, self._rows, out)
        return out

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays to save, from which `restore` continues: features by row, counters, state of the random draws."""
        is_used = self._slots != EMPTY
        order = np.argsort(self._rows[is_used])
        return {"features": self._slots[is_used][order], "counts": self._counts, "draw": self._random_state}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from a saved `state`."""
        features = state["features"]
        self._counts, self._random_state = state["counts"], state["draw"]
        self.num_features = len(features)
        num_slots = 1 << int(np.ceil(np.log2(max(len(features), 1) * 2 + 1)))
        self._create_slots(max(MIN_SLOTS, num_slots))
        _insert(features, np.arange(len(features), dtype=np.int32), self._slots, self._rows)

    def _double(self) -> None:
        slots, rows = self._slots, self._rows
        is_used = slots != EMPTY
        self._create_slots(2 * len(slots))
        _insert(slots[is_used], rows[is_used], self._slots, self._rows)

    def _create_slots(self, size: int) -> None:
        self._slots = np.full(size, EMPTY, np.int64)  # feature ids
        self._rows = np.zeros(size, np.int32)


def build_inclusion(settings: FMSettings) -> Inclusion | None:
    """Build the inclusion that `fm.inclusion` names; None for "all", where ids are the rows of the tables."""
    if settings.inclusion == "all":
        return None
    if settings.inclusion == "poisson":
        return Inclusion(probability=settings.inclusion_probability, seed=settings.seed)
    return Inclusion(threshold=settings.inclusion_count, bloom_bits=settings.bloom_bits, seed=settings.seed)
