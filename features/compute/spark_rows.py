"""Examples -> feature columns on Spark, for training sets and candidates: hashed ids and scaled numbers.

Three steps: `unscaled_features` of all rows, `fit_statistics` of the training rows, `scale_features` of all rows.
"""

from dataclasses import asdict, replace
from functools import reduce

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf  # type: ignore[attr-defined]
from pyspark.sql.types import ArrayType, DoubleType

from conf.site.columns import Owner
from conf.site.features import Dense, Feature, Sparse
from etl.clock import local_time
from features import catalog
from features.catalog import OWN_COLUMNS
from features.compute.spark_own_columns import own_values
from features.compute.training_statistics import TrainingStatistics
from features.counts.counts_before import ClickRates, with_counts_before
from features.counts.history import with_history, with_last
from features.item_lists import ItemList
from features.settings import FeatureSettings
from features.transforms import FITTED, transformed_source, with_transformed
from features.transforms.hashing import NUMBER
from features.transforms.scales import SCALES
from features.transforms.vocabulary import Vocabulary
from features.transforms.whitening import Whitening

ITEM = next(feature for feature in catalog.SPARSE if feature.name == "item_id")
MOMENTS = ("at", "published_at")  # columns that sources take hours and days of
LOGGED = "features"  # column of an impression with the values that were computed when it was shown
CONTEXT = "context"  # column of an example with what was known when the item was shown or chosen, as text
NUM_RESERVED_IDS = 2  # of a vocabulary: missing and unknown


def unscaled_features(
    examples: DataFrame,
    users: DataFrame,
    items: DataFrame,
    impressions: DataFrame,
    rates: ClickRates,
    settings: FeatureSettings,
    zone: str = "UTC",
    chosen: DataFrame | None = None,
    acts: DataFrame | None = None,
    *,
    has_few_days: bool = False,
) -> DataFrame:
    """Add every feature under its name with a leading `f_`, before scaling, `history`, and the site's lists.

    A value that was logged with the impression is used as it is.

    Args:
        examples: as `load_examples` gives them, or candidates with the same columns but label and features.
        users: a snapshot of dim_user.
        items: a snapshot of dim_item; broadcast, since items are fewer than examples.
        impressions: the labelled examples that may be counted.
        rates: of the training rows.
        settings: of the features.
        zone: by whose clocks features have hours and days.
        chosen: the labelled examples that histories are of; by default `impressions`.
        acts: what the site's lists are of, as `load_acts` gives them; None for empty lists.
        has_few_days: of the examples; see `with_counts_before`.
    """
    counted = with_dimensions(examples, users, items)
    choices = (impressions if chosen is None else chosen).withColumn("item_code", _unscaled(ITEM))
    if catalog.HAS_COUNTS:
        # Own rates may count by columns of the users, too.
        keyed = with_dimensions(impressions, users if catalog.OWN_GROUPS else None, items)
        counted = with_counts_before(
            counted, keyed, rates, has_few_days=has_few_days,
            with_more=lambda days: with_history(days, choices, settings.history_length),
        ).withColumn("history", F.coalesce("history", F.array().cast("array<bigint>")))  # fmt: skip
    else:
        counted = with_history(counted, choices, settings.history_length, by_day=False)
    counted = with_item_lists(counted, acts, items)
    has_log = LOGGED in examples.columns  # candidates have none: nobody was shown them
    keys = [*(name for name in examples.columns if name not in (LOGGED, CONTEXT)), "history"]
    keys += [one.column for one in catalog.LISTS]
    values = [_logged_or(_unscaled(f), f, has_log).alias(f"f_{f.name}") for f in catalog.COLUMNS]
    # What the site's clock shows, for the sources alone: rows keep their moments.
    clocks = {name: local_time(name, zone) for name in MOMENTS}
    shown = counted.withColumn("_at", F.col("at")).withColumns(clocks)
    return shown.select(*[F.col("_at").alias("at") if name == "at" else name for name in keys], *values)


def with_item_lists(rows: DataFrame, acts: DataFrame | None, items: DataFrame) -> DataFrame:
    """Add the site's lists of last acts under their names with a leading `f_`.

    Args:
        rows: with user_id and at.
        acts: with user_id, item_id, at, action and value; None for empty lists.
        items: a snapshot of dim_item.
    """
    if acts is None:
        return rows.withColumns({one.column: F.array().cast("array<bigint>") for one in catalog.LISTS})
    # A server knows nothing of an item that is in no table.
    known = with_dimensions(acts.join(F.broadcast(items.select("item_id")), "item_id", "left_semi"), None, items)
    for one in catalog.LISTS:
        of_list = known.where(_is_of_list(one)).withColumn("item_code", item_ids(one.field))
        # What has no id is nothing to read, and takes no place in the list.
        rows = with_last(rows, of_list.where("item_code > 0"), one.column, one.length, by_day=False)
    return rows


def item_ids(field: Sparse) -> Column:
    """Ids of a feature of the items, of rows with their columns."""
    return _unscaled(field)


def _is_of_list(one: ItemList) -> Column:
    is_action = F.col("action") == one.action
    return is_action if one.at_least is None else is_action & (F.col("value") >= one.at_least)


def with_dimensions(examples: DataFrame, users: DataFrame | None, items: DataFrame) -> DataFrame:
    """Add the columns of dim_user and dim_item that features read, and the site's own ones of what happened.

    Args:
        examples: as for `unscaled_features`.
        users: a snapshot of dim_user; None to leave its columns out.
        items: a snapshot of dim_item.
    """
    # Named, so that a new column of a dimension never shadows one of the examples.
    item_columns = items.select("item_id", "category", "author", "published_at", *_own("item"))
    rows = examples.withColumns(_context(examples)).join(F.broadcast(item_columns), on="item_id", how="left")
    if users is None:
        return rows
    user_columns = users.select("user_id", "gender", "age_group", "city", *_own("user"))
    return rows.join(user_columns, on="user_id", how="left")


def fit_statistics(
    train: DataFrame, rates: ClickRates, settings: FeatureSettings, zone: str = "UTC"
) -> TrainingStatistics:
    """Statistics of `unscaled_features` of the training split, and of no other row; `zone` is that of the features."""
    statistics = replace(
        TrainingStatistics.from_rates(rates),
        timezone=zone,
        transforms={
            feature.name: dict(vars(FITTED[feature.transform].fit(train, f"f_{feature.name}")))
            for feature in catalog.DENSE
            if feature.transform in FITTED
        },
        vocabulary={
            feature.name: list(
                Vocabulary.fit(
                    train, f"f_{feature.name}", feature.at_least, max_values=feature.buckets - NUM_RESERVED_IDS
                ).values
            )
            for feature in catalog.SPARSE
            if feature.at_least
        },
    )
    # In this order: scales are of transformed values, whitening is of scaled ones.
    statistics = _with_scales(_with_fitted_transforms(train, statistics), statistics)
    if settings.whiten == "none":
        return statistics
    columns = [f"f_{feature.name}" for feature in catalog.DENSE]
    scaled = scale_features(train, statistics)
    whitening = Whitening.fit(scaled, columns, settings.whiten, settings.whiten_epsilon)
    return replace(statistics, whitening=asdict(whitening))


def scale_features(rows: DataFrame, statistics: TrainingStatistics) -> DataFrame:
    """`unscaled_features` as models read them: dense features transformed, scaled and whitened, vocabularies as ids.

    A missing number becomes the feature's default, or 0 once scaled.
    """
    rows = _with_fitted_transforms(rows, statistics)
    scaled = {}
    for feature in catalog.DENSE:
        value = (_with_default(feature) - statistics.mean[feature.name]) / statistics.deviation[feature.name]
        scaled[f"f_{feature.name}"] = F.coalesce(value, F.lit(0.0)).cast("float")  # computed in double
    for name, values in statistics.vocabulary.items():
        rows = with_transformed(rows, f"f_{name}", Vocabulary(tuple(values)))
        scaled[f"f_{name}"] = F.col(f"f_{name}").cast("bigint")  # pandas UDFs give double
    rows = rows.withColumns(scaled)
    return _with_whitened(rows, Whitening(**statistics.whitening)) if statistics.whitening else rows


def _own(owner: Owner) -> list[Column]:
    """The site's own columns of a dimension, named."""
    columns = OWN_COLUMNS.of_owner(owner)
    return [value.alias(name) for name, value in own_values(columns, F.col("attributes")).items()] if columns else []


def _context(examples: DataFrame) -> dict[str, Column]:
    """The site's own columns of what happened; of candidates nothing has happened yet, and they are null."""
    columns = OWN_COLUMNS.of_owner("context")
    has_context = CONTEXT in examples.columns
    texts = F.col(CONTEXT) if has_context else F.lit(None).cast("map<string,string>")
    return own_values(columns, texts) if columns else {}


def _unscaled(feature: Feature) -> Column:
    if isinstance(feature, Dense):
        return F.expr(transformed_source(feature.name, feature.transform, feature.source)).cast("float")
    value = F.expr(feature.source)
    if feature.at_least:
        return value.cast("string")  # its ids come from the training rows, in scale_features
    # Bucket 0 is for missing values; the index, which never changes, keeps equal values of two features apart.
    index = F.lit(catalog.index_of(feature))
    text = value.cast("string")
    bucket = F.pmod(F.xxhash64(index, text), F.lit(feature.buckets - 1)) + 1
    if feature.is_number:
        number = F.when(text.rlike(rf"\A{NUMBER}\z"), text).cast("int")
        bucket = F.when(number < feature.buckets - 1, number + 1).otherwise(bucket)
    return F.when(value.isNull(), F.lit(0)).otherwise(bucket).cast("bigint")


def _logged_or(computed: Column, feature: Feature, has_log: bool) -> Column:
    """The logged value, where there is one; a log holds numbers, so values of vocabularies are always computed."""
    if not has_log or (isinstance(feature, Sparse) and feature.at_least):
        return computed
    logged = F.col(LOGGED)[feature.name].cast("float" if isinstance(feature, Dense) else "bigint")
    return F.coalesce(logged, computed)


def _with_scales(train: DataFrame, statistics: TrainingStatistics) -> TrainingStatistics:
    """With mean and deviation of the dense features, in one pass over the training rows."""
    aggregates = [
        aggregate(_with_default(feature)).alias(f"{kind}_{feature.name}")
        for feature in catalog.DENSE
        for kind, aggregate in zip(("mean", "deviation"), SCALES[feature.scale], strict=True)
    ]
    row = train.agg(*aggregates).collect()[0]
    names = [feature.name for feature in catalog.DENSE]
    return replace(
        statistics,
        mean={name: float(row[f"mean_{name}"] or 0.0) for name in names},
        # A constant column is divided by 1, and becomes 0.
        deviation={name: float(row[f"deviation_{name}"] or 0.0) or 1.0 for name in names},
    )


def _with_fitted_transforms(rows: DataFrame, statistics: TrainingStatistics) -> DataFrame:
    # Each in a pandas UDF: Arrow batches go to Python workers and back, so the catalog prefers expressions.
    fitted = {f: FITTED[f.transform](**statistics.transforms[f.name]) for f in catalog.DENSE if f.transform in FITTED}
    return reduce(lambda frame, feature: with_transformed(frame, f"f_{feature.name}", fitted[feature]), fitted, rows)


def _with_whitened(rows: DataFrame, whitening: Whitening) -> DataFrame:
    """Dense columns replaced by their whitened ones, computed side by side in one pandas UDF."""

    def apply(dense: pd.DataFrame) -> pd.Series:
        whitened = whitening.transform(dense.to_numpy(np.float64))  # (rows, columns)
        return pd.Series(list(whitened))  # (rows,) of (columns,)

    vector = pandas_udf(apply, ArrayType(DoubleType()))(F.struct(*whitening.columns))
    columns = {name: F.col("_whitened")[i].cast("float") for i, name in enumerate(whitening.columns)}
    return rows.withColumn("_whitened", vector).withColumns(columns).drop("_whitened")


def _with_default(feature: Dense) -> Column:
    """The value, with NaN and infinity (of a logged value) as missing."""
    value = F.col(f"f_{feature.name}")
    finite = F.when(F.abs(value) < F.lit(float("inf")), value)
    return finite if feature.default is None else F.coalesce(finite, F.lit(feature.default))
