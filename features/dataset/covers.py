"""Covers of items with the topic as label, for image models: `millrace features covers`."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from petastorm.codecs import CompressedImageCodec
from petastorm.unischema import Unischema, UnischemaField
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError, file_url
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import ods
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse
from features.dataset.item_topics import ITEM, LABEL, item_topics, publish_items
from features.dataset.names import COVERS
from features.settings import FeatureSettings

IMAGE_SUFFIXES = ("png", "jpg", "jpeg")


def run(spark: SparkSession, config: Config, day: date) -> dict[str, Any]:
    """Publish the covers of `landing/images`, resized to squares of `features.cover_size`.

    A cover is `<item_id>.png` (or jpg); of several the one of the newest day up to `day` counts. Files that are no
    image are quarantined; covers of items that `dim_item` does not have, or without a topic, are invalid.

    Returns:
        The stage's counts, and the rows of each split.

    Raises:
        UserError: when there are no covers, fewer than two topics, or a split has no rows.
    """
    settings, paths, warehouse = config.get(FeatureSettings), config.get(Paths), Warehouse(spark, config)
    size = settings.cover_size
    cover = UnischemaField("cover", np.uint8, (size, size, 3), CompressedImageCodec("png"), False)
    files = _newest_covers(paths, day)
    with stage_run(warehouse, COVERS, [day]) as counts:
        topics, classes = item_topics(warehouse, day)
        # Decoded on the executors; the driver sees paths only.
        decoded = _decode_files(spark, list(files.values()), cover)
        covers = decoded.join(F.broadcast(topics), on="item_id", how="left").persist()
        try:
            no_images = covers.where("reason is not null")
            _quarantine(warehouse, no_images, day)  # before publishing: what was left out is on record
            valid = covers.where("reason is null and label is not null").select("item_id", "label", "cover")
            metadata: dict[str, Any] = {"classes": classes, "image": [3, size, size]}
            schema = Unischema("Covers", [ITEM, LABEL, cover])
            row_counts = publish_items(config, COVERS, day, valid, schema, metadata)
            counts[day] = RowCounts(
                rows_in=covers.count(),
                rows_out=sum(row_counts.values()),
                rows_invalid=covers.where("reason is null and label is null").count(),
                rows_quarantined=no_images.count(),
            )
        finally:
            covers.unpersist()
    return {**total_counts(counts), **row_counts}


def _newest_covers(paths: Paths, day: date) -> dict[str, Path]:
    """Item -> its newest cover up to `day`."""
    files: dict[str, Path] = {}
    # By day, so that a newer file of the same item replaces an older one.
    for folder in sorted((paths.root / "landing" / "images").glob("dt=*")):
        if folder.name.removeprefix("dt=") <= day.isoformat():
            files |= {path.stem: path for path in folder.iterdir() if path.suffix[1:].lower() in IMAGE_SUFFIXES}
    if not files:
        raise UserError(f"no covers in {paths.landing('images', day).parent} up to {day}: put <item_id>.png there")
    return files


def _decode_files(spark: SparkSession, files: list[Path], cover: UnischemaField) -> DataFrame:
    """path, item_id, cover (as Petastorm's codec writes it) and reason, which is null for an image."""
    content = spark.read.format("binaryFile").load([file_url(path) for path in files])
    item = F.regexp_extract("path", r"([^/]+)\.[a-zA-Z]+$", 1)

    def decode(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            covers = [_resize(image, cover) for image in frame.pop("content")]  # pop: the files need not go back
            yield frame.assign(cover=covers, reason=[None if image else "no_image" for image in covers])

    return content.select("path", item.alias("item_id"), "content").mapInPandas(
        decode, "path string, item_id string, cover binary, reason string"
    )


def _resize(content: bytes, cover: UnischemaField) -> bytes | None:
    """An image of any size and format -> the shape of `cover`, encoded; None for what is no image."""
    import cv2  # here, for only workers that decode need it

    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        return None
    height, width, _ = cover.shape
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # (height, width, BGR)
    # OpenCV has blue first, Petastorm's codec wants red first.
    return bytes(cover.codec.encode(cover, np.ascontiguousarray(resized[:, :, ::-1])))


def _quarantine(warehouse: Warehouse, no_images: DataFrame, day: date) -> None:
    """Write the paths of files that are no images to ods_quarantine; the files stay where they are."""
    rows = no_images.select(
        "reason", F.col("path").alias("file"), F.lit(0).cast("bigint").alias("line_number"), F.lit("").alias("line")
    )
    quarantine.replace_rows(warehouse, COVERS, ods.quarantine.with_partition(rows, day), [day])
