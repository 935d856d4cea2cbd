"""Feature rows as Parquet files: training sets with Petastorm's metadata, candidates without.

The Unischema follows from the catalog.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree

import numpy as np
from petastorm.codecs import ScalarCodec
from petastorm.etl.dataset_metadata import materialize_dataset
from petastorm.unischema import Unischema, UnischemaField
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, FloatType, LongType, StringType

from conf import file_url
from features.catalog import COLUMNS, DENSE, LISTS, SPARSE
from features.dataset.names import HISTORY, OUTCOME_LABELS, PROPENSITY, SPLITS, WEIGHT
from features.settings import FeatureSettings

LABEL = "label"


def petastorm_schema(rows: DataFrame) -> Unischema:
    """Unischema of `rows`: feature columns by the catalog, labels, weight, lists of ids, and text for other columns."""
    fields = {f"f_{feature.name}": _scalar(f"f_{feature.name}", np.int64, LongType()) for feature in SPARSE}
    fields |= {f"f_{feature.name}": _scalar(f"f_{feature.name}", np.float32, FloatType()) for feature in DENSE}
    fields |= {name: _scalar(name, np.float32, FloatType()) for name in (LABEL, WEIGHT, "score")}
    fields |= {name: _scalar(name, np.float32, FloatType(), nullable=True) for name in (*OUTCOME_LABELS, PROPENSITY)}
    fields["at_s"] = _scalar("at_s", np.float64, DoubleType())
    # No codec: a native Parquet list of any length, which Petastorm reads without decoding each row.
    for name in (HISTORY, *(one.column for one in LISTS)):
        fields[name] = UnischemaField(name, np.int64, (None,), None, False)
    keys = {name: _scalar(name, np.str_, StringType(), nullable=True) for name in rows.columns if name not in fields}
    return Unischema("MillraceFeatures", [{**fields, **keys}[name] for name in rows.columns])


def write_splits(rows: DataFrame, folder: Path, settings: FeatureSettings, *, by_time: bool = True) -> None:
    """Write `rows` into a folder for each of SPLITS, in the order of `at_s`, or in no order but a hash's where times
    mean nothing to the split.

    By time, a learner that reads the files in order reads time in order. Rows of one moment are in the order of the
    hash as well: by user, batches of data without times would be of a few users.

    Args:
        rows: as `select_dataset_columns` returns them, with `split`; read once, and their times once more.
        folder: an existing one without folders of these names.
        settings: number of files of each split, and size of the row groups.
        by_time: whether later rows come later.
    """
    schema, spark = petastorm_schema(rows.drop("split")), rows.sparkSession
    ordered = sorted_by_time(rows, settings.files) if by_time else sorted_by_hash(rows, settings.files)
    with ExitStack() as stack:
        for name in SPLITS:
            # Writes Petastorm's metadata when the block ends; row_group_mb becomes Parquet's block size inside it.
            url = file_url(folder / name)
            stack.enter_context(materialize_dataset(spark, url, schema, settings.row_group_mb))
        _write_parts(ordered.drop("split"), folder, SPLITS, settings.files)


def sorted_by_time(rows: DataFrame, num_files: int) -> DataFrame:
    """Partitions with the i-th stretch of a split's time each, sorted; the same rows always end in the same ones.

    Spark's own range partitioning draws its bounds from a sample that changes from run to run, and with it the row
    groups that workers share.
    """
    # percentile keeps every distinct value in memory: minutes of 30 days are 43,200.
    minute = F.floor(F.col("at_s") / 60)
    shares = [i / num_files for i in range(1, num_files)]
    bounds = {row[0]: row[1] for row in rows.groupBy("split").agg(F.percentile(minute, shares)).collect()}
    file_number = F.lit(0)
    for name, of_split in bounds.items():
        number = sum((F.when(minute >= bound, 1).otherwise(0) for bound in of_split or []), F.lit(0))
        file_number = F.when(F.col("split") == name, number).otherwise(file_number)
    by_file = _repartition(rows, "split", SPLITS, num_files, file_number)
    return by_file.sortWithinPartitions("at_s", *_hashed_key(rows))


def sorted_by_hash(rows: DataFrame, num_files: int) -> DataFrame:
    """Rows in the order of a hash of their ids, the same whatever partitions they come from."""
    key = _hashed_key(rows)
    by_file = _repartition(rows, "split", SPLITS, num_files, F.pmod(key[0], F.lit(num_files)))
    return by_file.sortWithinPartitions(*key)


def _repartition(rows: DataFrame, column: str, parts: Sequence[str], num_files: int, file_number: Column) -> DataFrame:
    """`num_files` partitions for each value of `column`, by the number of the file among them."""
    part = sum((F.when(F.col(column) == name, i).otherwise(0) for i, name in enumerate(parts)), F.lit(0))
    return rows.repartitionById(len(parts) * num_files, (part * num_files + file_number).cast("int"))


def _hashed_key(rows: DataFrame) -> list[Column]:
    """A hash of the ids of a row, and the ids, which decide between equal hashes."""
    ids = [F.col(name) for name in ("user_id", "item_id", "example_id") if name in rows.columns]
    return [F.xxhash64(*ids), *ids]


def write_candidates(rows: DataFrame, folder: Path, names: Sequence[str], settings: FeatureSettings) -> None:
    """Write `rows`, sorted by user, into a folder for each of `names`, the values of their column `part`.

    Rankers read them by Arrow, so plain Parquet will do; and all of a set are of one moment, so time is no order.
    """
    # A user's candidates are in one file, so that a ranker sees whole lists.
    file_number = F.pmod(F.xxhash64("user_id"), F.lit(settings.files))
    by_file = _repartition(rows, "part", names, settings.files, file_number)
    _write_parts(by_file.sortWithinPartitions("user_id", "item_id").drop("part"), folder, names, settings.files)


def _write_parts(rows: DataFrame, folder: Path, names: Sequence[str], num_files: int) -> None:
    """Write partitions of `_repartition` into a folder for each of `names`, in one job."""
    # Not by `partitionBy`, for which rows would be sorted by the name first.
    together = folder / "parts"
    rows.write.parquet(file_url(together))
    for name in names:
        (folder / name).mkdir()
    for file in sorted(together.glob("part-*")):
        partition = int(file.name.split("-")[1])
        file.rename(folder / names[partition // num_files] / file.name)
    rmtree(together)
    for name in names:
        if not any((folder / name).iterdir()):  # a set without rows is a folder with a file without rows
            rows.limit(0).write.mode("append").parquet(file_url(folder / name))


def select_dataset_columns(rows: DataFrame, keys: list[str]) -> DataFrame:
    """`keys`, at_s (epoch seconds), label (0 where there is none), and what `rows` has of the other columns."""
    label = F.col(LABEL) if LABEL in rows.columns else F.lit(0.0)
    lists = (HISTORY, *(one.column for one in LISTS))
    optional = [name for name in (*OUTCOME_LABELS, WEIGHT, PROPENSITY, *lists) if name in rows.columns]
    return rows.select(
        *keys,
        F.col("at").cast("double").alias("at_s"),
        label.cast("float").alias(LABEL),
        *optional,
        *[F.col(f"f_{feature.name}") for feature in COLUMNS],
    )


def _scalar(name: str, numpy_type: type, spark_type: DataType, nullable: bool = False) -> UnischemaField:
    return UnischemaField(name, numpy_type, (), ScalarCodec(spark_type), nullable)
