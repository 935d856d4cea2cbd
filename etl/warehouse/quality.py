"""The checks of a table's description, run on a new version of its partitions before anyone can read it."""

from collections.abc import Callable, Sequence
from functools import partial, reduce

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf import UserError
from etl.session import run_concurrently
from etl.table import SCOPE, Check, InRange, MinRows, NotNull, OneOf, References, Table, Unique

EXAMPLES = 3


class QualityError(UserError):
    """A check failed: the partition that readers see was left as it was."""


def check_rows(
    table: Table, rows: DataFrame, partitions: Sequence[str], read: Callable[[Table], DataFrame]
) -> dict[str, int]:
    """Run every check of `table` on `rows` and return the row count of each partition; `read` opens other tables.

    Raises QualityError that names the check, the column and example values.
    """
    row_checks = [check for check in table.all_checks if isinstance(check, (NotNull, InRange, OneOf))]
    keys = [check for check in table.all_checks if isinstance(check, Unique)]
    broken = [F.count_if(_violates(check)).alias(f"c{i}") for i, check in enumerate(row_checks)]
    broken += [F.count_distinct(F.struct(*check.columns)).alias(f"u{i}") for i, check in enumerate(keys)]
    counts = dict.fromkeys(partitions, 0)
    for summary in rows.groupBy(table.partition).agg(F.count("*").alias("rows"), *broken).collect():
        counts[summary[table.partition]] = summary["rows"]
        for i, key in enumerate(keys):
            if summary[f"u{i}"] < summary["rows"]:
                _refuse_doubles(table, rows.where(F.col(table.partition) == summary[table.partition]), key)
        for i, check in enumerate(row_checks):
            if summary[f"c{i}"]:
                _refuse(table, check, summary[f"c{i}"], _examples(rows, check))
    for rule in table.all_checks:
        if isinstance(rule, MinRows):
            for value in partitions:
                if counts[value] < rule.rows:
                    _refuse(table, rule, counts[value], f"partition {table.partition}={value} has {counts[value]}")
    references = [check for check in table.all_checks if isinstance(check, References)]
    run_concurrently(
        *[partial(_check_reference, table, rows, rule, read(rule.table), partitions) for rule in references]
    )
    return counts


def _violates(check: NotNull | InRange | OneOf) -> SparkColumn:
    if isinstance(check, NotNull):
        return reduce(lambda a, b: a | b, [F.col(name).isNull() for name in check.columns])
    value = F.col(check.column)
    if isinstance(check, OneOf):
        return value.isNotNull() & ~value.isin(*check.values)
    too_low = value < check.low if check.low is not None else F.lit(False)
    too_high = value > check.high if check.high is not None else F.lit(False)
    return value.isNotNull() & (too_low | too_high | F.isnan(value.cast("double")))


def _refuse_doubles(table: Table, rows: DataFrame, check: Unique) -> None:
    doubled = rows.groupBy(*check.columns).count().where("count > 1")
    found = doubled.limit(EXAMPLES).collect()
    values = "; ".join(", ".join(str(row[name]) for name in check.columns) for row in found)
    _refuse(table, check, doubled.count(), f"e.g. {values}")


def _check_reference(
    table: Table, rows: DataFrame, check: References, others: DataFrame, partitions: Sequence[str]
) -> None:
    keys = {check.column: check.key}
    if check.table.partition != SCOPE:
        keys[table.partition] = check.table.partition
        others = others.where(F.col(check.table.partition).isin(list(partitions)))
    used = rows.select(*keys).where(F.col(check.column).isNotNull()).distinct()
    known = others.select(*[F.col(there).alias(here) for here, there in keys.items()])
    strangers = used.join(known, on=list(keys), how="left_anti")
    found = strangers.limit(EXAMPLES).collect()
    if found:
        _refuse(table, check, strangers.count(), "e.g. " + ", ".join(str(row[check.column]) for row in found))


def _examples(rows: DataFrame, check: NotNull | InRange | OneOf) -> str:
    names = check.columns if isinstance(check, NotNull) else (check.column,)
    shown = rows.where(_violates(check)).limit(EXAMPLES).collect()
    if isinstance(check, NotNull):
        return f"e.g. {str(shown[0].asDict())[:300]}" if shown else ""
    return "e.g. " + ", ".join(str(row[names[0]]) for row in shown)


def _refuse(table: Table, check: Check, count: int, examples: str) -> None:
    raise QualityError(f"{table.name}: check '{check}' failed for {count} rows ({examples}); the old partition stays")
