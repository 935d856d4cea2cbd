"""Which features a model holds (McMahan et al. 2013, section 4.1): rare ones cost memory and are worth little.

Poisson inclusion lets a new feature in with probability p at each sight of it; counting-Bloom inclusion at its n-th
sight, as counted by a Bloom filter (too early now and then, never too late). Ids become rows of the model's tables in
the order in which they are let in.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.fine.ftrl import draw, jit
from recsys.settings import FMSettings

HASHES = 3
EMPTY = -1


@jit
def _hash(value, salt):  # type: ignore[no-untyped-def]
    """SplitMix64's finaliser."""
    x = np.uint64(value) + np.uint64(salt + 1) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit
def _slot(keys, feature):  # type: ignore[no-untyped-def]
    """Place of `feature` in an open-addressed table of 2^n keys, or the free place where it would go."""
    mask = np.uint64(len(keys) - 1)
    at = _hash(feature, 0) & mask
    while keys[at] != EMPTY and keys[at] != feature:
        at = (at + np.uint64(1)) & mask
    return at


@jit
def _find(index, keys, numbers, out):  # type: ignore[no-untyped-def]
    for place in range(len(index)):
        at = _slot(keys, index[place])
        out[place] = numbers[at] if keys[at] != EMPTY else -1


@jit
def _admit(index, keys, numbers, size, room, p, counts, threshold, state, out):  # type: ignore[no-untyped-def]
    """Go on until the end or until `room` features are held; returns (places done, features held)."""
    for place in range(len(index)):
        feature = index[place]
        at = _slot(keys, feature)
        if keys[at] != EMPTY:
            out[place] = numbers[at]
            continue
        if size == room:
            return place, size
        if len(counts):
            least = np.uint8(255)
            for salt in range(HASHES):
                cell = _hash(feature, salt + 1) & np.uint64(len(counts) - 1)
                if counts[cell] < 255:
                    counts[cell] += np.uint8(1)
                least = min(least, counts[cell])
            is_let_in = least >= threshold
        else:
            is_let_in = draw(state) < p
        out[place] = -1
        if is_let_in:
            keys[at], numbers[at], out[place] = feature, size, size
            size += 1
    return len(index), size


class Inclusion:
    """A growing map from feature ids to rows of the model's tables."""

    def __init__(self, *, probability: float = 1.0, threshold: int = 0, bloom_bits: int = 20, seed: int = 7) -> None:
        self.probability = np.float32(probability)
        self.threshold = threshold
        self.num_features = 0
        self._counts = np.zeros(1 << bloom_bits if threshold else 0, np.uint8)
        self._draw = np.array([seed * 2 + 1], np.uint32)
        self._set_keys(1 << 12)

    def admit(self, index: NDArray[np.integer]) -> NDArray[np.int32]:
        """Row of each feature in its turn, −1 for one that is not let in (yet)."""
        index = index.astype(np.int64, copy=False)
        out = np.empty(len(index), np.int32)
        done = 0
        while done < len(index):
            # Half full at most, so that looking up stays short.
            places, self.num_features = _admit(
                index[done:], self._keys, self._numbers, self.num_features, len(self._keys) // 2, self.probability,
                self._counts, self.threshold, self._draw, out[done:],
            )  # fmt: skip
            done += places
            if done < len(index):
                self._double()
        return out

    def find(self, index: NDArray[np.integer]) -> NDArray[np.int32]:
        """Row of each feature, −1 for one that the model does not hold."""
        out = np.empty(len(index), np.int32)
        _find(index.astype(np.int64, copy=False), self._keys, self._numbers, out)
        return out

    def state(self) -> dict[str, NDArray[Any]]:
        """What `restore` needs."""
        order = np.argsort(self._numbers[self._keys != EMPTY])
        return {"features": self._keys[self._keys != EMPTY][order], "counts": self._counts, "draw": self._draw}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Take up a saved state."""
        features = state["features"]
        self._counts, self._draw = state["counts"], state["draw"]
        self.num_features = len(features)
        self._set_keys(1 << max(12, int(np.ceil(np.log2(max(len(features), 1) * 2 + 1)))))
        self._enter(features, np.arange(len(features), dtype=np.int32))

    def _double(self) -> None:
        keys, numbers = self._keys, self._numbers
        self._set_keys(2 * len(keys))
        self._enter(keys[keys != EMPTY], numbers[keys != EMPTY])

    def _set_keys(self, size: int) -> None:
        self._keys = np.full(size, EMPTY, np.int64)
        self._numbers = np.zeros(size, np.int32)

    def _enter(self, features: NDArray[np.int64], numbers: NDArray[np.int32]) -> None:
        _enter(features, numbers, self._keys, self._numbers)


@jit
def _enter(features, numbers, keys, places):  # type: ignore[no-untyped-def]
    for i in range(len(features)):
        at = _slot(keys, features[i])
        keys[at], places[at] = features[i], numbers[i]


def inclusion_of(settings: FMSettings) -> Inclusion | None:
    """As the settings say; None when ids are rows of the tables themselves."""
    if settings.inclusion == "all":
        return None
    if settings.inclusion == "poisson":
        return Inclusion(probability=settings.inclusion_probability, seed=settings.seed)
    return Inclusion(threshold=settings.inclusion_count, bloom_bits=settings.bloom_bits, seed=settings.seed)
