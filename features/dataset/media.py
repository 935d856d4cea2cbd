"""Covers and titles of items with their topic, as data sets for image and text models: `features covers | titles`.

The same item is always in the same part: parts are drawn by a hash of the item, eight tenths to train, one each to
valid and test. Classes are the topics of all items, in the order of their names.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from petastorm.codecs import CompressedImageCodec, ScalarCodec
from petastorm.etl.dataset_metadata import materialize_dataset
from petastorm.unischema import Unischema, UnischemaField
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import FloatType, StringType

from conf import Config, Paths, UserError, file_url
from conf.versions import publish_version
from etl.metastore.connection import advisory_lock
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim, ods
from etl.warehouse.store import Warehouse
from features.dataset.draws import uniform
from features.dataset.kinds import COVERS, PARTS, TITLES
from features.settings import FeatureSettings

BOUNDS = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}
LABEL = UnischemaField("label", np.float32, (), ScalarCodec(FloatType()), False)
ITEM = UnischemaField("item_id", np.str_, (), ScalarCodec(StringType()), False)
IMAGES = ("png", "jpg", "jpeg")
WORD = r"(\p{IsHan}|[\p{L}\p{N}&&[^\p{IsHan}]]+)"


def run_covers(spark: SparkSession, config: Config, day: date) -> dict[str, Any]:
    """Publish the covers of `landing/images`, brought to one size; what is no image is quarantined.

    A cover is `<item_id>.png` (or jpg); of several the one of the newest day up to `day` counts. Covers of items that
    `dim_item` does not know, or without a topic, are invalid.
    """
    settings, paths = config.get(FeatureSettings), config.get(Paths)
    warehouse, size = Warehouse(spark, config), settings.cover_size
    cover = UnischemaField("cover", np.uint8, (size, size, 3), CompressedImageCodec("png"), False)
    files = _newest_files(paths, day)
    with stage_run(warehouse, COVERS, [day]) as counts:
        topics, classes = _topics(warehouse, day)
        raw = spark.read.format("binaryFile").load([file_url(path) for path in files.values()])
        item = F.regexp_extract("path", r"([^/]+)\.[a-zA-Z]+$", 1)
        read = raw.select("path", item.alias("item_id"), "content").mapInPandas(
            _decoder(cover), "path string, item_id string, cover binary, reason string"
        )
        read = read.join(F.broadcast(topics), on="item_id", how="left").persist()
        try:
            refused = read.where("reason is not null")
            _quarantine(warehouse, refused, day)
            good = read.where("reason is null and label is not null").select("item_id", "label", "cover")
            about: dict[str, Any] = {"classes": classes, "image": [3, size, size]}
            rows = _publish(config, COVERS, day, good, Unischema("Covers", [ITEM, LABEL, cover]), about)
            counts[day] = RowCounts(
                rows_in=read.count(),
                rows_out=sum(rows.values()),
                rows_invalid=read.where("reason is null and label is null").count(),
                rows_quarantined=refused.count(),
            )
        finally:
            read.unpersist()
    return {**total_counts(counts), **rows}


def run_titles(spark: SparkSession, config: Config, day: date) -> dict[str, Any]:
    """Publish the words of the items' titles as hashed ids; items without title or topic are invalid."""
    settings, warehouse = config.get(FeatureSettings), Warehouse(spark, config)
    with stage_run(warehouse, TITLES, [day]) as counts:
        topics, classes = _topics(warehouse, day)
        items = (
            warehouse.newest_snapshot(dim.item, day).select("item_id", "title").join(topics, on="item_id", how="left")
        )
        # Letters and digits of any script; a run of Han characters is one word for each of them.
        words = F.regexp_extract_all(F.lower("title"), F.lit(WORD), 1)
        codes = F.transform(words, lambda word: F.pmod(F.xxhash64(word), F.lit(settings.word_buckets - 1)) + 1)
        rows_with = items.select("item_id", "label", F.coalesce(codes, F.array().cast("array<bigint>")).alias("words"))
        good = rows_with.where("label is not null and size(words) > 0")
        field = UnischemaField("words", np.int64, (None,), None, False)
        about: dict[str, Any] = {"classes": classes, "buckets": settings.word_buckets}
        rows = _publish(config, TITLES, day, good, Unischema("Titles", [ITEM, LABEL, field]), about)
        total = items.count()
        counts[day] = RowCounts(rows_in=total, rows_out=sum(rows.values()), rows_invalid=total - sum(rows.values()))
    return {**total_counts(counts), **rows}


def _topics(warehouse: Warehouse, day: date) -> tuple[DataFrame, list[str]]:
    """item_id and label, the number of its topic; and the topics."""
    items = warehouse.newest_snapshot(dim.item, day).where("category is not null").select("item_id", "category")
    classes = sorted(row["category"] for row in items.select("category").distinct().collect())
    if len(classes) < 2:
        raise UserError(f"the items of {day} have {len(classes)} topics: there is nothing to tell apart")
    number = F.create_map(*[F.lit(x) for i, name in enumerate(classes) for x in (name, float(i))])
    return items.select("item_id", number[F.col("category")].cast("float").alias("label")), classes


def _publish(
    config: Config, kind: str, day: date, rows: DataFrame, schema: Unischema, about: dict[str, Any]
) -> dict[str, int]:
    settings, paths = config.get(FeatureSettings), config.get(Paths)
    draw = rows.withColumn("draw", uniform("item_id", F.lit(settings.seed))).persist()
    try:
        with publish_version(paths.datasets(kind, day), about) as folder:
            found = {part: _write(draw, schema, folder / part, settings, *BOUNDS[part]) for part in PARTS}
            if missing := [part for part, number in found.items() if not number]:
                raise UserError(f"no {kind} for {' and '.join(missing)}: there are too few items with a topic")
            about["rows"] = found
    finally:
        draw.unpersist()
    return found


def _write(rows: DataFrame, schema: Unischema, folder: Path, settings: FeatureSettings, low: float, high: float) -> int:
    part = rows.where(F.col("draw").between(low, high) & (F.col("draw") < high)).drop("draw").orderBy("item_id")
    with materialize_dataset(rows.sparkSession, file_url(folder), schema, settings.row_group_mb):
        part.coalesce(2).write.mode("overwrite").parquet(file_url(folder))
    return int(part.count())


def _newest_files(paths: Paths, day: date) -> dict[str, Path]:
    """Item -> its newest cover up to `day`."""
    found: dict[str, Path] = {}
    for folder in sorted((paths.root / "landing" / "images").glob("dt=*")):
        if folder.name.removeprefix("dt=") <= day.isoformat():
            found |= {path.stem: path for path in folder.iterdir() if path.suffix[1:].lower() in IMAGES}
    if not found:
        raise UserError(f"no covers in {paths.landing('images', day).parent} up to {day}: put <item_id>.png there")
    return found


def _decoder(cover: UnischemaField) -> Any:
    """Images of any size -> the size of `cover`, as its codec writes them; or why not."""

    def decode(content: bytes) -> tuple[bytes | None, str | None]:
        import cv2

        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
        if found is None:
            return None, "no_image"
        height, width, _ = cover.shape
        sized = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
        return bytes(cover.codec.encode(cover, np.ascontiguousarray(sized[:, :, ::-1]))), None

    def work(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            decoded = [decode(content) for content in frame.pop("content")]
            yield frame.assign(cover=[pixels for pixels, _ in decoded], reason=[reason for _, reason in decoded])

    return work


def _quarantine(warehouse: Warehouse, refused: DataFrame, day: date) -> None:
    """Name the files that are no images; they stay where they are."""
    fresh = refused.select(
        F.lit(COVERS).alias("stage"),
        "reason",
        F.col("path").alias("file"),
        F.lit(0).cast("bigint").alias("line_number"),
        F.lit("").alias("line"),
        F.lit(day.isoformat()).alias("dt"),
    )
    with advisory_lock(warehouse.spark, ods.quarantine.name):
        kept = warehouse.read(ods.quarantine, [day]).where(F.col("stage") != COVERS)
        warehouse.write(ods.quarantine, kept.unionByName(fresh), [day])
