"""Rows of what was shown, one an item or a list -> dwd_impression, or the reason why a row is refused."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.clock import local_day
from etl.ingest.files import FileGroup
from etl.ingest.interactions import moment_of_rows, own_columns
from etl.sources.rows import PLACE, SourceRows, read_rows
from etl.sources.values import is_damaged_id, to_id, to_list_parts, to_number, to_yes_no, trimmed

LABELLED = r"^(.*)-([^-]+)$"  # an item of a list, and whether it was clicked


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
        *_propensity(rows, group),
        *_shown(rows, group),
    )
    if group.list_separator is not None:
        parsed = _of_lists(lists, has_labels=group.has_clicks and "chosen" not in sources)
    else:
        is_clicked = to_yes_no(F.col("is_clicked"), group.click_from, group.dialect.decimal)
        parsed = lists.withColumns({"item_id": to_id(F.col("item_id")), "is_clicked": is_clicked})
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
        .drop("request", "has_bad_propensity")
    )


def _shown(rows: SourceRows, group: FileGroup) -> list[Column]:
    """item_id, is_clicked and position of a row as text, or the `entries` of a list and which ones were `chosen`."""
    sources, item = group.columns.sources, rows.cell(group.columns.sources["item_id"])
    if group.list_separator is not None:
        cell = rows.cell(sources["chosen"]) if "chosen" in sources else F.lit(None).cast("string")
        chosen = to_list_parts(trimmed(cell), group.list_separator)
        return [
            to_list_parts(trimmed(item), group.list_separator).alias("entries"),
            F.coalesce(chosen, F.array().cast("array<string>")).alias("chosen"),
        ]
    position = to_number(rows.cell(sources["position"]), group.dialect.decimal) if "position" in sources else F.lit(1)
    return [
        item.alias("item_id"),
        # Where acts are the clicks, none is known yet.
        (rows.cell(sources["clicked"]) if group.has_clicks else F.lit("0")).alias("is_clicked"),
        position.cast("int").alias("position"),
    ]


def _propensity(rows: SourceRows, group: FileGroup) -> list[Column]:
    """The propensity, and whether its cell has anything else than a probability above 0."""
    source = group.columns.sources.get("propensity")
    if source is None:
        return [F.lit(None).cast("double").alias("propensity"), F.lit(False).alias("has_bad_propensity")]
    number = to_number(rows.cell(source), group.dialect.decimal)
    is_probability = (number > 0) & (number <= 1)
    is_bad = trimmed(rows.cell(source)).isNotNull() & ~F.coalesce(is_probability, F.lit(False))
    return [number.alias("propensity"), is_bad.alias("has_bad_propensity")]


def _of_lists(lists: DataFrame, *, has_labels: bool) -> DataFrame:
    """A row for each item of a list; one without item for an empty list, which is refused.

    Args:
        lists: with `entries` and `chosen`.
        has_labels: whether each entry says itself if it was clicked, as `N138-1`; else `chosen` does.
    """
    rows = lists.select("*", F.posexplode_outer("entries").alias("place", "entry")).drop("entries")
    item_id, is_clicked = to_id(F.col("entry")), F.array_contains("chosen", F.col("entry")).cast("int")
    if has_labels:
        label = F.regexp_extract("entry", LABELLED, 2)
        # Without a label, nothing says that there was no click.
        item_id, is_clicked = to_id(F.regexp_extract("entry", LABELLED, 1)), F.when(label != "", to_yes_no(label))
    position = F.coalesce(F.col("place"), F.lit(0)) + 1
    return rows.withColumns({"item_id": item_id, "is_clicked": is_clicked, "position": position}).drop(
        "place", "entry", "chosen"
    )


def _faults(group: FileGroup) -> list[tuple[Column, str, str | None]]:
    """What can be wrong with a row, its reason, and the file's column."""
    sources = group.columns.sources
    return [
        *((F.col(name).isNull(), "missing_field", sources[name]) for name in ("user_id", "item_id")),
        *((is_damaged_id(F.col(name)), "damaged_id", sources[name]) for name in ("user_id", "item_id")),
        (F.col("shown_at").isNull(), "bad_time", sources.get("timestamp")),
        (F.col("is_clicked").isNull(), "bad_label", sources.get("clicked", sources["item_id"])),
        (F.col("position").isNull() | (F.col("position") < 1), "bad_position", sources.get("position")),
        (F.col("has_bad_propensity"), "bad_propensity", sources.get("propensity")),
    ]


def _impression_id() -> Column:
    """The same for equal rows, and no other: a hash of 128 bits of all that a row has."""
    parts = ["user_id", "item_id", "request", "device", "position", "is_clicked"]
    # A length before each text, so that no two rows are joined to the same one; a map has no hash, its pairs have.
    texts = [F.concat_ws(":", F.length(F.col(name).cast("string")), F.col(name).cast("string")) for name in parts]
    # Of a row without a propensity nothing is joined: it has the id that it had before there were any.
    texts.append(F.concat(F.lit("p"), F.col("propensity").cast("string")))
    at = F.unix_micros("shown_at").cast("string")
    pairs = F.to_json(F.array_sort(F.map_entries("context")))
    return F.substring(F.sha2(F.concat_ws("|", *texts, at, F.coalesce(pairs, F.lit(""))), 256), 1, 32)
