"""Ratings of another system into dwd_interaction, dim_user and dim_item: `millrace ingest interactions`.

Formats: `recbole` (tab-separated, header `name:type`), `movielens` (`::` without header), `movielens-csv`, and `events`
(a CSV with user_id, item_id, action, value, timestamp). Each rating becomes an interaction of the day of its timestamp.
"""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from etl.ingest.formats import FORMATS, FileFormat
from etl.sources.lines import read_lines
from etl.stage import RowCounts, stage_run, total_counts
from etl.table import Table
from etl.tables import dim, dwd, ods
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse

# Upper bounds (exclusive) of the age groups, as the simulated site has them.
AGE_BOUNDS = ((25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (1000, "55+"))


def run(
    spark: SparkSession, config: Config, *, ratings: Path, items: Path | None, users: Path | None, format_name: str
) -> dict[str, object]:
    """Load files that passed `check_files`; bad rows go to ods_quarantine.

    Args:
        spark: the session.
        config: where the warehouse is.
        ratings: the interactions; every day of their timestamps is replaced.
        items: attributes of items, for dim_item of the last day.
        users: attributes of users, for dim_user of the last day.
        format_name: one of `FORMATS`, for all three files.

    Returns:
        First and last day, and row counts.

    Raises:
        UserError: if no row of `ratings` is valid.
    """
    layout = FORMATS[format_name]
    warehouse = Warehouse(spark, config)
    lines = read_lines(spark, [str(ratings.resolve())])
    # Persisted: the days, the counts, the table, the quarantine and both dimensions read it.
    parsed = lines.transform(parse, layout, layout.column_names(ratings)).persist()
    try:
        valid = parsed.where("reason is null")
        days = sorted(date.fromisoformat(row["dt"]) for row in valid.select("dt").distinct().collect())
        if not days:
            raise UserError(f"{ratings}: no row that can be read")
        with stage_run(warehouse, "ingest", days) as counts:
            _write_interactions(warehouse, lines, parsed, days, counts)
        last = days[-1]
        _write_dimension(warehouse, last, dim.user, valid.select("user_id").distinct(), users, layout)
        _write_dimension(warehouse, last, dim.item, valid.select("item_id").distinct(), items, layout)
        return {"first_day": str(days[0]), "last_day": str(last), **total_counts(counts)}
    finally:
        parsed.unpersist()


def _write_interactions(
    warehouse: Warehouse, lines: DataFrame, parsed: DataFrame, days: list[date], counts: dict[date, RowCounts]
) -> None:
    valid = parsed.where("reason is null")
    # One row per user, item, time and action.
    written = warehouse.write(dwd.interaction, valid.dropDuplicates(["event_id"]), days)
    num_valid = {row["dt"]: row["count"] for row in valid.groupBy("dt").count().collect()}
    # Lines without a date of their own are counted under the last day.
    rejected = ods.quarantine.with_partition(parsed.where("reason is not null"), days[-1])
    num_rejected = quarantine.replace(warehouse, "ingest", lines, rejected, days[-1:])[days[-1]]
    for day, count in counts.items():
        count.rows_out = written[day]
        count.rows_invalid = num_valid[day.isoformat()] - written[day]
        count.rows_quarantined = num_rejected if day == days[-1] else 0
        count.rows_in = count.rows_out + count.rows_invalid + count.rows_quarantined


def parse(lines: DataFrame, layout: FileFormat, names: Sequence[str]) -> DataFrame:
    """Parse lines of ratings; the header is dropped.

    Args:
        lines: `line` and its place, as `read_lines` returns them.
        layout: the file's format.
        names: its columns, as the warehouse calls them.

    Returns:
        The lines with the columns of dwd_interaction, `dt`, and `reason` (null for a valid row).
    """
    # Split by a regular expression, in which none of the formats' separators is special.
    cells = F.split("line", layout.separator)
    columns = [F.nullif(F.trim(F.get(cells, F.lit(i))), F.lit("")).alias(name) for i, name in enumerate(names)]
    rows = lines.select("*", F.size(cells).alias("num_cells"), *columns)
    if not layout.names:
        rows = rows.where(~((F.col("block") == 0) & F.col("line").startswith(_first_cell(lines, layout))))
    acted_at = F.timestamp_seconds(F.expr("try_cast(timestamp as double)"))
    value = F.expr("try_cast(value as double)") if "value" in names else F.lit(1.0)
    action = F.col("action") if "action" in names else F.lit("rating")
    return (
        rows.withColumn("acted_at", acted_at)
        .withColumn("value", value)
        .withColumn("action", action)
        .withColumn("dt", F.date_format("acted_at", "yyyy-MM-dd"))
        .withColumn("event_id", F.concat_ws("-", "user_id", "item_id", "timestamp", "action"))
        .withColumn("impression_id", F.lit(None).cast("string"))
        .withColumn("reason", _reject_reason(len(names)))
    )


def _first_cell(lines: DataFrame, layout: FileFormat) -> str:
    """The header's first cell with its separator, by which the header is recognised among the lines."""
    first = lines.where(F.col("block") == 0).orderBy("id").first()
    return str(first["line"]).split(layout.separator)[0] + layout.separator if first else "\0"


def _reject_reason(num_columns: int) -> Column:
    # More cells than columns are no fault: a separator in the last text.
    is_short = F.col("num_cells") < num_columns
    lacks_id = F.col("user_id").isNull() | F.col("item_id").isNull()
    return (
        F.when(is_short | lacks_id, "missing_field")
        .when(F.col("acted_at").isNull(), "bad_time")
        .when(F.col("value").isNull(), "bad_value")
    )


def _write_dimension(
    warehouse: Warehouse, day: date, table: Table, ids: DataFrame, path: Path | None, layout: FileFormat
) -> None:
    """Write dim_user or dim_item: the attributes of the file, and a row without attributes for every other id."""
    rows = ids
    if path is not None:
        key = ids.columns[0]
        has_header = not layout.names
        # No quotes: titles have some that are just characters.
        file = warehouse.spark.read.csv(str(path.resolve()), sep=layout.separator, header=has_header, quote="")
        attributes = file.toDF(*layout.column_names(path)).dropDuplicates([key])
        # Full: rated items without attributes, and items that nobody rated yet.
        rows = ids.join(attributes, on=key, how="full")
    select: Callable[[DataFrame], DataFrame] = _select_users if table is dim.user else _select_items
    warehouse.write(table, table.with_partition(rows.transform(select), day), [day])


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


def _select_items(rows: DataFrame) -> DataFrame:
    # The first genre is the category: MovieLens separates genres by |, RecBole by blanks.
    category = F.substring_index(F.regexp_replace(_text_column(rows, "category"), r"\|", " "), " ", 1)
    # Only the year is known.
    published = F.try_to_timestamp(F.concat(_text_column(rows, "release_year"), F.lit("-01-01")), F.lit("yyyy-MM-dd"))
    return rows.select(
        "item_id",
        _text_column(rows, "title").alias("title"),
        category.alias("category"),
        F.lit(None).cast("string").alias("author"),
        published.alias("published_at"),
    )


def _text_column(rows: DataFrame, name: str) -> Column:
    return F.col(name) if name in rows.columns else F.lit(None).cast("string")
