"""Examples -> feature columns, by the catalog: hashed ids and standardised numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.catalog import COLUMNS, DENSE, SPARSE, Dense, Feature, Sparse, index_of
from features.counts.engagement import with_history
from features.counts.known import Rates, with_counts
from features.settings import FeatureSettings
from features.transforms import Vocabulary, on_spark

ITEM = next(feature for feature in SPARSE if feature.name == "item_id")
VOCABULARIES = [feature for feature in SPARSE if feature.at_least]
DENSE_TRANSFORMS: dict[str, Callable[[Column], Column]] = {"identity": lambda x: x, "log1p": F.log1p, "arctan": F.atan}
LOGGED = "features"  # column of an impression with the values that were computed when it was shown


@dataclass(frozen=True)
class Statistics:
    """What the training rows teach: click rates, mean and deviation of each dense feature, values of vocabularies.

    For features scaled to 0 … 1, `mean` is their smallest value and `deviation` their range.
    """

    prior: float = 0.0
    by_position: dict[str, float] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    deviation: dict[str, float] = field(default_factory=dict)
    vocabulary: dict[str, list[str]] = field(default_factory=dict)

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
    examples: DataFrame,
    users: DataFrame,
    items: DataFrame,
    known: DataFrame,
    rates: Rates,
    settings: FeatureSettings,
) -> DataFrame:
    """Add every feature, dense ones not standardised yet, under its name with a leading `f_`, and `history`.

    `known` are the examples that counts may be taken from. A value that was logged with the impression is used as it
    is.
    """
    user_columns = users.select("user_id", "gender", "age_group", "city")
    item_columns = items.select("item_id", "category", "author", "published_at")
    joined = examples.join(user_columns, on="user_id", how="left").join(
        F.broadcast(item_columns), on="item_id", how="left"
    )
    of_topics = known.join(F.broadcast(item_columns), on="item_id", how="left")
    counted = with_counts(joined, of_topics, rates, settings.prior_strength)
    coded = known.withColumn("item_code", _raw(ITEM))
    counted = with_history(counted, coded, settings.history_length)
    has_log = LOGGED in examples.columns
    kept = [*(name for name in examples.columns if name != LOGGED), "history"]
    return counted.select(*kept, *[_logged_or(_raw(f), f, has_log).alias(f"f_{f.name}") for f in COLUMNS])


def _raw(feature: Feature) -> Column:
    value = F.expr(feature.source)
    if isinstance(feature, Dense):
        return DENSE_TRANSFORMS[feature.transform](value).cast("float")
    if feature.at_least:
        return value.cast("string")
    # Bucket 0 is for missing values; the index keeps equal values of two features apart.
    hashed = F.pmod(F.xxhash64(F.lit(index_of(feature)), value.cast("string")), F.lit(feature.buckets - 1)) + 1
    return F.when(value.isNull(), F.lit(0)).otherwise(hashed).cast("bigint")


def _logged_or(computed: Column, feature: Feature, has_log: bool) -> Column:
    """What was logged, where it was; a log holds numbers, so values of vocabularies are always computed."""
    if not has_log or (isinstance(feature, Sparse) and feature.at_least):
        return computed
    logged = F.col(LOGGED)[feature.name].cast("float" if isinstance(feature, Dense) else "bigint")
    return F.coalesce(logged, computed)


def fit(train: DataFrame, rates: Rates) -> Statistics:
    """Statistics from the rows of the training split, and from no others."""
    offset_and_scale = {
        "standardise": (F.avg, F.stddev_pop),
        "min_max": (F.min, lambda value: F.max(value) - F.min(value)),
        "none": (lambda _: F.lit(0.0), lambda _: F.lit(1.0)),
    }
    sums = [
        f(_with_default(feature)).alias(f"{name}_{feature.name}")
        for feature in DENSE
        for name, f in zip("md", offset_and_scale[feature.scale], strict=True)
    ]
    row = train.agg(*sums).collect()[0]
    mean = {feature.name: float(row[f"m_{feature.name}"] or 0.0) for feature in DENSE}
    deviation = {feature.name: float(row[f"d_{feature.name}"] or 0.0) or 1.0 for feature in DENSE}
    vocabulary = {
        feature.name: list(
            Vocabulary.fit(train, f"f_{feature.name}", feature.at_least, most=feature.buckets - 2).values
        )
        for feature in VOCABULARIES
    }
    return replace(Statistics.of_rates(rates), mean=mean, deviation=deviation, vocabulary=vocabulary)


def standardise(rows: DataFrame, statistics: Statistics) -> DataFrame:
    """Dense features scaled, a missing value as its default or 0; values of vocabularies as ids."""
    ready = {}
    for feature in DENSE:
        value = (_with_default(feature) - statistics.mean[feature.name]) / statistics.deviation[feature.name]
        ready[f"f_{feature.name}"] = F.coalesce(value, F.lit(0.0)).cast("float")
    for name in (feature.name for feature in VOCABULARIES):
        ids = Vocabulary(tuple(statistics.vocabulary[name]))
        rows = rows.transform(on_spark, f"f_{name}", ids, f"f_{name}")
        ready[f"f_{name}"] = F.col(f"f_{name}").cast("bigint")
    return rows.withColumns(ready)


def _with_default(feature: Dense) -> Column:
    """The value, with NaN and infinity (of a logged value) as missing."""
    value = F.col(f"f_{feature.name}")
    finite = F.when(F.abs(value) < F.lit(float("inf")), value)
    return finite if feature.default is None else F.coalesce(finite, F.lit(feature.default))
