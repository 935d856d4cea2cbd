"""Writes feature rows as Parquet with Petastorm's metadata; the Unischema follows from the catalog."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from petastorm.codecs import ScalarCodec
from petastorm.etl.dataset_metadata import materialize_dataset
from petastorm.unischema import Unischema, UnischemaField
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, FloatType, LongType, StringType

from conf import file_url
from features.catalog import COLUMNS, DENSE, SPARSE
from features.counts.engagement import ACTIONS
from features.settings import FeatureSettings

LABEL = "label"
HISTORY = "history"
FOLLOWED = tuple(f"label_{action}" for action in ACTIONS)


def _scalar(name: str, numpy_type: type, spark_type: DataType, nullable: bool = False) -> UnischemaField:
    return UnischemaField(name, numpy_type, (), ScalarCodec(spark_type), nullable)


def schema_of(rows: DataFrame) -> Unischema:
    """Feature columns by the catalog, and the columns of `rows` that say whose they are."""
    known = {f"f_{feature.name}": _scalar(f"f_{feature.name}", np.int64, LongType()) for feature in SPARSE}
    known |= {f"f_{feature.name}": _scalar(f"f_{feature.name}", np.float32, FloatType()) for feature in DENSE}
    known[LABEL] = _scalar(LABEL, np.float32, FloatType())
    known["at_s"] = _scalar("at_s", np.float64, DoubleType())
    known["score"] = _scalar("score", np.float32, FloatType())
    known |= {name: _scalar(name, np.float32, FloatType(), nullable=True) for name in FOLLOWED}
    known[HISTORY] = UnischemaField(HISTORY, np.int64, (None,), None, False)
    fields = [known.get(name) or _scalar(name, np.str_, StringType(), nullable=True) for name in rows.columns]
    return Unischema("MillraceFeatures", fields)


def write_dataset(rows: DataFrame, folder: Path, settings: FeatureSettings) -> None:
    """Write `rows` in the order of `at_s`, then user: a learner that reads the files in order reads time in order."""
    ordered = in_time_order(rows, settings.files)
    with materialize_dataset(rows.sparkSession, file_url(folder), schema_of(rows), settings.row_group_mb):
        ordered.write.mode("overwrite").parquet(file_url(folder))


def in_time_order(rows: DataFrame, num_files: int) -> DataFrame:
    """Partition i holds the i-th stretch of time, sorted; the same rows always end in the same places.

    Spark's own range partitioning draws its bounds from a sample that changes from run to run, and with it the row
    groups that workers share. Minutes are few, so their exact quantiles are cheap.
    """
    minute = F.floor(F.col("at_s") / 60)
    shares = [i / num_files for i in range(1, num_files)]
    bounds = rows.agg(F.percentile(minute, shares)).collect()[0][0] or []
    file_number = sum((F.when(minute >= bound, 1).otherwise(0) for bound in bounds), F.lit(0)).cast("int")
    keys = [name for name in ("at_s", "user_id", "item_id", "example_id") if name in rows.columns]
    return rows.repartitionById(num_files, file_number).sortWithinPartitions(*keys)


def write_candidates(rows: DataFrame, folder: Path, parts: Sequence[str], settings: FeatureSettings) -> None:
    """Write `rows`, by user, into a folder for each of `parts`, the values of their column `part`.

    Rankers read them by Arrow, so plain Parquet will do; and all of a set are of one moment, so time is no order.
    """
    file_number = F.pmod(F.xxhash64("user_id"), F.lit(settings.files)).cast("int")
    by_user = rows.repartitionById(settings.files, file_number).sortWithinPartitions("part", "user_id", "item_id")
    # Appended, since the folder already holds what recall itself has to say.
    by_user.write.mode("append").partitionBy("part").parquet(file_url(folder))
    for part in parts:
        written = folder / f"part={part}"
        if written.exists():
            written.rename(folder / part)
        else:  # a part without rows is a data set without rows
            rows.drop("part").limit(0).write.parquet(file_url(folder / part))


def as_dataset_columns(rows: DataFrame, keys: list[str]) -> DataFrame:
    """`keys`, the moment in seconds, labels, history and features, as `schema_of` describes them."""
    features = [F.col(f"f_{feature.name}") for feature in COLUMNS]
    label = (
        F.col("label").cast("float").alias(LABEL) if "label" in rows.columns else F.lit(0.0).cast("float").alias(LABEL)
    )
    more = [name for name in (*FOLLOWED, HISTORY) if name in rows.columns]
    return rows.select(*keys, F.col("at").cast("double").alias("at_s"), label, *more, *features)
