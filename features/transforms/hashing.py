"""Hashes as Spark computes them, without Spark."""

import xxhash

SEED = 42  # Spark's, for xxhash64


def bucket(index: int, value: object, buckets: int) -> int:
    """pmod(xxhash64(index, text), buckets − 1) + 1, as Spark computes it: each value's hash seeds the next."""
    first = xxhash.xxh64_intdigest(index.to_bytes(4, "little"), SEED)
    hashed = xxhash.xxh64_intdigest(str(value).encode(), first)
    signed = hashed - (1 << 64) if hashed >= 1 << 63 else hashed
    return signed % (buckets - 1) + 1
