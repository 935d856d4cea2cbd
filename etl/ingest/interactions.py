"""Rows of ratings, clicks, plays or orders -> dwd_interaction, or the reason why a row is refused."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.clock import local_day
from etl.ingest.columns import is_rating
from etl.ingest.files import DATE_IN_NAME, FileGroup
from etl.sources.lines import with_line_numbers
from etl.sources.rows import PLACE, SourceRows, read_rows
from etl.sources.times import read_time
from etl.sources.values import is_damaged_id, text_map, to_id, to_number, trimmed

MAX_ACTION_CHARS = 64
MS_A_DAY = 86_400_000
_TEXTS = ("user_id", "item_id", "action")


def read_interactions(
    spark: SparkSession, group: FileGroup, zone: str, default_action: str | None, *, is_multiline: bool
) -> DataFrame:
    """Read files of ratings.

    Args:
        spark: the session.
        group: the files.
        zone: time zone of the days.
        default_action: of rows without a column of actions; by default `rating` where there are ratings, else `click`.
        is_multiline: as for `read_rows`.

    Returns:
        The rows with their place, the columns of dwd_interaction, `dt`, `reason` (null for a valid row) and
        `column_name` (the file's column at fault).
    """
    rows = read_rows(spark, group.files, group.dialect, is_multiline=is_multiline)
    sources, decimal = group.columns.sources, group.dialect.decimal
    frame, acted_at = moment_of_rows(rows, group, zone)
    value = to_number(rows.cell(sources["value"]), decimal) if "value" in sources else F.lit(1.0)
    action = trimmed(rows.cell(sources["action"])) if "action" in sources else F.lit(default_action or action_of(group))
    parsed = frame.select(
        *PLACE,
        "fault",
        to_id(rows.cell(sources["user_id"])).alias("user_id"),
        to_id(rows.cell(sources["item_id"])).alias("item_id"),
        acted_at.alias("acted_at"),
        value.alias("value"),
        action.alias("action"),
        own_columns(rows, group.columns.others).alias("context"),
        F.lit(None).cast("string").alias("impression_id"),
    )
    # The first fault that applies is the row's reason: a row without ids has nothing else worth naming.
    reason = F.coalesce(
        "fault",
        F.when(F.col("user_id").isNull() | F.col("item_id").isNull(), "missing_field")
        .when(is_damaged_id(F.col("user_id")) | is_damaged_id(F.col("item_id")), "damaged_id")
        .when(F.col("acted_at").isNull(), "bad_time")
        .when(F.col("value").isNull(), "bad_value")
        .when(F.col("action").isNull(), "missing_field")
        .when(F.length("action") > MAX_ACTION_CHARS, "bad_action"),
    )
    return (
        parsed.withColumn("dt", local_day("acted_at", zone))
        .withColumn("event_id", _event_id(bool(group.columns.others)))
        .withColumn("reason", reason)
        .withColumn(
            "column_name", F.when(F.col("reason").isNotNull() & F.col("fault").isNull(), _column_at_fault(group))
        )
    )


def action_of(group: FileGroup) -> str:
    """The action of rows that name none: `rating` where the file has ratings, which need a threshold, else `click`."""
    value_column = group.columns.sources.get("value", "")
    return "rating" if is_rating(value_column) else "click"


def own_columns(rows: SourceRows, names: Sequence[str], texts: Mapping[str, Column] = MappingProxyType({})) -> Column:
    """A map of the columns that have no place of their own, as text; null where all are empty.

    Args:
        rows: the rows.
        names: the columns.
        texts: more texts, by their names.
    """
    values = rows.cells(names) if names else F.create_map().cast("map<string,string>")
    if texts:
        values = F.map_concat(values, text_map(texts))
    values = values.cast("map<string,string>")
    return F.when(F.size(values) > 0, values)


def moment_of_rows(rows: SourceRows, group: FileGroup, zone: str) -> tuple[DataFrame, Column]:
    """The rows, and the time of each: its own, or midnight of its day, with a millisecond for each line before it."""
    if (times := group.times.get("timestamp")) is not None:
        return rows.frame, read_time(rows.cell(group.columns.sources["timestamp"]), times, group.dialect.decimal)
    if group.day is not None:
        day = F.lit(group.day.isoformat())
    else:
        name = F.substring_index("file", "/", -1)
        day = F.concat_ws("-", *[F.regexp_extract(name, DATE_IN_NAME, part) for part in (1, 2, 3)])
    midnight = F.to_utc_timestamp(F.to_timestamp(day), zone)
    if not group.is_time_order:
        return rows.frame, midnight
    numbered = with_line_numbers(rows.lines, rows.frame)
    in_day = F.when(F.col("line_number") < MS_A_DAY, F.col("line_number"))
    return numbered, F.timestamp_millis(F.unix_millis(midnight) + in_day)


def _event_id(has_context: bool) -> Column:
    """The same for equal rows, and no other: parts are joined by a hyphen, and a hyphen within one is marked."""
    has_mark = {name: F.contains(name, F.lit("-")) | F.contains(name, F.lit("\\")) for name in _TEXTS}
    user, item, action = (
        F.when(has_mark[name], F.regexp_replace(name, r"[-\\]", r"\\$0")).otherwise(F.col(name)) for name in _TEXTS
    )
    micros = F.unix_micros("acted_at")
    seconds, fraction = (micros / 10**6).cast("bigint").cast("string"), F.lpad((micros % 10**6).cast("string"), 6, "0")
    # 1772500000 and not 1772500000.000000: most times are of whole seconds.
    at = F.when(micros % 10**6 == 0, seconds).otherwise(F.concat(seconds, F.lit("."), fraction))
    parts = [user, item, at, action, F.col("value").cast("string")]
    if has_context:
        # Two uses of an app at the same time of day differ by the weather only. A map has no hash, its pairs have.
        parts.append(F.lower(F.hex(F.xxhash64(F.array_sort(F.map_entries("context"))))))
    return F.concat_ws("-", *parts)


def _column_at_fault(group: FileGroup) -> Column:
    sources = group.columns.sources
    ids = [(F.col(name).isNull() | is_damaged_id(F.col(name)), sources[name]) for name in ("user_id", "item_id")]
    others = [
        (F.col("acted_at").isNull(), sources.get("timestamp")),
        (F.col("value").isNull(), sources.get("value")),
        (F.col("action").isNull() | (F.length("action") > MAX_ACTION_CHARS), sources.get("action")),
    ]
    column = F.lit(None).cast("string")
    for is_wrong, name in reversed([*ids, *others]):
        column = F.when(is_wrong, name).otherwise(column)
    return column
