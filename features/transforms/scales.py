"""What `Dense(scale=…)` may name: x becomes (x − offset) / divisor, both aggregates of the training rows."""

from collections.abc import Callable

from pyspark.sql import Column
from pyspark.sql import functions as F

Aggregate = Callable[[Column], Column]

# Name -> (offset, divisor). They are kept as `mean` and `deviation` of TrainingStatistics.
SCALES: dict[str, tuple[Aggregate, Aggregate]] = {
    "standardise": (F.avg, F.stddev_pop),
    "min_max": (F.min, lambda x: F.max(x) - F.min(x)),  # training rows to 0 … 1
    "symmetric": (lambda x: (F.max(x) + F.min(x)) / 2, lambda x: (F.max(x) - F.min(x)) / 2),  # to −1 … 1
    "none": (lambda _: F.lit(0.0), lambda _: F.lit(1.0)),
}
