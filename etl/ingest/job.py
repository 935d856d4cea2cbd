"""Ratings of another system into dwd_interaction, dim_user and dim_item: `millrace ingest interactions`.

Formats: `recbole` (tab-separated, header `name:type`), `movielens` (`::` without header), `movielens-csv`, and `events`
(a CSV with user_id, item_id, action, value, timestamp). Each rating becomes an interaction of the day of its timestamp.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from conf.cli import one_of
from etl.sources.lines import read_lines
from etl.stage import Counts, stage_run, total_counts
from etl.tables import dim, dwd, ods
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse


@dataclass(frozen=True)
class Format:
    """How a file is laid out: separator, names in order when there is no header, and what the names mean here."""

    separator: str
    names: Sequence[str] = ()
    renamed: dict[str, str] = field(default_factory=dict)


FORMATS: dict[str, Format] = {
    "recbole": Format(
        "\t", renamed={"rating": "value", "class": "category", "movie_title": "title", "occupation": "city"}
    ),
    "movielens": Format("::", names=("user_id", "item_id", "value", "timestamp")),
    "movielens-csv": Format(
        ",", renamed={"userId": "user_id", "movieId": "item_id", "rating": "value", "genres": "category"}
    ),
    "events": Format(","),
}
NEEDED = ("user_id", "item_id", "timestamp")
AGES = ((25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (1000, "55+"))


def run(
    spark: SparkSession, config: Config, *, ratings: Path, items: Path | None, users: Path | None, format_name: str
) -> dict[str, object]:
    """Load files that `check_files` let pass; broken rows are quarantined."""
    layout = FORMATS[format_name]
    warehouse = Warehouse(spark, config)
    lines = read_lines(spark, [str(ratings.resolve())])
    names = _header(ratings, layout)
    parsed = lines.transform(lambda rows: parse(rows, layout, names)).persist()
    try:
        days = [
            date.fromisoformat(row["dt"]) for row in parsed.where("reason is null").select("dt").distinct().collect()
        ]
        if not days:
            raise UserError(f"{ratings}: no row that can be read")
        days.sort()
        with stage_run(warehouse, "ingest", days) as counts:
            _write(warehouse, lines, parsed, days, counts)
        last = days[-1]
        _write_dimension(warehouse, last, parsed, "user_id", users, layout)
        _write_dimension(warehouse, last, parsed, "item_id", items, layout)
        return {"first_day": str(days[0]), "last_day": str(last), **total_counts(counts)}
    finally:
        parsed.unpersist()


def check_files(format_name: str, ratings: Path, items: Path | None, users: Path | None) -> None:
    """Raises UsageError for an unknown format, UserError naming a file or column that is missing."""
    layout = FORMATS[one_of("format", format_name, tuple(FORMATS))]
    for path, needed in ((ratings, NEEDED), (items, ("item_id",)), (users, ("user_id",))):
        if path is None:
            continue
        if not path.is_file():
            raise UserError(f"no such file: {path}")
        names = _header(path, layout)
        if missing := [name for name in needed if name not in names]:
            raise UserError(f"{path}: no column {', '.join(missing)}; found {', '.join(names)}")


def _write(
    warehouse: Warehouse, lines: DataFrame, parsed: DataFrame, days: list[date], counts: dict[date, Counts]
) -> None:
    good = parsed.where("reason is null").dropDuplicates(["event_id"])
    written = warehouse.write(dwd.interaction, good, days)
    read = {row["dt"]: row["count"] for row in parsed.where("reason is null").groupBy("dt").count().collect()}
    # Lines without a date of their own go to the last day.
    refused = ods.quarantine.with_partition(parsed.where("reason is not null"), days[-1])
    num_refused = quarantine.replace(warehouse, "ingest", lines, refused, days[-1:])[days[-1]]
    for day, count in counts.items():
        count.rows_out = written[day]
        count.rows_invalid = read[day.isoformat()] - written[day]
        count.rows_quarantined = num_refused if day == days[-1] else 0
        count.rows_in = count.rows_out + count.rows_invalid + count.rows_quarantined


def parse(lines: DataFrame, layout: Format, names: Sequence[str]) -> DataFrame:
    """Lines -> columns of dwd_interaction, `dt`, and `reason` (null for a usable row); the header is dropped."""
    cells = F.split("line", layout.separator.replace("|", r"\|"))
    columns = [F.nullif(F.trim(F.get(cells, F.lit(i))), F.lit("")).alias(name) for i, name in enumerate(names)]
    rows = lines.select("*", F.size(cells).alias("num_cells"), *columns)
    if not layout.names:
        rows = rows.where(~((F.col("block") == 0) & F.col("line").startswith(_first_word(lines, layout))))
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
        .withColumn("reason", _reason(len(names)))
    )


def _reason(num_columns: int) -> Column:
    return (
        F.when(F.col("num_cells") < num_columns, "missing_field")
        .when(F.col("user_id").isNull() | F.col("item_id").isNull(), "missing_field")
        .when(F.col("acted_at").isNull(), "bad_time")
        .when(F.col("value").isNull(), "bad_value")
    )


def _first_word(lines: DataFrame, layout: Format) -> str:
    first = lines.where(F.col("block") == 0).orderBy("id").first()
    return str(first["line"]).split(layout.separator)[0] + layout.separator if first else "\0"


def _header(path: Path, layout: Format) -> list[str]:
    """Column names as this module calls them; of the file's first line, or the format's own."""
    if layout.names:
        return list(layout.names)
    with path.open(encoding="utf-8", errors="replace") as text:
        names = [name.split(":")[0].strip() for name in text.readline().rstrip("\r\n").split(layout.separator)]
    return [layout.renamed.get(name, name) for name in names]


def _write_dimension(
    warehouse: Warehouse, day: date, interactions: DataFrame, key: str, path: Path | None, layout: Format
) -> None:
    """The attributes in the file, and a row without attributes for every id that only interactions name."""
    table = dim.user if key == "user_id" else dim.item
    known = interactions.where("reason is null").select(key).distinct()
    shape: Callable[[DataFrame], DataFrame] = _as_user if key == "user_id" else _as_item
    if path is None:
        rows = shape(known)
    else:
        names = _header(path, layout)
        separator = layout.separator
        given = warehouse.spark.read.csv(str(path.resolve()), sep=separator, header=not layout.names, quote="").toDF(
            *names
        )
        rows = shape(known.join(given.dropDuplicates([key]), on=key, how="full"))
    warehouse.write(table, table.with_partition(rows, day), [day])


def _column(rows: DataFrame, name: str, kind: str = "string") -> Column:
    return F.col(name) if name in rows.columns else F.lit(None).cast(kind)


def _as_user(rows: DataFrame) -> DataFrame:
    age = F.expr("try_cast(age as int)") if "age" in rows.columns else F.lit(None).cast("int")
    group = F.lit(None).cast("string")
    for limit, name in reversed(AGES):
        group = F.when(age < limit, name).otherwise(group)
    registered = F.lit(None).cast("timestamp").alias("registered_at")
    return rows.select(
        "user_id",
        _column(rows, "gender").alias("gender"),
        group.alias("age_group"),
        _column(rows, "city").alias("city"),
        registered,
    )


def _as_item(rows: DataFrame) -> DataFrame:
    """The first genre is the category; an item's time is the first of its release year, when given."""
    category = F.substring_index(F.regexp_replace(_column(rows, "category"), r"\|", " "), " ", 1)
    year = _column(rows, "release_year")
    published = F.try_to_timestamp(F.concat(year, F.lit("-01-01")), F.lit("yyyy-MM-dd"))
    author = F.lit(None).cast("string").alias("author")
    return rows.select(
        "item_id",
        _column(rows, "title").alias("title"),
        category.alias("category"),
        author,
        published.alias("published_at"),
    )
