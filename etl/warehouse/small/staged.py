"""The Parquet files of new partitions, in the folder of a run: by Spark, or staged for this process to split."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.table import Table
from etl.warehouse.files import WarehouseFiles
from etl.warehouse.small.checks import STAGED
from etl.warehouse.small.tables import split


def write_files(table: Table, rows: DataFrame, folder: str, values: Sequence[str], rebalance: bool) -> None:
    """Write the partitions by Spark.

    Args:
        table: whose columns to write; the rows' are cast to its types.
        rows: has the partition column as well.
        folder: URL of the run's folder.
        values: the partitions; the job fails at a row of another, where there is one.
        rebalance: even out the sizes of files by a shuffle.
    """
    columns, value = _columns(table, rows), F.col(table.partition).cast("string")
    if len(values) == 1:
        # `partitionBy` would sort all rows by the partition column first: write the only folder directly, and
        # refuse rows of other days while they pass.
        is_of_the_day = F.when(value == values[0], True).otherwise(
            F.raise_error(F.concat(F.lit(f"a row for another day in a write to {table.name}: "), value))
        )
        selected = rows.where(is_of_the_day).select(*columns)
        selected = selected.hint("rebalance") if rebalance else selected
        selected.write.parquet(f"{folder}/{table.partition}={values[0]}")
        return
    selected = rows.select(*columns, value.alias(table.partition))
    # Rebalancing merges small files and splits a skewed partition.
    selected.hint("rebalance", table.partition).write.partitionBy(table.partition).parquet(folder)


def write_staged(files: WarehouseFiles, table: Table, rows: DataFrame, folder: str) -> bool:
    """Write the rows of all partitions to files of its own, and the partitions from these: Spark opens files slowly.

    Both stay. False where they are too many for this process: then nothing does.

    Args:
        files: of the warehouse, on this machine's disks.
        table: as for `write_files`.
        rows: as for `write_files`.
        folder: URL of the run's folder.
    """
    staged = f"{folder}/{STAGED}"
    value = F.col(table.partition).cast("string").alias(table.partition)
    rows.select(*_columns(table, rows), value).write.parquet(staged)
    if split(table, folder):
        return True
    files.delete(folder)
    return False


def _columns(table: Table, rows: DataFrame) -> list[Column]:
    return [
        (F.lit(None) if column.is_optional and column.name not in rows.columns else F.col(column.name))
        .cast(column.type)
        .alias(column.name)
        for column in table.columns
    ]
