"""Random draws that a rerun repeats: a number for each row, by a hash of what the row is."""

from pyspark.sql import Column
from pyspark.sql import functions as F

STEPS = 1_000_000


def uniform(*columns: Column | str) -> Column:
    """From 0 up to (not including) 1, in steps of a millionth; equal values have equal draws."""
    return F.pmod(F.xxhash64(*columns), F.lit(STEPS)) / STEPS
