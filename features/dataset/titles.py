"""Words of the items' titles with the topic as label, for text models: `millrace features titles`."""

from datetime import date
from typing import Any

import numpy as np
from petastorm.unischema import Unischema, UnischemaField
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf import Config
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim
from etl.warehouse.store import Warehouse
from features.dataset.item_topics import ITEM, LABEL, item_topics, publish_items
from features.dataset.names import TITLES
from features.settings import FeatureSettings

# A run of letters and digits of any script; of Han characters, which have no spaces between words, each is a word.
WORD = r"(\p{IsHan}|[\p{L}\p{N}&&[^\p{IsHan}]]+)"


def run(spark: SparkSession, config: Config, day: date) -> dict[str, Any]:
    """Publish the words of the items' titles as hashed ids; items without title or topic are invalid.

    Returns:
        The stage's counts, and the rows of each split.

    Raises:
        UserError: when there are fewer than two topics, or a split has no rows.
    """
    settings, warehouse = config.get(FeatureSettings), Warehouse(spark, config)
    with stage_run(warehouse, TITLES, [day]) as counts:
        topics, classes = item_topics(warehouse, day)
        items = (
            warehouse.newest_snapshot(dim.item, day).select("item_id", "title").join(topics, on="item_id", how="left")
        )
        words = F.regexp_extract_all(F.lower("title"), F.lit(WORD), 1)
        # 0 is padding; no index seeds the hash, since words of all titles share their ids.
        ids = F.transform(words, lambda word: F.pmod(F.xxhash64(word), F.lit(settings.word_buckets - 1)) + 1)
        # An item without a title gets no words, and is counted as invalid below.
        rows = items.select("item_id", "label", F.coalesce(ids, F.array().cast("array<bigint>")).alias("words"))
        valid = rows.where("label is not null and size(words) > 0")
        schema = Unischema("Titles", [ITEM, LABEL, UnischemaField("words", np.int64, (None,), None, False)])
        metadata: dict[str, Any] = {"classes": classes, "buckets": settings.word_buckets}
        row_counts = publish_items(config, TITLES, day, valid, schema, metadata)
        num_items, num_valid = items.count(), sum(row_counts.values())
        counts[day] = RowCounts(rows_in=num_items, rows_out=num_valid, rows_invalid=num_items - num_valid)
    return {**total_counts(counts), **row_counts}
