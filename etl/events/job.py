"""Events of the site: JSON lines -> dwd_impression, dwd_interaction, ads_ctr_daily; bad lines to ods_quarantine.

An event belongs to the day of its own timestamp. Some reach the log only after midnight, so a day is computed from its
own landing folder and the next one's; loading a day therefore also loads the day before again, when that has landed.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Config, Paths
from etl.events.settings import EventSettings
from etl.session import SPARK_ERRORS
from etl.sources.lines import corrupt_file_error, landed_files, landing_day, read_lines, require_files
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import ads, dwd
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse

FIELDS = (
    "event_id string, type string, ts string, user_id string, item_id string, request_id string, "
    "impression_id string, position int, device string, value double, features map<string,double>"
)
REQUIRED = ("event_id", "type", "ts", "user_id", "item_id")
ACTIONS = ("click", "like", "purchase")
DAY = timedelta(days=1)


def run(spark: SparkSession, config: Config, days: Sequence[date]) -> dict[str, int]:
    """Load the days' events from the landing zone, and the day before them again, for its late events.

    Args:
        spark: the session.
        config: `events.*`, and the landing zone.
        days: days that follow one another.

    Returns:
        Row counts, summed over all days that were loaded.

    Raises:
        UserError: if nothing has landed for the first day, or a file is corrupt.
    """
    paths, settings = config.get(Paths), config.get(EventSettings)
    warehouse = Warehouse(spark, config)
    folder = paths.landing("events", days[0])
    day_before = days[0] - DAY
    loaded = [day_before, *days] if landed_files(paths.landing("events", day_before)) else list(days)
    with stage_run(warehouse, "events", loaded) as counts:
        require_files(landed_files(folder), folder, days)
        # And the folder after the last day: it has that day's late events.
        files = [file for day in [*loaded, loaded[-1] + DAY] for file in landed_files(paths.landing("events", day))]
        try:
            _load(warehouse, read_lines(spark, files), loaded, settings.max_line_bytes, counts)
        except SPARK_ERRORS as error:
            raise corrupt_file_error(error) or error from None
    return total_counts(counts)


def _load(
    warehouse: Warehouse, lines: DataFrame, days: list[date], max_bytes: int, counts: dict[date, RowCounts]
) -> None:
    """Write the tables of the days, and account for every line."""
    dts = [day.isoformat() for day in days]
    # Five jobs read the parsed lines: counts, impressions, interactions, quarantine and its line numbers.
    parsed = lines.transform(parse, max_bytes).persist()
    try:
        valid_counts = _count_valid(parsed, dts)
        events = parsed.where(F.col("reason").isNull() & F.col("dt").isin(dts)).transform(drop_duplicates)
        impressions = warehouse.write(dwd.impression, events.transform(to_impressions), days)
        interactions = warehouse.write(dwd.interaction, events.transform(to_interactions), days)
        # From the table, which is small, and not through the join again.
        warehouse.write(ads.ctr_daily, warehouse.read(dwd.impression, days).transform(daily_click_rate), days)
        # A bad line belongs to its landing folder's day; those of the folder after the last are that day's.
        rejected = (
            parsed.where(F.col("reason").isNotNull()).withColumn("dt", landing_day()).where(F.col("dt").isin(dts))
        )
        quarantined = quarantine.replace(warehouse, "events", lines, rejected, days)
        for day, count in counts.items():
            num_valid = valid_counts.get(day.isoformat(), 0)
            count.rows_out = impressions[day] + interactions[day]
            count.rows_invalid = num_valid - count.rows_out  # duplicates
            count.rows_quarantined = quarantined[day]
            count.rows_in = num_valid + count.rows_quarantined
            if count.rows_invalid < 0:
                raise RuntimeError(f"events {day}: {count.rows_out} rows written of {num_valid} read")
        counts[days[-1]].rows_other_date = valid_counts.get("other", 0)
    finally:
        parsed.unpersist()


def _count_valid(parsed: DataFrame, dts: list[str]) -> dict[str, int]:
    """Valid lines of each of the days; those of all other days under `other`."""
    day = F.when(F.col("dt").isin(dts), F.col("dt")).otherwise("other")
    rows = parsed.where(F.col("reason").isNull()).groupBy(day.alias("day")).count().collect()
    return {row["day"]: row["count"] for row in rows}


def parse(lines: DataFrame, max_bytes: int) -> DataFrame:
    """Parse JSON lines.

    Args:
        lines: `line` and its place, as `read_lines` returns them.
        max_bytes: a longer line is rejected as too_long, without parsing it.

    Returns:
        The lines with the event's fields, `happened_at`, its `dt`, and `reason` (null for a valid event).
    """
    is_text = (F.octet_length("line") <= max_bytes) & F.is_valid_utf8("line")
    event = F.from_json(F.when(is_text, F.col("line")), FIELDS, {"mode": "PERMISSIVE"})
    return (
        lines.withColumn("event", event)
        .select("*", "event.*")
        .withColumn("happened_at", F.try_to_timestamp("ts"))
        .withColumn("dt", F.date_format("happened_at", "yyyy-MM-dd"))
        .withColumn("reason", _reject_reason(max_bytes))
        .drop("event", "ts")
    )


def _reject_reason(max_bytes: int) -> Column:
    # Spark's permissive mode turns what is no JSON into an event without fields.
    has_no_field, lacks_field = F.coalesce(*REQUIRED).isNull(), F.concat(*REQUIRED).isNull()
    is_impression = F.col("type") == "impression"
    return (
        F.when(F.octet_length("line") > max_bytes, "too_long")
        .when(~F.is_valid_utf8("line"), "invalid_utf8")
        .when(F.trim("line") == "", "empty_line")
        .when(has_no_field, "not_json")
        .when(lacks_field, "missing_field")
        .when(~F.col("type").isin("impression", *ACTIONS), "unknown_type")
        .when(F.col("happened_at").isNull(), "bad_time")
        .when(is_impression & (F.col("position").isNull() | (F.col("position") < 1)), "bad_position")
    )


def drop_duplicates(events: DataFrame) -> DataFrame:
    """Keep the first event of each id: a sender that gets no answer sends the event again.

    Ordered by time and place in the files, so that the same one is kept each time: `dropDuplicates` keeps any.
    """
    # One shuffle, by event id.
    order = Window.partitionBy("event_id").orderBy("happened_at", "file", "id")
    return events.withColumn("n", F.row_number().over(order)).where("n = 1").drop("n")


def to_impressions(events: DataFrame) -> DataFrame:
    """Events -> dwd_impression: the impressions, with whether a click on them followed."""
    is_click = (F.col("type") == "click") & F.col("impression_id").isNotNull()
    clicked = events.where(is_click).select("impression_id").distinct().withColumn("is_clicked", F.lit(1))
    # An impression's own id is what clicks refer to.
    impressions = events.where(F.col("type") == "impression").withColumn("impression_id", F.col("event_id"))
    return (
        impressions.join(clicked, on="impression_id", how="left")
        .withColumn("is_clicked", F.coalesce("is_clicked", F.lit(0)))
        .withColumnRenamed("happened_at", "shown_at")
    )


def to_interactions(events: DataFrame) -> DataFrame:
    """Events -> dwd_interaction: clicks, likes and purchases; an action without a value has 1."""
    actions = events.where(F.col("type").isin(*ACTIONS)).withColumn("value", F.coalesce("value", F.lit(1.0)))
    return actions.withColumnsRenamed({"type": "action", "happened_at": "acted_at"})


def daily_click_rate(impressions: DataFrame) -> DataFrame:
    """dwd_impression -> ads_ctr_daily: impressions, clicks, click-through rate and users of each day."""
    clicks = F.sum("is_clicked")
    totals = [F.count("*").alias("impressions"), clicks.alias("clicks"), (clicks / F.count("*")).alias("ctr")]
    return impressions.groupBy("dt").agg(*totals, F.countDistinct("user_id").alias("users"))
