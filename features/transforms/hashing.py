"""Hashes of categorical values as Spark computes them, without Spark."""

import re
from collections.abc import Callable
from typing import Any

import xxhash

SPARK_SEED = 42  # of Spark's xxhash64
NUMBER = r"(0|[1-9][0-9]{0,7})"
"""Texts that are ids themselves, in what Python and Java read alike; others, as 007, are hashed."""


def hash_bucket(feature_index: int, value: object, buckets: int, is_number: bool = False) -> int:
    """Spark's pmod(xxhash64(index, text), buckets − 1) + 1; bucket 0 is for missing values.

    Spark chains the hashes of several columns: each seeds the next.

    Args:
        feature_index: seeds the hash, so that equal values of two features get different buckets.
        value: hashed as text.
        buckets: size of the feature's id range, bucket 0 included.
        is_number: whether whole numbers below `buckets` − 1 are ids themselves, plus 1; others are hashed.
    """
    return bucket_hasher(feature_index, buckets, is_number)(value)


def slot_of(text: str, slots: int) -> int:
    """Spark's pmod(xxhash64(text), slots)."""
    unsigned = xxhash.xxh64_intdigest(text.encode(), SPARK_SEED)
    return (unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned) % slots


def bucket_hasher(feature_index: int, buckets: int, is_number: bool = False) -> Callable[[Any], int]:
    """`hash_bucket` of one feature, for many values: its seed is computed once; None has bucket 0."""
    seed = xxhash.xxh64_intdigest(feature_index.to_bytes(4, "little"), SPARK_SEED)

    def bucket(value: Any) -> int:
        if value is None:
            return 0
        unsigned = xxhash.xxh64_intdigest(str(value).encode(), seed)
        signed = unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned  # Spark's bigint
        return signed % (buckets - 1) + 1

    def number_bucket(value: Any) -> int:
        text = str(value)
        is_id = re.fullmatch(NUMBER, text) is not None and int(text) < buckets - 1
        return int(text) + 1 if is_id else bucket(value)

    return number_bucket if is_number else bucket
