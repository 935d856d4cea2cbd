"""Rows of what was shown, one an item or a list -> dwd_impression, or the reason why a row is refused."""

import re

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.clock import local_day
from etl.ingest.files import FileGroup
from etl.ingest.interactions import moment_of_rows, own_columns
from etl.sources.rows import PLACE, SourceRows, read_rows
from etl.sources.values import is_damaged_id, to_id, to_number, trimmed

LABELLED = r"^(.*)-([^-]+)$"  # an item of a list, and whether it was clicked

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
    lists = frame.select(
        *PLACE,
        "fault",
        to_id(rows.cell(sources["user_id"])).alias("user_id"),
        shown_at.alias("shown_at"),
        rows.text(sources.get("device")).alias("device"),
        rows.text(sources.get("request_id")).alias("request"),
        own_columns(rows, group.columns.others).alias("context"),
        F.lit(None).cast("map<string,double>").alias("features"),
        *_shown(rows, group),
    )
    if group.list_separator is not None:
        parsed = _of_lists(lists)
    else:
        parsed = lists.withColumns({"item_id": to_id(F.col("item_id")), "is_clicked": _click(F.col("is_clicked"))})
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


def _shown(rows: SourceRows, group: FileGroup) -> list[Column]:
    """item_id, is_clicked and position of a row as text, or `entries` of a list."""
    sources, item = group.columns.sources, rows.cell(group.columns.sources["item_id"])
    if group.list_separator is not None:
        entries = F.filter(F.split(trimmed(item), re.escape(group.list_separator)), lambda entry: entry != "")
        return [entries.alias("entries")]
    position = to_number(rows.cell(sources["position"]), group.dialect.decimal) if "position" in sources else F.lit(1)
    return [
        item.alias("item_id"),
        rows.cell(sources["clicked"]).alias("is_clicked"),
        position.cast("int").alias("position"),
    ]


def _of_lists(lists: DataFrame) -> DataFrame:
    """A row for each item of a list; one without item for an empty list, which is refused."""
    rows = lists.select("*", F.posexplode_outer("entries").alias("place", "entry")).drop("entries")
    label = F.regexp_extract("entry", LABELLED, 2)
    return rows.withColumns(
        {
            "item_id": to_id(F.regexp_extract("entry", LABELLED, 1)),
            # Without a label, nothing says that there was no click.
            "is_clicked": F.when(label != "", _click(label)),
            "position": F.coalesce(F.col("place"), F.lit(0)) + 1,
        }
    ).drop("place", "entry")


def _faults(group: FileGroup) -> list[tuple[Column, str, str | None]]:
    """What can be wrong with a row, its reason, and the file's column."""
    sources = group.columns.sources
    return [
        *((F.col(name).isNull(), "missing_field", sources[name]) for name in ("user_id", "item_id")),
        *((is_damaged_id(F.col(name)), "damaged_id", sources[name]) for name in ("user_id", "item_id")),
        (F.col("shown_at").isNull(), "bad_time", sources.get("timestamp")),
        (F.col("is_clicked").isNull(), "bad_label", sources.get("clicked", sources["item_id"])),
        (F.col("position").isNull() | (F.col("position") < 1), "bad_position", sources.get("position")),
    ]


def _click(text: Column) -> Column:
    text = F.lower(trimmed(text))
    # An empty cell is no click: many logs have a time of the click, or nothing.
    return F.when(text.isin(*CLICKED), 1).when(text.isNull() | text.isin(*NOT_CLICKED), 0)


def _impression_id() -> Column:
    """The same for equal rows, and no other: a hash of 128 bits of all that a row has."""
    parts = ["user_id", "item_id", "request", "device", "position", "is_clicked"]
    # A length before each text, so that no two rows are joined to the same one; a map has no hash, its pairs have.
    texts = [F.concat_ws(":", F.length(F.col(name).cast("string")), F.col(name).cast("string")) for name in parts]
    at = F.unix_micros("shown_at").cast("string")
    pairs = F.to_json(F.array_sort(F.map_entries("context")))
    return F.substring(F.sha2(F.concat_ws("|", *texts, at, F.coalesce(pairs, F.lit(""))), 256), 1, 32)
