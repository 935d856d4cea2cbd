"""Users and items of an ingest -> dim_user and dim_item, in every snapshot from the first day on.

A file of users or items has no time: what it says holds from the first day that it is loaded with, so that any day from
then on can be built. A row of it replaces what was known of its user or item; an id that only the ratings have gets a
row without attributes, unless it has one.
"""

from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.ingest.columns import FileRole
from etl.ingest.files import FileGroup
from etl.ingest.interactions import own_columns
from etl.sources.rows import PLACE, SourceRows, read_rows
from etl.sources.times import read_time
from etl.sources.values import is_damaged_id, to_id, to_list, to_number
from etl.table import Table
from etl.tables import dim
from etl.warehouse.store import Warehouse

KEYS: dict[FileRole, str] = {"users": "user_id", "items": "item_id"}
TABLES: dict[FileRole, Table] = {"users": dim.user, "items": dim.item}

# Upper bounds (exclusive) of the age groups, as the simulated site has them.
AGE_BOUNDS = ((25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (1000, "55+"))


def read_attributes(spark: SparkSession, group: FileGroup, zone: str, *, is_multiline: bool) -> DataFrame:
    """Read a file of users or items.

    Args:
        spark: the session.
        group: the files.
        zone: the clock by which a year begins.
        is_multiline: as for `read_rows`.

    Returns:
        The rows with their place, the columns of the dimension, `reason` and `column_name`.
    """
    rows = read_rows(spark, group.files, group.dialect, is_multiline=is_multiline)
    key = KEYS[group.role]
    columns = _user_columns(rows, group) if group.role == "users" else _item_columns(rows, group, zone)
    parsed = rows.frame.select(*PLACE, "fault", *[value.alias(name) for name, value in columns.items()])
    fault = F.when(F.col(key).isNull(), "missing_field").when(is_damaged_id(F.col(key)), "damaged_id")
    return parsed.withColumn("reason", F.coalesce("fault", fault)).withColumn(
        "column_name", F.when(F.col("fault").isNull() & fault.isNotNull(), group.columns.sources[key])
    )


def write_dimension(
    warehouse: Warehouse, role: FileRole, rows: DataFrame | None, ids: DataFrame, first_day: date
) -> None:
    """Add users or items to the snapshot of a day, and to every later one.

    Args:
        warehouse: where the tables are.
        role: `users` or `items`.
        rows: those of a file, each id once; None without a file.
        ids: all ids of the ratings, in the key's column.
        first_day: the day from which they are known.
    """
    table, key = TABLES[role], KEYS[role]
    existing = warehouse.partitions(table)
    earlier = [value for value in existing if value < table.partition_value(first_day)]
    days = [first_day, *(date.fromisoformat(value) for value in existing if value > table.partition_value(first_day))]
    base = warehouse.read(table, days)
    if earlier and not warehouse.has_partition(table, first_day):
        base = base.unionByName(
            table.with_partition(warehouse.read(table, [date.fromisoformat(earlier[-1])]), first_day)
        )
    nothing = warehouse.spark.createDataFrame([], table.schema_text)
    added = rows.select(*table.column_names) if rows is not None else nothing
    bare = nothing.unionByName(ids.select(key).distinct(), allowMissingColumns=True)
    each_day = warehouse.spark.createDataFrame([(table.partition_value(day),) for day in days], "dt string")
    # The file's row, else the snapshot's, else one without attributes: the lowest rank of each id and day.
    candidates = (
        added.crossJoin(each_day)
        .withColumn("rank", F.lit(0))
        .unionByName(base.withColumn("rank", F.lit(1)))
        .unionByName(bare.crossJoin(each_day).withColumn("rank", F.lit(2)))
    )
    merged = candidates.groupBy(key, "dt").agg(F.min_by(F.struct(*table.column_names), "rank").alias("row"))
    warehouse.write(table, merged.select("row.*", "dt"), days)


def _user_columns(rows: SourceRows, group: FileGroup) -> dict[str, Column]:
    sources = group.columns.sources
    age = to_number(rows.cell(sources["age"]), group.dialect.decimal) if "age" in sources else F.lit(None)
    age_group = F.lit(None).cast("string")
    for limit, name in reversed(AGE_BOUNDS):
        age_group = F.when(age < limit, name).otherwise(age_group)
    # The age itself has no column of its own.
    others = (*group.columns.others, *[sources[name] for name in ("age",) if name in sources])
    return {
        "user_id": to_id(rows.cell(sources["user_id"])),
        "gender": rows.text(sources.get("gender")),
        "age_group": age_group,
        "city": rows.text(sources.get("city")),
        "registered_at": _time(rows, group, "registered_at"),
        "attributes": own_columns(rows, others, _unread_times(rows, group, "registered_at")),
    }


def _item_columns(rows: SourceRows, group: FileGroup, zone: str) -> dict[str, Column]:
    sources = group.columns.sources
    source = sources.get("category")
    separator = " " if source in group.dialect.list_columns else "|"
    categories = to_list(rows.cell(source), separator) if source else F.lit(None).cast("array<string>")
    year = rows.text(sources.get("release_year"))
    # Only the year is known: the first moment of it by the site's clock.
    new_year = F.try_to_timestamp(F.concat(year, F.lit("-01-01")), F.lit("yyyy-MM-dd"))
    others = (*group.columns.others, *[sources[name] for name in ("release_year",) if name in sources])
    return {
        "item_id": to_id(rows.cell(sources["item_id"])),
        "title": rows.text(sources.get("title")),
        "category": F.get(categories, F.lit(0)),
        "author": rows.text(sources.get("author")),
        "published_at": F.coalesce(_time(rows, group, "published_at"), F.to_utc_timestamp(new_year, zone)),
        "categories": categories,
        "attributes": own_columns(rows, others, _unread_times(rows, group, "published_at")),
    }


def _time(rows: SourceRows, group: FileGroup, name: str) -> Column:
    if name not in group.times:
        return F.lit(None).cast("timestamp")
    return read_time(rows.cell(group.columns.sources[name]), group.times[name], group.dialect.decimal)


def _unread_times(rows: SourceRows, group: FileGroup, name: str) -> dict[str, Column]:
    """The text of a time that does not fit its column's format: else nothing would say that there was one."""
    if (source := group.columns.sources.get(name)) is None:
        return {}
    return {source: F.when(_time(rows, group, name).isNull(), rows.cell(source))}
