"""Examples -> feature columns, by the catalog: hashed ids and standardised numbers."""

from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.catalog import COLUMNS, DENSE, Dense, Feature, index_of
from features.counts import Rates, with_counts

LOGGED = "features"  # column of an impression with the values that were computed when it was shown


@dataclass(frozen=True)
class Statistics:
    """What the training rows teach: click rates, and the mean and standard deviation of each dense feature."""

    prior: float = 0.0
    by_position: dict[str, float] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    deviation: dict[str, float] = field(default_factory=dict)

    @property
    def rates(self) -> Rates:
        """As counting wants them."""
        return Rates(self.prior, {int(place): rate for place, rate in self.by_position.items()})

    @classmethod
    def of_rates(cls, rates: Rates) -> "Statistics":
        """Rates alone; scaling comes from `fit`."""
        return cls(rates.prior, {str(place): rate for place, rate in rates.by_position.items()})

    def as_dict(self) -> dict[str, Any]:
        """As JSON keeps them."""
        return dict(vars(self))


def raw_features(
    examples: DataFrame, users: DataFrame, items: DataFrame, known: DataFrame, rates: Rates, prior_strength: float
) -> DataFrame:
    """Add every feature, dense ones not standardised yet, under its name with a leading `f_`.

    `known` are the examples that counts may be taken from. A value that was logged with the impression is used as it
    is.
    """
    user_columns = users.select("user_id", "gender", "age_group", "city")
    item_columns = items.select("item_id", "category", "author", "published_at")
    joined = examples.join(user_columns, on="user_id", how="left").join(
        F.broadcast(item_columns), on="item_id", how="left"
    )
    of_topics = known.join(F.broadcast(item_columns), on="item_id", how="left")
    counted = with_counts(joined, of_topics, rates, prior_strength)
    has_log = LOGGED in examples.columns
    kept = [name for name in examples.columns if name != LOGGED]
    return counted.select(*kept, *[_logged_or(_raw(f), f, has_log).alias(f"f_{f.name}") for f in COLUMNS])


def _raw(feature: Feature) -> Column:
    value = F.expr(feature.source)
    if isinstance(feature, Dense):
        return (F.log1p(value) if feature.transform == "log1p" else value).cast("float")
    # Bucket 0 is for missing values; the index keeps equal values of two features apart.
    hashed = F.pmod(F.xxhash64(F.lit(index_of(feature)), value.cast("string")), F.lit(feature.buckets - 1)) + 1
    return F.when(value.isNull(), F.lit(0)).otherwise(hashed).cast("bigint")


def _logged_or(computed: Column, feature: Feature, has_log: bool) -> Column:
    if not has_log:
        return computed
    logged = F.col(LOGGED)[feature.name].cast("float" if isinstance(feature, Dense) else "bigint")
    return F.coalesce(logged, computed)


def fit(train: DataFrame, rates: Rates) -> Statistics:
    """Statistics from the rows of the training split, and from no others."""
    sums = [
        f(_with_default(feature)).alias(f"{name}_{feature.name}")
        for feature in DENSE
        for name, f in (("m", F.avg), ("d", F.stddev_pop))
    ]
    row = train.agg(*sums).collect()[0]
    mean = {feature.name: float(row[f"m_{feature.name}"] or 0.0) for feature in DENSE}
    deviation = {feature.name: float(row[f"d_{feature.name}"] or 0.0) or 1.0 for feature in DENSE}
    known = Statistics.of_rates(rates)
    return Statistics(known.prior, known.by_position, mean, deviation)


def standardise(rows: DataFrame, statistics: Statistics) -> DataFrame:
    """(x − mean) / deviation for dense features; a missing value becomes its default, or 0, the mean."""
    scaled = {}
    for feature in DENSE:
        value = (_with_default(feature) - statistics.mean[feature.name]) / statistics.deviation[feature.name]
        scaled[f"f_{feature.name}"] = F.coalesce(value, F.lit(0.0)).cast("float")
    return rows.withColumns(scaled)


def _with_default(feature: Dense) -> Column:
    """The value, with NaN and infinity (of a logged value) as missing."""
    value = F.col(f"f_{feature.name}")
    finite = F.when(F.abs(value) < F.lit(float("inf")), value)
    return finite if feature.default is None else F.coalesce(finite, F.lit(feature.default))
