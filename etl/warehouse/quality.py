"""The checks of a table's description, run on new files of its partitions before anyone can read them."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NoReturn

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf import UserError
from etl.table import ALL_DAYS, SCOPE, Check, InRange, MinRows, NotNull, OneOf, References, Table, Unique, check_text

MAX_EXAMPLES = 3
MAX_CHARS = 40  # of a value in a message, which goes to logs and alerts: rows are of people, and stay in the warehouse

RowCheck = NotNull | InRange | OneOf


class QualityError(UserError):
    """A check failed: the partition that readers see was left as it was."""


def check_rows(
    table: Table, rows: DataFrame, partitions: Sequence[str], read: Callable[[Table, Sequence[str]], DataFrame]
) -> dict[str, int]:
    """Run every check of `table` on `rows`.

    One pass over the rows counts them and the violations of all checks but references, which cost a join each.

    Args:
        table: whose checks to run.
        rows: its columns and partition column.
        partitions: values that must be counted even when they have no rows.
        read: opens partitions of the tables that references point to, by their values.

    Returns:
        Partition value -> number of rows.

    Raises:
        QualityError: a check failed; names it with the number of rows and values of its column, never a whole row.
    """
    row_checks = [check for check in table.all_checks if isinstance(check, RowCheck)]
    keys = [check for check in table.all_checks if isinstance(check, Unique)]
    measures = [F.count_if(_is_violated(check)).alias(f"violations_{i}") for i, check in enumerate(row_checks)]
    # Exact, not approximate: one duplicate among millions is what a key check is for.
    measures += [F.count_distinct(F.struct(*key.columns)).alias(f"distinct_{i}") for i, key in enumerate(keys)]
    counts = dict.fromkeys(partitions, 0)  # an empty partition has no summary, and still must have enough rows
    for summary in rows.groupBy(table.partition).agg(F.count("*").alias("rows"), *measures).collect():
        counts[summary[table.partition]] = summary["rows"]
        for i, key in enumerate(keys):
            if summary[f"distinct_{i}"] < summary["rows"]:
                _refuse_duplicates(table, rows.where(F.col(table.partition) == summary[table.partition]), key)
        for i, check in enumerate(row_checks):
            if summary[f"violations_{i}"]:
                _refuse(table, check, summary[f"violations_{i}"], _examples(rows, check))
    for size in [check for check in table.all_checks if isinstance(check, MinRows)]:
        for value in partitions:
            if counts[value] < size.rows:
                _refuse(table, size, counts[value], f"partition {table.partition}={value} has {counts[value]}")
    _check_references(table, rows, read, partitions)
    return counts


def _is_violated(check: RowCheck) -> SparkColumn:
    """Boolean column: the row breaks the check. Nulls break NotNull alone, NaN every range."""
    if isinstance(check, NotNull):
        return reduce(lambda a, b: a | b, [F.col(name).isNull() for name in check.columns])
    value = F.col(check.column)
    if isinstance(check, OneOf):
        return value.isNotNull() & ~value.isin(*check.values)
    is_too_low = value < check.low if check.low is not None else F.lit(False)
    is_too_high = value > check.high if check.high is not None else F.lit(False)
    # Spark orders NaN above every number, which a range without upper bound would let pass.
    return value.isNotNull() & (is_too_low | is_too_high | F.isnan(value.cast("double")))


def _refuse_duplicates(table: Table, rows: DataFrame, key: Unique) -> None:
    # Only after the count said so: grouping by the key is a second shuffle of the partition.
    duplicates = rows.groupBy(*key.columns).count().where("count > 1")
    # The first column's values alone: all that make a key are nearly the row.
    examples = _values([row[key.columns[0]] for row in duplicates.limit(MAX_EXAMPLES).collect()])
    _refuse(table, key, duplicates.count(), f"{key.columns[0]}: {examples}")


def _check_references(
    table: Table, rows: DataFrame, read: Callable[[Table, Sequence[str]], DataFrame], partitions: Sequence[str]
) -> None:
    """Check all in one query: they are small joins of distinct keys, each of which would leave cores idle."""
    references = [check for check in table.all_checks if isinstance(check, References)]
    if not references:
        return
    dangling = [
        _find_dangling(
            table, rows, check, read(check.table, [ALL_DAYS] if check.table.partition == SCOPE else partitions)
        )
        for check in references
    ]
    examples = [
        keys.limit(MAX_EXAMPLES).select(F.lit(i).alias("check"), F.col(check.column).cast("string").alias("value"))
        for i, (check, keys) in enumerate(zip(references, dangling, strict=True))
    ]
    violations = sorted(reduce(DataFrame.unionByName, examples).collect())
    if violations:
        first = violations[0]["check"]
        values = [row["value"] for row in violations if row["check"] == first]
        _refuse(table, references[first], dangling[first].count(), _values(values))


def _find_dangling(table: Table, rows: DataFrame, check: References, referenced: DataFrame) -> DataFrame:
    """The distinct keys, each with its partition if the referenced table has days, that are not in that table."""
    # Distinct keys first: the join then has a row per key, not per row of the table.
    join_keys = {check.column: check.key}
    if check.table.partition != SCOPE:
        join_keys[table.partition] = check.table.partition
    used = rows.select(*join_keys).where(F.col(check.column).isNotNull()).distinct()
    valid = referenced.select(*[F.col(theirs).alias(ours) for ours, theirs in join_keys.items()])
    return used.join(valid, on=list(join_keys), how="left_anti")


def _examples(rows: DataFrame, check: RowCheck) -> str:
    """Up to three offending values; of nulls, which say nothing, the columns that have them."""
    violating = rows.where(_is_violated(check))
    if isinstance(check, NotNull):
        nulls = violating.agg(*[F.count_if(F.col(name).isNull()).alias(name) for name in check.columns]).first()
        return ", ".join(
            f"{count} without {name}" for name, count in zip(check.columns, nulls or (), strict=True) if count
        )
    return _values([row[check.column] for row in violating.select(check.column).limit(MAX_EXAMPLES).collect()])


def _values(values: Sequence[object]) -> str:
    texts = [str(value) for value in values]
    return "e.g. " + ", ".join(text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…" for text in texts)


def _refuse(table: Table, check: Check, count: int, examples: str) -> NoReturn:
    key = f"; a row's key: {', '.join(table.key)}" if table.key else ""
    raise QualityError(
        f"{table.name}: check '{check_text(check)}' failed for {count} rows ({examples}{key}); the old partition stays"
    )
