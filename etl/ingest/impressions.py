"""Rows of what was shown, one an item -> dwd_impression, or the reason why a row is refused."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.clock import local_day
from etl.ingest.files import FileGroup
from etl.ingest.interactions import moment_of_rows, own_columns
from etl.sources.rows import PLACE, SourceRows, read_rows
from etl.sources.values import is_damaged_id, to_id, to_number, trimmed

# libfm writes -1 for a row that is no click.
CLICKED, NOT_CLICKED = ("1", "1.0", "true", "t", "yes", "y"), ("0", "0.0", "-1", "-1.0", "false", "f", "no", "n")


def read_impressions(spark: SparkSession, group: FileGroup, zone: str, *, is_multiline: bool) -> DataFrame:
    """Read files of impressions, as a site declares them.

    Args:
        spark: the session.
        group: the files.
        zone: time zone of the days.
        is_multiline: as for `read_rows`.

    Returns:
        The rows with their place, the columns of dwd_impression, `dt`, `reason` (null for a valid row) and
        `column_name` (the file's column at fault).
    """
    rows = read_rows(spark, group.files, group.dialect, is_multiline=is_multiline)
    sources = group.columns.sources
    frame, shown_at = moment_of_rows(rows, group, zone)
    position = to_number(rows.cell(sources["position"]), group.dialect.decimal) if "position" in sources else F.lit(1)
    parsed = frame.select(
        *PLACE,
        "fault",
        to_id(rows.cell(sources["user_id"])).alias("user_id"),
        to_id(rows.cell(sources["item_id"])).alias("item_id"),
        shown_at.alias("shown_at"),
        position.cast("int").alias("position"),
        _text(rows, sources.get("device")).alias("device"),
        _text(rows, sources.get("request_id")).alias("request"),
        _click(rows.cell(sources["clicked"])).alias("is_clicked"),
        own_columns(rows, group.columns.others).alias("context"),
        F.lit(None).cast("map<string,double>").alias("features"),
    )
    faults = _faults(group)
    reason, column = F.lit(None).cast("string"), F.lit(None).cast("string")
    for is_wrong, text, name in reversed(faults):
        reason, column = F.when(is_wrong, text).otherwise(reason), F.when(is_wrong, name).otherwise(column)
    return (
        parsed.withColumn("dt", local_day("shown_at", zone))
        .withColumn("impression_id", _impression_id())
        .withColumn("request_id", F.coalesce("request", "impression_id"))
        .withColumn("reason", F.coalesce("fault", reason))
        .withColumn("column_name", F.when(F.col("fault").isNull(), column))
        .drop("request")
    )


def _faults(group: FileGroup) -> list[tuple[Column, str, str | None]]:
    """What can be wrong with a row, its reason, and the file's column."""
    sources = group.columns.sources
    return [
        *((F.col(name).isNull(), "missing_field", sources[name]) for name in ("user_id", "item_id")),
        *((is_damaged_id(F.col(name)), "damaged_id", sources[name]) for name in ("user_id", "item_id")),
        (F.col("shown_at").isNull(), "bad_time", sources.get("timestamp")),
        (F.col("is_clicked").isNull(), "bad_label", sources["clicked"]),
        (F.col("position").isNull() | (F.col("position") < 1), "bad_position", sources.get("position")),
    ]


def _click(text: Column) -> Column:
    text = F.lower(trimmed(text))
    # An empty cell is no click: many logs have a time of the click, or nothing.
    return F.when(text.isin(*CLICKED), 1).when(text.isNull() | text.isin(*NOT_CLICKED), 0)


def _text(rows: SourceRows, name: str | None) -> Column:
    return F.lit(None).cast("string") if name is None else trimmed(rows.cell(name))


def _impression_id() -> Column:
    """The same for equal rows, and no other: a hash of 128 bits of all that a row has."""
    parts = ["user_id", "item_id", "request", "device", "position", "is_clicked"]
    # A length before each text, so that no two rows are joined to the same one; a map has no hash, its pairs have.
    texts = [F.concat_ws(":", F.length(F.col(name).cast("string")), F.col(name).cast("string")) for name in parts]
    at = F.unix_micros("shown_at").cast("string")
    pairs = F.to_json(F.array_sort(F.map_entries("context")))
    return F.substring(F.sha2(F.concat_ws("|", *texts, at, F.coalesce(pairs, F.lit(""))), 256), 1, 32)
