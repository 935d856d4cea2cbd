"""What the data sets of covers and of titles share: the topic of an item as label, and splits by item.

An item is always in the same split: splits are drawn by a hash of the item, eight tenths to train, one each to valid
and test. Classes are the topics of all items, in the order of their names.
"""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from petastorm.codecs import ScalarCodec
from petastorm.etl.dataset_metadata import materialize_dataset
from petastorm.unischema import Unischema, UnischemaField
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import FloatType, StringType

from conf import Config, Paths, UserError, file_url
from conf.versions import publish_version
from etl.tables import dim
from etl.warehouse.store import Warehouse
from features.dataset.names import SPLITS
from features.dataset.sampling import hash_uniform
from features.settings import FeatureSettings

# Split -> the draws of its items, from and up to.
DRAW_BOUNDS = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}
LABEL = UnischemaField("label", np.float32, (), ScalarCodec(FloatType()), False)
ITEM = UnischemaField("item_id", np.str_, (), ScalarCodec(StringType()), False)
FILES = 2  # of a split: items are few


def item_topics(warehouse: Warehouse, day: date) -> tuple[DataFrame, list[str]]:
    """item_id and label (the number of its topic as float) of the items with one; and the topics by number.

    Raises:
        UserError: when there are fewer than two topics.
    """
    items = warehouse.newest_snapshot(dim.item, day).where("category is not null").select("item_id", "category")
    topics = sorted(row["category"] for row in items.select("category").distinct().collect())
    if len(topics) < 2:
        raise UserError(f"the items of {day} have {len(topics)} topics: there is nothing to tell apart")
    # A map in the query: topics are few, and numbers by name don't change with the data's order.
    number = F.create_map(*[F.lit(x) for i, topic in enumerate(topics) for x in (topic, float(i))])
    return items.select("item_id", number[F.col("category")].cast("float").alias("label")), topics


def publish_items(
    config: Config, kind: str, day: date, rows: DataFrame, schema: Unischema, metadata: dict[str, Any]
) -> dict[str, int]:
    """Publish rows of items, split by item, as a data set.

    Args:
        config: sections features and paths are read.
        kind: name of the data set.
        day: partition that it is published under.
        rows: item_id, label and what else `schema` has.
        schema: of the files.
        metadata: goes beside the files, with the rows of each split added.

    Returns:
        Rows of each split.

    Raises:
        UserError: when a split has no rows.
    """
    settings, paths = config.get(FeatureSettings), config.get(Paths)
    items = rows.withColumn("draw", hash_uniform("item_id", F.lit(settings.seed))).persist()
    try:
        with publish_version(paths.datasets(kind, day), metadata) as folder:
            row_counts = {split: _write(items, split, folder, schema, settings) for split in SPLITS}
            if missing := [split for split, count in row_counts.items() if not count]:
                raise UserError(f"no {kind} for {' and '.join(missing)}: there are too few items with a topic")
            metadata["rows"] = row_counts
    finally:
        items.unpersist()
    return row_counts


def _write(items: DataFrame, split: str, folder: Path, schema: Unischema, settings: FeatureSettings) -> int:
    low, high = DRAW_BOUNDS[split]
    rows = items.where((F.col("draw") >= low) & (F.col("draw") < high)).drop("draw").orderBy("item_id")
    url = file_url(folder / split)
    with materialize_dataset(items.sparkSession, url, schema, settings.row_group_mb):
        rows.coalesce(FILES).write.mode("overwrite").parquet(url)
    return int(rows.count())
