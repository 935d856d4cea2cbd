"""Hottest topics and products over a sliding window: `millrace etl stream hot-topics [--once]`.

A window is written once it is final: when the events' time has passed its end by the watermark. Each batch replaces
its windows in their day's partition, and Spark runs the batch at hand again after a kill: every window is there exactly
once.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from conf import Config, Paths, UserError
from conf.paths import file_url
from conf.stopping import stop_signals
from etl.session import SPARK_ERRORS
from etl.stage import Counts, stage_run, total_counts
from etl.streams.settings import StreamSettings
from etl.table import Table
from etl.tables import ads
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

POLL_S = 1


@dataclass(frozen=True)
class Stream:
    """What is read, what of an event is counted, and where the ranking goes."""

    source: str
    schema: str
    identity: str
    keys: Callable[[DataFrame], DataFrame]
    """Events -> the same with `key`, one row for each thing to count."""
    target: Table
    name: str
    """The target's column for the key."""


def topics_of(texts: DataFrame) -> DataFrame:
    """One row per distinct #topic# of a text."""
    found = F.regexp_extract_all("text", F.lit(r"#([^#\s][^#]*)#"), F.lit(1))
    trimmed = F.transform(found, lambda topic: F.trim(topic))
    return texts.select("*", F.explode(F.array_distinct(F.filter(trimmed, lambda topic: topic != ""))).alias("key"))


def products_of(events: DataFrame) -> DataFrame:
    """Acts on items."""
    return events.where(F.col("type").isin("click", "like", "purchase")).withColumn("key", F.col("item_id"))


STREAMS: dict[str, Stream] = {
    "hot-topics": Stream(
        "texts", "text_id string, ts string, text string", "text_id", topics_of, ads.hot_topic, "topic"
    ),
    "hot-products": Stream(
        "events",
        "event_id string, type string, ts string, item_id string",
        "event_id",
        products_of,
        ads.hot_product,
        "item_id",
    ),
}


def run(spark: SparkSession, config: Config, name: str, *, once: bool) -> dict[str, int]:
    """Count what has landed and, unless `once`, what lands, until SIGTERM or Ctrl-C.

    In `ops_run`: rows in are events read, out those counted, invalid those too late, of an unreadable time or doubled.
    """
    stream, warehouse = STREAMS[name], Warehouse(spark, config)
    today = date.today()
    with stage_run(warehouse, name, [today]) as counts, stop_signals() as stopped:
        query = _start(spark, config, warehouse, name, once)
        progress = _Progress()
        while not query.awaitTermination(POLL_S):
            progress.note(query)
            if stopped:
                query.stop()
        progress.note(query)
        if error := query.exception():
            raise UserError(f"{name} stopped: {str(error).strip().splitlines()[0]}")
        counts[today] = progress.counts()
    return {**total_counts(counts), "rows_late": progress.late, "windows": progress.windows(warehouse, stream)}


@contextmanager
def running(spark: SparkSession, config: Config, name: str) -> Iterator[StreamingQuery]:
    """The stream at work in the background while the block runs."""
    query = _start(spark, config, Warehouse(spark, config), name, once=False)
    try:
        yield query
    finally:
        query.stop()


def _start(spark: SparkSession, config: Config, warehouse: Warehouse, name: str, once: bool) -> StreamingQuery:
    stream, settings = STREAMS[name], config.get(StreamSettings)
    warehouse.ensure(stream.target)
    checkpoint = config.get(Paths).root / "streams" / name
    events = source(spark, config, stream)
    counted = events.transform(lambda rows: count(rows, stream, settings))

    def write(batch: DataFrame, number: int) -> None:
        add_windows(warehouse, stream, batch.transform(lambda rows: rank(rows, stream.name, settings.top)))

    writer: Any = counted.writeStream.queryName(name).outputMode("append").foreachBatch(write)
    writer = writer.option("checkpointLocation", file_url(checkpoint))
    writer = writer.trigger(availableNow=True) if once else writer.trigger(processingTime=settings.trigger)
    query: StreamingQuery = writer.start()
    return query


def source(spark: SparkSession, config: Config, stream: Stream) -> DataFrame:
    """The stream's events: files of the landing zone, which appear whole, or a Kafka topic."""
    settings = config.get(StreamSettings)
    if settings.kafka_servers:
        try:
            topic = settings.kafka_topic or stream.source
            reader = spark.readStream.format("kafka").option("kafka.bootstrap.servers", settings.kafka_servers)
            lines = reader.option("subscribe", topic).option("startingOffsets", "earliest").load()
        except SPARK_ERRORS as error:
            raise UserError(
                "Spark has no Kafka source: name its package, org.apache.spark:spark-sql-kafka-0-10_2.13, in "
                f"spark.extra as spark.jars.packages: {str(error).strip().splitlines()[0]}"
            ) from None
        lines = lines.select(F.col("value").cast("string").alias("value"))
    else:
        folder = config.get(Paths).root / "landing" / stream.source
        folder.mkdir(parents=True, exist_ok=True)
        reader = spark.readStream.format("text").option("maxFilesPerTrigger", settings.files_per_batch)
        # Folders of days, and below them, where collected, of hours and hosts.
        lines = reader.option("recursiveFileLookup", "true").load(file_url(folder))
    return lines.select(F.from_json("value", stream.schema).alias("event")).select("event.*")


def count(events: DataFrame, stream: Stream, settings: StreamSettings) -> DataFrame:
    """Events -> counts per window and key. An event that comes twice counts once, one later than the watermark not."""
    timed = events.withColumn("at", F.try_to_timestamp("ts")).where(F.col("at").isNotNull())
    once = timed.withWatermark("at", settings.watermark).dropDuplicatesWithinWatermark([stream.identity])
    windows: Column = F.window("at", settings.window, settings.slide)
    return once.transform(stream.keys).groupBy(windows.alias("window"), "key").agg(F.count("*").alias("count"))


def rank(counted: DataFrame, name: str, top: int) -> DataFrame:
    """The first places of each window, ties by key; ranked within shards of the keys first, then over all."""
    order = (F.desc("count"), F.asc("key"))
    shard = F.pmod(F.xxhash64("key"), F.lit(8))
    within = Window.partitionBy("window", "shard").orderBy(*order)
    over_all = Window.partitionBy("window").orderBy(*order)
    # An act on no item is not ranked (`etl events` quarantines it). Here, for a stream that counted one before goes on.
    counted = counted.where(F.col("key").isNotNull())
    best = counted.withColumn("shard", shard).withColumn("nth", F.row_number().over(within)).where(F.col("nth") <= top)
    return (
        best.withColumn("rank", F.row_number().over(over_all))
        .where(F.col("rank") <= top)
        .select(
            F.col("window.start").alias("window_start"),
            F.col("window.end").alias("window_end"),
            "rank",
            F.col("key").alias(name),
            "count",
            F.date_format("window.start", "yyyy-MM-dd").alias("dt"),
        )
    )


def add_windows(warehouse: Warehouse, stream: Stream, ranked: DataFrame) -> None:
    """Put final windows into their days' partitions, in place of the same windows of an earlier try."""
    ranked = ranked.persist()
    try:
        days = sorted(date.fromisoformat(row["dt"]) for row in ranked.select("dt").distinct().collect())
        if not days:
            return
        before = warehouse.read(stream.target, days)
        window = ["window_start", "window_end"]
        kept = before.join(ranked.select(*window).distinct(), on=window, how="left_anti")
        warehouse.write(stream.target, kept.select(*ranked.columns).unionByName(ranked), days)
    finally:
        ranked.unpersist()


class _Progress:
    """What the batches of a query said of themselves."""

    def __init__(self) -> None:
        self._batches: dict[int, tuple[int, int, int]] = {}

    def note(self, query: StreamingQuery) -> None:
        for told in query.recentProgress:
            dedupe = [op for op in told["stateOperators"] if "dedupe" in op["operatorName"]]
            late = sum(op["numRowsDroppedByWatermark"] for op in dedupe)
            new = sum(op["numRowsUpdated"] for op in dedupe)
            before = self._batches.get(told["batchId"], (0, 0, 0))
            now = (told["numInputRows"], new, late)
            self._batches[told["batchId"]] = max(before, now)

    @property
    def late(self) -> int:
        return sum(late for _, _, late in self._batches.values())

    def counts(self) -> Counts:
        read = sum(rows for rows, _, _ in self._batches.values())
        new = sum(rows for _, rows, _ in self._batches.values())
        return Counts(rows_in=read, rows_out=new, rows_invalid=read - new)

    def windows(self, warehouse: Warehouse, stream: Stream) -> int:
        return warehouse.read(stream.target).select("window_start").distinct().count()
