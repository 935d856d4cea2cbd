"""Ratings of another system into dwd_interaction, dim_user and dim_item: `millrace ingest interactions`.

Formats: `recbole` (tab-separated, header `name:type`), `movielens` (`::` without header), `movielens-csv`, and `events`
(a CSV with user_id, item_id, action, value, timestamp). Each rating becomes an interaction of the day of its timestamp.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Config, UserError
from etl.clock import local_day
from etl.ingest.formats import FORMATS, REQUIRED, FileFormat
from etl.session import SPARK_ERRORS
from etl.settings import SiteSettings
from etl.sources.lines import NUMBER, WHITESPACE, corrupt_file_error, read_lines
from etl.stage import RowCounts, stage_run, total_counts
from etl.table import Table
from etl.tables import dim, dwd, ods
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse

ACTIONS = ("click", "like", "purchase", "rating")
# Columns of the files of users and items that become attributes.
ATTRIBUTES = ("gender", "age", "city", "title", "category", "release_year")
# Exclusive, 2100-01-01: as seconds, milliseconds since 1970 would be a year of five digits.
END_S = 4_102_444_800

# Upper bounds (exclusive) of the age groups, as the simulated site has them.
AGE_BOUNDS = ((25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (1000, "55+"))


def run(
    spark: SparkSession, config: Config, *, ratings: Path, items: Path | None, users: Path | None, format_name: str
) -> dict[str, object]:
    """Load files that passed `check_files`; bad rows go to ods_quarantine.

    All files are read, and all rows checked, before the first table changes.

    Args:
        spark: the session.
        config: where the warehouse is, and `site.timezone`.
        ratings: the interactions; every day of their timestamps is replaced.
        items: attributes of items, for dim_item of the last day.
        users: attributes of users, for dim_user of the last day.
        format_name: one of `FORMATS`, for all three files.

    Returns:
        First and last day, and the row counts of all files.

    Raises:
        UserError: if no row of `ratings` is valid, or a file is corrupt.
    """
    layout, zone = FORMATS[format_name], config.get(SiteSettings).zone
    warehouse = Warehouse(spark, config)
    lines = read_lines(spark, [str(ratings.resolve())])
    # Persisted: the days, the counts, the table, the quarantine and both dimensions read it.
    parsed = lines.transform(parse, layout, layout.column_names(ratings, "ratings"), zone).persist()
    try:
        valid = parsed.where("reason is null")
        num_valid = {date.fromisoformat(row["dt"]): row["count"] for row in valid.groupBy("dt").count().collect()}
        if not num_valid:
            raise UserError(f"{ratings}: no row that can be read")
        days = sorted(num_valid)
        with stage_run(warehouse, "ingest", days) as counts:
            attributes = [
                _read_attributes(spark, dim.user, "user_id", users, layout),
                _read_attributes(spark, dim.item, "item_id", items, layout),
            ]
            with warehouse.whole_or_nothing():
                written = warehouse.write(dwd.interaction, _first_of_each(valid, "event_id"), days)
                for day, count in counts.items():
                    count.rows_out, count.rows_invalid = written[day], num_valid[day] - written[day]
                for file in attributes:
                    ids = valid.select(file.key).distinct()
                    _write_dimension(warehouse, days[-1], file, ids, counts[days[-1]], zone)
            # After the swaps: until then other stages may add to the quarantine's partition.
            refused = [_Lines(lines, parsed.where("reason is not null"))]
            refused += [file.refused for file in attributes if file.refused is not None]
            counts[days[-1]].rows_quarantined = _quarantine(warehouse, refused, days[-1])
            for count in counts.values():
                count.rows_in = count.rows_out + count.rows_invalid + count.rows_quarantined
            return {"first_day": str(days[0]), "last_day": str(days[-1]), **total_counts(counts)}
    except SPARK_ERRORS as error:
        raise corrupt_file_error(error) or error from None
    finally:
        parsed.unpersist()


@dataclass(frozen=True)
class _Lines:
    """Lines of a file, and those of them that are refused."""

    lines: DataFrame
    rejected: DataFrame


@dataclass(frozen=True)
class _Attributes:
    """A file of users or items: the dimension that it is for, the column of its key, and its lines, if there is one."""

    table: Table
    key: str
    valid: DataFrame | None = None
    refused: _Lines | None = None


def _quarantine(warehouse: Warehouse, files: Sequence[_Lines], day: date) -> int:
    """Quarantine the refused lines of all files under `day`: a line without a day of its own can have no other."""
    lines = reduce(DataFrame.unionByName, [file.lines for file in files])
    columns = ("line", "file", "block", "id", "reason")
    rejected = reduce(DataFrame.unionByName, [file.rejected.select(*columns) for file in files])
    return quarantine.replace(warehouse, "ingest", lines, ods.quarantine.with_partition(rejected, day), [day])[day]


def parse(lines: DataFrame, layout: FileFormat, names: Sequence[str], zone: str) -> DataFrame:
    """Parse lines of ratings; the header is dropped.

    Args:
        lines: `line` and its place, as `read_lines` returns them.
        layout: the file's format.
        names: its columns, as the warehouse calls them.
        zone: time zone of the days.

    Returns:
        The lines with the columns of dwd_interaction, `dt`, and `reason` (null for a valid row).
    """
    rows = _split(lines, layout, names, [name for name in names if name in (*REQUIRED, "value", "action")])
    rows = rows.withColumns(
        {
            "acted_at": F.timestamp_seconds(_seconds()),
            "value": _number("value") if "value" in names else F.lit(1.0),
            "action": F.col("action") if "action" in names else F.lit("rating"),
        }
    )
    # A hyphen within an id is marked: ("a-b", "c") and ("a", "b-c") are two events.
    parts = [F.regexp_replace(name, r"[-\\]", r"\\$0") for name in ("user_id", "item_id")]
    return (
        rows.withColumn("dt", local_day("acted_at", zone))
        .withColumn("event_id", F.concat_ws("-", *parts, "timestamp", "action"))
        .withColumn("impression_id", F.lit(None).cast("string"))
        .withColumn("reason", F.coalesce("fault", _reject_reason()))
    )


def _split(lines: DataFrame, layout: FileFormat, names: Sequence[str], used: Sequence[str]) -> DataFrame:
    """Lines without the header, with the columns `used` as trimmed text, and `fault` of those that can't be split."""
    # Split by a regular expression, in which none of the formats' separators is special.
    cells = F.split("line", layout.separator)
    columns = {name: F.get("cells", F.lit(names.index(name))) for name in used}
    rows = lines.withColumn("cells", cells).withColumns(
        {name: F.nullif(F.btrim(cell, F.lit(WHITESPACE)), F.lit("")) for name, cell in columns.items()}
    )
    if not layout.names:
        rows = rows.where(~((F.col("block") == 0) & F.col("line").startswith(_first_cell(lines, layout))))
    # More cells than columns are no fault: a separator in the last text.
    fault = F.when(~F.is_valid_utf8("line"), "invalid_utf8").when(F.size("cells") < len(names), "missing_field")
    return rows.withColumn("fault", fault).drop("cells")


def _first_cell(lines: DataFrame, layout: FileFormat) -> str:
    """The header's first cell with its separator, by which the header is recognised among the lines."""
    first = lines.where(F.col("block") == 0).orderBy("id").first()
    return str(first["line"]).split(layout.separator)[0] + layout.separator if first else "\0"


def _number(name: str) -> Column:
    """The column as a finite number, null where it is none."""
    number = F.when(F.rlike(name, F.lit(NUMBER)), F.col(name).cast("double"))
    return F.when(F.abs(number) < float("inf"), number)


def _seconds() -> Column:
    seconds = _number("timestamp")
    return F.when((seconds >= 0) & (seconds < END_S), seconds)


def _reject_reason() -> Column:
    return (
        F.when(F.col("user_id").isNull() | F.col("item_id").isNull(), "missing_field")
        .when(F.col("acted_at").isNull(), "bad_time")
        .when(F.col("value").isNull(), "bad_value")
        .when(~F.coalesce(F.col("action").isin(*ACTIONS), F.lit(False)), "unknown_action")
    )


def _first_of_each(rows: DataFrame, key: str) -> DataFrame:
    """The first row of each key, in the order of the file: `dropDuplicates` keeps any."""
    order = Window.partitionBy(key).orderBy("block", "id")
    return rows.withColumn("n", F.row_number().over(order)).where("n = 1").drop("n")


def _read_attributes(spark: SparkSession, table: Table, key: str, path: Path | None, layout: FileFormat) -> _Attributes:
    if path is None:
        return _Attributes(table, key)
    lines, names = read_lines(spark, [str(path.resolve())]), layout.column_names(path, f"{key.removesuffix('_id')}s")
    rows = _split(lines, layout, names, [name for name in names if name in (key, *ATTRIBUTES)])
    rows = rows.withColumn("reason", F.coalesce("fault", F.when(F.col(key).isNull(), "missing_field")))
    return _Attributes(table, key, rows.where("reason is null"), _Lines(lines, rows.where("reason is not null")))


def _write_dimension(
    warehouse: Warehouse, day: date, file: _Attributes, ids: DataFrame, count: RowCounts, zone: str
) -> None:
    """Write dim_user or dim_item: the attributes of the file, and a row without attributes for every other id."""
    rows = ids
    if file.valid is not None:
        distinct = _first_of_each(file.valid, file.key)
        num_rows, num_distinct = file.valid.count(), distinct.count()
        count.rows_out += num_distinct
        count.rows_invalid += num_rows - num_distinct
        # Full: rated items without attributes, and items that nobody rated yet.
        rows = ids.join(distinct, on=file.key, how="full")
    attributes = _select_users(rows) if file.table is dim.user else _select_items(rows, zone)
    warehouse.write(file.table, file.table.with_partition(attributes, day), [day])


def _select_users(rows: DataFrame) -> DataFrame:
    age = F.expr("try_cast(age as int)") if "age" in rows.columns else F.lit(None).cast("int")
    age_group = F.lit(None).cast("string")
    for limit, name in reversed(AGE_BOUNDS):
        age_group = F.when(age < limit, name).otherwise(age_group)
    return rows.select(
        "user_id",
        _text_column(rows, "gender").alias("gender"),
        age_group.alias("age_group"),
        _text_column(rows, "city").alias("city"),
        F.lit(None).cast("timestamp").alias("registered_at"),
    )


def _select_items(rows: DataFrame, zone: str) -> DataFrame:
    # The first genre is the category: MovieLens separates genres by |, RecBole by blanks.
    category = F.substring_index(F.regexp_replace(_text_column(rows, "category"), r"\|", " "), " ", 1)
    # Only the year is known: the first moment of it by the site's clock.
    new_year = F.try_to_timestamp(F.concat(_text_column(rows, "release_year"), F.lit("-01-01")), F.lit("yyyy-MM-dd"))
    return rows.select(
        "item_id",
        _text_column(rows, "title").alias("title"),
        category.alias("category"),
        F.lit(None).cast("string").alias("author"),
        F.to_utc_timestamp(new_year, zone).alias("published_at"),
    )


def _text_column(rows: DataFrame, name: str) -> Column:
    return F.col(name) if name in rows.columns else F.lit(None).cast("string")
