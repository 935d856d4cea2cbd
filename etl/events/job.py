"""Events of the site: JSON lines -> dwd_impression, dwd_interaction, ads_ctr_daily; refused lines to ods_quarantine.

An event belongs to the day of its own timestamp. Some reach the log only after midnight, so a day is made from its own
landing folder and the next one's; loading a day therefore also makes the day before anew, when that has landed.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Config, Paths
from etl.events.settings import EventSettings
from etl.session import SPARK_ERRORS
from etl.sources.lines import corrupt_file_error, landed_files, landing_day, read_lines, require_files
from etl.stage import Counts, stage_run, total_counts
from etl.tables import ads, dwd
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse

FIELDS = (
    "event_id string, type string, ts string, user_id string, item_id string, request_id string, "
    "impression_id string, position int, device string, value double, features map<string,double>"
)
ACTIONS = ("click", "like", "purchase")
DAY = timedelta(days=1)


def run(spark: SparkSession, config: Config, days: Sequence[date]) -> dict[str, int]:
    """Load the days' events from the landing zone; see the module on late ones."""
    paths, settings = config.get(Paths), config.get(EventSettings)
    warehouse = Warehouse(spark, config)
    folder = paths.landing("events", days[0])
    # The day before is made again: late events of it may lie among today's.
    has_eve = bool(landed_files(paths.landing("events", days[0] - DAY)))
    made = [days[0] - DAY, *days] if has_eve else list(days)
    with stage_run(warehouse, "events", made) as counts:
        require_files(landed_files(folder), folder, days)
        files = [file for day in [*made, made[-1] + DAY] for file in landed_files(paths.landing("events", day))]
        try:
            _load(warehouse, read_lines(spark, files), made, settings.max_line_bytes, counts)
        except SPARK_ERRORS as error:
            raise corrupt_file_error(error) or error from None
    return total_counts(counts)


def _load(warehouse: Warehouse, lines: DataFrame, days: list[date], max_bytes: int, counts: dict[date, Counts]) -> None:
    wanted = [day.isoformat() for day in days]
    parsed = lines.transform(lambda rows: parse(rows, max_bytes)).persist()
    try:
        seen = _tally(parsed, wanted)
        good = parsed.where(F.col("reason").isNull() & F.col("dt").isin(wanted))
        events = good.transform(first_of_each)
        impressions = warehouse.write(dwd.impression, events.transform(to_impressions), days)
        interactions = warehouse.write(dwd.interaction, events.transform(to_interactions), days)
        warehouse.write(ads.ctr_daily, warehouse.read(dwd.impression, days).transform(click_rate_per_day), days)
        # Lines that can't be read belong to the landing folder's day; those of the folder after the last wait for it.
        refused = (
            parsed.where(F.col("reason").isNotNull()).withColumn("dt", landing_day()).where(F.col("dt").isin(wanted))
        )
        refused_per_day = quarantine.replace(warehouse, "events", lines, refused, days)
        for day, count in counts.items():
            count.rows_out = impressions[day] + interactions[day]
            count.rows_invalid = seen.get(day.isoformat(), 0) - count.rows_out
            count.rows_quarantined = refused_per_day[day]
            count.rows_in = seen.get(day.isoformat(), 0) + count.rows_quarantined
            if count.rows_invalid < 0:
                raise RuntimeError(f"events {day}: {count.rows_out} rows written of {seen.get(day.isoformat())} read")
        counts[days[-1]].rows_other_date = seen.get("other", 0)
    finally:
        parsed.unpersist()


def _tally(parsed: DataFrame, wanted: list[str]) -> dict[str, int]:
    """Good lines of each wanted day; those of any other day under `other`."""
    day = F.when(F.col("dt").isin(wanted), F.col("dt")).otherwise("other")
    rows = parsed.where(F.col("reason").isNull()).groupBy(day.alias("day")).count().collect()
    return {row["day"]: row["count"] for row in rows}


def parse(lines: DataFrame, max_bytes: int) -> DataFrame:
    """Add the event's fields, `happened_at`, `dt`, and `reason` (null for an event that can be used)."""
    is_text = (F.octet_length("line") <= max_bytes) & F.is_valid_utf8("line")
    event = F.from_json(F.when(is_text, F.col("line")), FIELDS, {"mode": "PERMISSIVE"})
    return (
        lines.withColumn("event", event)
        .select("*", "event.*")
        .withColumn("happened_at", F.try_to_timestamp("ts"))
        .withColumn("dt", F.date_format("happened_at", "yyyy-MM-dd"))
        .withColumn("reason", _reason(max_bytes))
        .drop("event", "ts")
    )


def _reason(max_bytes: int) -> Column:
    needed = ("event_id", "type", "ts", "user_id", "item_id")
    has_none, lacks_one = F.coalesce(*needed).isNull(), F.concat(*needed).isNull()
    is_impression = F.col("type") == "impression"
    return (
        F.when(F.octet_length("line") > max_bytes, "too_long")
        .when(~F.is_valid_utf8("line"), "invalid_utf8")
        .when(F.trim("line") == "", "empty_line")
        .when(has_none, "not_json")
        .when(lacks_one, "missing_field")
        .when(~F.col("type").isin("impression", *ACTIONS), "unknown_type")
        .when(F.col("happened_at").isNull(), "bad_time")
        .when(is_impression & (F.col("position").isNull() | (F.col("position") < 1)), "bad_position")
    )


def first_of_each(events: DataFrame) -> DataFrame:
    """Drop the doubles of an event: the same id arrives twice when a sender tries again."""
    order = Window.partitionBy("event_id").orderBy("happened_at", "file", "id")
    return events.withColumn("nth", F.row_number().over(order)).where("nth = 1").drop("nth")


def to_impressions(events: DataFrame) -> DataFrame:
    """Events of a day -> dwd_impression: impressions with whether a click followed."""
    clicks = (
        events.where(F.col("type") == "click").select("impression_id").where("impression_id is not null").distinct()
    )
    shown = events.where(F.col("type") == "impression").withColumn("impression_id", F.col("event_id"))
    clicked = clicks.withColumn("is_clicked", F.lit(1))
    return (
        shown.join(clicked, on="impression_id", how="left")
        .withColumn("is_clicked", F.coalesce("is_clicked", F.lit(0)))
        .withColumnRenamed("happened_at", "shown_at")
    )


def to_interactions(events: DataFrame) -> DataFrame:
    """Events of a day -> dwd_interaction."""
    acts = events.where(F.col("type").isin(*ACTIONS)).withColumn("value", F.coalesce("value", F.lit(1.0)))
    return acts.withColumnsRenamed({"type": "action", "happened_at": "acted_at"})


def click_rate_per_day(impressions: DataFrame) -> DataFrame:
    """dwd_impression -> ads_ctr_daily."""
    clicks = F.sum("is_clicked")
    totals = [F.count("*").alias("impressions"), clicks.alias("clicks"), (clicks / F.count("*")).alias("ctr")]
    return impressions.groupBy("dt").agg(*totals, F.countDistinct("user_id").alias("users"))
