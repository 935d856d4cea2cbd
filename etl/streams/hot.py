"""Hottest topics and products over a sliding window: `millrace etl stream hot-topics [--once]`.

A window is written once it is final: when the events' time has passed its end by the watermark. Each batch replaces
its windows in their day's partition, and Spark repeats an unfinished batch after a kill: every window is there exactly
once. A line is valid by the rules of the daily load (`etl/sources/json_lines.py`); others are counted by reason.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from conf import Config, Paths, UserError
from conf.machine.processes import stop_signals
from conf.paths import file_url
from etl.clock import local_day
from etl.events.parse import EVENT_REASONS, parse_events
from etl.events.settings import EventSettings
from etl.session import SPARK_ERRORS
from etl.settings import SiteSettings
from etl.sources.json_lines import (
    REASONS,
    LineFormat,
    field_fault,
    future_fault,
    line_fault,
    read_objects,
    time_fault,
)
from etl.stage import RowCounts, stage_run, total_counts
from etl.streams.settings import StreamSettings
from etl.table import Table
from etl.tables import ads
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

POLL_S = 1
SHARDS = 8
_REFUSED = "refused"  # Spark's name of the counts of refused lines


@dataclass(frozen=True)
class Stream:
    """What is read, what of an event is counted, and where the ranking goes."""

    source: str
    """Folder of the landing zone, and default name of the Kafka topic."""
    parse: Callable[[DataFrame, EventSettings, str], DataFrame]
    """Lines -> events and, with their `reason`, refused lines; settings and the time zone of the days."""
    reasons: tuple[str, ...]
    event_id: str
    """The column by which duplicates of an event are recognised."""
    explode_keys: Callable[[DataFrame], DataFrame]
    """Events -> the same with `key`, one row for each thing to count."""
    target: Table
    key_column: str
    """The target's column for the key."""


TEXT = LineFormat(
    "text_id: string, ts: string, text: string", ids=("text_id",), texts=("text",), required=("text_id", "ts", "text")
)


def parse_texts(lines: DataFrame, settings: EventSettings, zone: str) -> DataFrame:
    """Parse lines of texts as `etl.events.parse.parse_events` does those of events."""
    limit = settings.max_line_bytes
    reason = F.coalesce(line_fault(limit), field_fault(TEXT), time_fault(), future_fault())
    return read_objects(lines, TEXT, limit, zone).withColumn("reason", reason)


def explode_topics(texts: DataFrame) -> DataFrame:
    """One row per distinct #topic# of a text; `key` is the topic without surrounding blanks."""
    topics = F.regexp_extract_all("text", F.lit(r"#([^#\s][^#]*)#"), F.lit(1))
    trimmed = F.transform(topics, lambda topic: F.trim(topic))
    return texts.select("*", F.explode(F.array_distinct(F.filter(trimmed, lambda topic: topic != ""))).alias("key"))


def select_actions(events: DataFrame) -> DataFrame:
    """Clicks, likes and purchases, without impressions; `key` is the item."""
    is_action = F.col("type").isin("click", "like", "purchase")
    return events.where(is_action).withColumn("key", F.col("item_id"))


STREAMS: dict[str, Stream] = {
    "hot-topics": Stream("texts", parse_texts, REASONS, "text_id", explode_topics, ads.hot_topic, "topic"),
    "hot-products": Stream(
        "events", parse_events, EVENT_REASONS, "event_id", select_actions, ads.hot_product, "item_id"
    ),
}


def run(spark: SparkSession, config: Config, name: str, *, once: bool) -> dict[str, int]:
    """Count the events that have landed and, unless `once`, go on with new ones, until SIGTERM or Ctrl-C.

    Args:
        spark: the session.
        config: `stream.*`, `site.timezone`, and the landing zone.
        name: one of `STREAMS`.
        once: stop after the events that have landed by now.

    Returns:
        The row of `ops_run`: rows in are lines read, out events counted, invalid those refused, too late or duplicated;
        with `rows_refused` and `rows_late` among these, and the number of `windows` in the table.

    Raises:
        UserError: if Kafka is set but Spark lacks its package, or the stream fails.
    """
    stream, warehouse = STREAMS[name], Warehouse(spark, config)
    today = config.get(SiteSettings).today()
    with stage_run(warehouse, name, [today]) as counts, stop_signals() as signals:
        query = _start(spark, config, warehouse, name, once)
        # Polled, because a signal does not end the wait in the JVM.
        progress = _Progress(stream.reasons)
        while not query.awaitTermination(POLL_S):
            progress.update(query)
            if signals:
                query.stop()
        progress.update(query)
        if error := query.exception():
            raise UserError(f"{name} stopped: {str(error).strip().splitlines()[0]}")
        counts[today], rows_late = progress.totals()
    refused = progress.refused()
    if refused:
        log.warning("%s: refused lines: %s", name, ", ".join(f"{count} {reason}" for reason, count in refused.items()))
    # All windows of the table, those of earlier runs included.
    windows = warehouse.read(stream.target).select("window_start").distinct().count()
    return {
        **total_counts(counts),
        "rows_refused": sum(refused.values()),
        "rows_late": rows_late,
        "windows": windows,
    }


@contextmanager
def running(spark: SparkSession, config: Config, name: str) -> Iterator[StreamingQuery]:
    """The stream in the background while the block runs, for measurements; yields its query."""
    query = _start(spark, config, Warehouse(spark, config), name, once=False)
    try:
        yield query
    finally:
        query.stop()


def _start(spark: SparkSession, config: Config, warehouse: Warehouse, name: str, once: bool) -> StreamingQuery:
    stream, settings, zone = STREAMS[name], config.get(StreamSettings), config.get(SiteSettings).zone
    warehouse.ensure(stream.target)
    parsed = stream.parse(_read_lines(spark, config, stream), config.get(EventSettings), zone)
    num_refused = [F.count_if(F.col("reason") == reason).alias(reason) for reason in stream.reasons]
    valid = parsed.observe(_REFUSED, *num_refused).where("reason is null")
    counted = valid.transform(count_keys, stream, settings)
    # Append: a window reaches the writer once, when the watermark has passed its end.
    writer: Any = counted.writeStream.queryName(name).outputMode("append")
    # Ranked per batch: windows over a stream can only be by time.
    writer = writer.foreachBatch(
        lambda batch, _: replace_windows(warehouse, stream, rank_keys(batch, stream.key_column, settings.top, zone))
    )
    # Offsets and window states are here: without the checkpoint everything would be read again.
    writer = writer.option("checkpointLocation", file_url(config.get(Paths).root / "streams" / name))
    writer = writer.trigger(availableNow=True) if once else writer.trigger(processingTime=settings.trigger)
    query: StreamingQuery = writer.start()
    return query


def _read_lines(spark: SparkSession, config: Config, stream: Stream) -> DataFrame:
    """The stream's `line` and `file`: from files of the landing zone, which appear whole, or a Kafka topic."""
    settings = config.get(StreamSettings)
    if settings.kafka_servers:
        return _read_kafka(spark, settings.kafka_servers, settings.kafka_topic or stream.source)
    folder = config.get(Paths).root / "landing" / stream.source
    folder.mkdir(parents=True, exist_ok=True)
    reader = spark.readStream.format("text").option("maxFilesPerTrigger", settings.files_per_batch)
    # Folders of days, and below them, where collected, of hours and hosts. As in `read_lines`, only \n ends a line.
    lines = reader.option("recursiveFileLookup", "true").option("lineSep", "\n").load(file_url(folder))
    return lines.select(F.col("value").alias("line"), F.col("_metadata.file_path").alias("file"))


def _read_kafka(spark: SparkSession, servers: str, topic: str) -> DataFrame:
    reader = spark.readStream.format("kafka").option("kafka.bootstrap.servers", servers).option("subscribe", topic)
    try:
        messages = reader.option("startingOffsets", "earliest").load()
    except SPARK_ERRORS as error:
        raise UserError(
            "Spark has no Kafka source: name its package, org.apache.spark:spark-sql-kafka-0-10_2.13, in "
            f"spark.extra as spark.jars.packages: {str(error).strip().splitlines()[0]}"
        ) from None
    return messages.select(F.col("value").cast("string").alias("line"), F.lit("").alias("file"))


def count_keys(events: DataFrame, stream: Stream, settings: StreamSettings) -> DataFrame:
    """Count events per window and key; duplicates count once, events later than the watermark are dropped.

    Args:
        events: a stream of valid rows, as `stream.parse` returns them.
        stream: what is counted.
        settings: window, slide and watermark.

    Returns:
        window, key, count: one row when a window is final.
    """
    timed = events.withColumnRenamed("happened_at", "at")
    # State grows with the watermark, not with the stream: ids are forgotten after it.
    distinct = timed.withWatermark("at", settings.watermark).dropDuplicatesWithinWatermark([stream.event_id])
    window = F.window("at", settings.window, settings.slide).alias("window")
    return distinct.transform(stream.explode_keys).groupBy(window, "key").agg(F.count("*").alias("count"))


def rank_keys(counted: DataFrame, key_column: str, top: int, zone: str) -> DataFrame:
    """The `top` keys of each window by count, ties by key.

    Ranked within shards of the keys first, then over all: one task never sorts all keys of a window.

    Args:
        counted: window, key, count.
        key_column: name of the key in the result.
        top: the last rank.
        zone: by whose clocks a window's start has its day.

    Returns:
        Rows of the target table, with `dt` of the window's start.
    """
    order = (F.desc("count"), F.asc("key"))
    shard = F.pmod(F.xxhash64("key"), F.lit(SHARDS))
    in_shard = Window.partitionBy("window", "shard").orderBy(*order)
    in_window = Window.partitionBy("window").orderBy(*order)
    return (
        # The state of a stream that runs since before such lines were refused may have counted an action without item.
        counted.where(F.col("key").isNotNull())
        .withColumn("shard", shard)
        .withColumn("shard_rank", F.row_number().over(in_shard))
        .where(F.col("shard_rank") <= top)
        .withColumn("rank", F.row_number().over(in_window))
        .where(F.col("rank") <= top)
        .select(
            F.col("window.start").alias("window_start"),
            F.col("window.end").alias("window_end"),
            "rank",
            F.col("key").alias(key_column),
            "count",
            local_day("window.start", zone).alias("dt"),
        )
    )


def replace_windows(warehouse: Warehouse, stream: Stream, ranked: DataFrame) -> None:
    """Put final windows into their days' partitions, in place of the same windows of an earlier attempt.

    Args:
        warehouse: where the target is.
        stream: names the target.
        ranked: all rows of the windows, as `rank_keys` returns them.
    """
    ranked = ranked.persist()
    try:
        days = sorted(date.fromisoformat(row["dt"]) for row in ranked.select("dt").distinct().collect())
        if not days:
            return
        before = warehouse.read(stream.target, days)
        window = ["window_start", "window_end"]
        others = before.join(ranked.select(*window).distinct(), on=window, how="left_anti")
        warehouse.write(stream.target, others.select(*ranked.columns).unionByName(ranked), days)
    finally:
        ranked.unpersist()


class _BatchCounts(NamedTuple):
    rows_read: int
    rows_distinct: int
    rows_late: int
    refused: tuple[int, ...] = ()  # by reason


@dataclass
class _Progress:
    """Row counts of a query's batches. Spark keeps only the newest reports, so they are gathered while it runs."""

    reasons: tuple[str, ...]
    batches: dict[int, _BatchCounts] = field(default_factory=dict)  # by Spark's number of the batch

    def update(self, query: StreamingQuery) -> None:
        for report in query.recentProgress:
            dedupe = [operator for operator in report["stateOperators"] if "dedupe" in operator["operatorName"]]
            batch = _BatchCounts(
                rows_read=report["numInputRows"],
                rows_distinct=sum(operator["numRowsUpdated"] for operator in dedupe),
                rows_late=sum(operator["numRowsDroppedByWatermark"] for operator in dedupe),
                refused=tuple(report["observedMetrics"].get(_REFUSED, ())),
            )
            # Deduplication sees every event: rows that it updates are new, rows that it drops are late.
            # A batch is reported again with zeros while the query waits for events.
            self.batches[report["batchId"]] = max(self.batches.get(report["batchId"], _BatchCounts(0, 0, 0)), batch)

    def totals(self) -> tuple[RowCounts, int]:
        """Counts of all batches, and how many events came too late."""
        rows_read = sum(batch.rows_read for batch in self.batches.values())
        rows_distinct = sum(batch.rows_distinct for batch in self.batches.values())
        counts = RowCounts(rows_in=rows_read, rows_out=rows_distinct, rows_invalid=rows_read - rows_distinct)
        return counts, sum(batch.rows_late for batch in self.batches.values())

    def refused(self) -> dict[str, int]:
        """Reason -> lines of all batches, without those that no line was refused for."""
        counts = Counter[str]()
        for batch in self.batches.values():
            counts.update(dict(zip(self.reasons, batch.refused, strict=False)))
        return {reason: count for reason, count in counts.items() if count}
