"""Hashes of categorical values as Spark computes them, without Spark."""

from collections.abc import Callable
from typing import Any

import xxhash

SPARK_SEED = 42  # of Spark's xxhash64


def hash_bucket(feature_index: int, value: object, buckets: int) -> int:
    """Spark's pmod(xxhash64(index, text), buckets − 1) + 1; bucket 0 is for missing values.

    Spark chains the hashes of several columns: each seeds the next.

    Args:
        feature_index: seeds the hash, so that equal values of two features get different buckets.
        value: hashed as text.
        buckets: size of the feature's id range, bucket 0 included.
    """
    return bucket_hasher(feature_index, buckets)(value)


def bucket_hasher(feature_index: int, buckets: int) -> Callable[[Any], int]:
    """`hash_bucket` of one feature, for many values: its seed is computed once; None has bucket 0."""
    seed = xxhash.xxh64_intdigest(feature_index.to_bytes(4, "little"), SPARK_SEED)

    def bucket(value: Any) -> int:
        if value is None:
            return 0
        unsigned = xxhash.xxh64_intdigest(str(value).encode(), seed)
        signed = unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned  # Spark's bigint
        return signed % (buckets - 1) + 1

    return bucket
