"""Rows of files in any layout, read by Spark: each row's cells as text, its place, and what is wrong with its line."""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from etl.sources.dialect import Dialect, cell_pattern, split_line
from etl.sources.encodings import JAVA_CHARSETS
from etl.sources.json_lines import STRICT, has_duplicate
from etl.sources.lines import read_lines
from etl.sources.texts import WHITESPACE
from etl.sources.values import text_map, trimmed

BOM = "\ufeff"
MAX_LINES = 1000  # of one row: a quote that never closes takes no more with it
_NUM_EXPRESSIONS = 50
PLACE = ("line", "file", "block", "id")
_BINARY_LINES = "line binary, file string, block bigint, id bigint"


@dataclass(frozen=True)
class SourceRows:
    """Rows of files with the same layout."""

    lines: DataFrame
    """All lines of the files, which `with_line_numbers` counts over."""
    frame: DataFrame
    """The rows without header and empty lines: `PLACE`, `fault` (null for none), and what `cell` reads."""
    dialect: Dialect

    def cell(self, name: str) -> Column:
        """A column's text as the file has it, without quotes; null where it is empty.

        Args:
            name: one of the dialect's; in JSON also a path, as `user.id`.
        """
        return F.nullif(self._text(name), F.lit(""))

    def text(self, name: str | None) -> Column:
        """A column's text without blanks around it; null where it is empty, and for no column."""
        if name is None:
            return F.lit(None).cast("string")
        return trimmed(self.cell(name))

    def cells(self, names: Sequence[str]) -> Column:
        """A map of columns to their texts, without those that are empty."""
        if self.dialect.kind != "delimited" or len(names) <= _NUM_EXPRESSIONS:
            return text_map({name: self.cell(name) for name in names})
        # One expression for all: Spark takes minutes to plan one for each of 2,000 columns.
        positions = [F.struct(F.lit(name).alias("key"), F.lit(self.dialect.names.index(name))) for name in names]
        entries = F.transform(
            F.array(*positions),
            lambda one: F.struct(
                one["key"].alias("key"),
                F.nullif(_unquoted(F.get("cells", one["col2"]), self.dialect), F.lit("")).alias("value"),
            ),
        )
        return F.map_from_entries(F.filter(entries, lambda entry: entry["value"].isNotNull()))

    def _text(self, name: str) -> Column:
        if self.dialect.kind == "parquet":
            return _as_text(self.frame, name)
        if self.dialect.kind == "json":
            key, _, path = (name, "", "") if name in self.dialect.names else name.partition(".")
            value = F.try_element_at("cells", F.lit(key))
            return F.get_json_object(value, f"$.{path}") if path else value
        cell = F.get("cells", F.lit(self.dialect.names.index(name)))
        return _unquoted(cell, self.dialect)


def read_rows(spark: SparkSession, files: Sequence[str], dialect: Dialect, *, is_multiline: bool = False) -> SourceRows:
    """Read files of one layout.

    Args:
        spark: the session.
        files: paths; gz, bz2, zst and zip are unpacked by their names' end.
        dialect: their layout, with the names of its columns.
        is_multiline: join the lines of quoted cells with line ends in them. That takes one task a file, so it is for
            files in which a first pass saw `bad_quotes`.
    """
    if dialect.kind == "parquet":
        return _read_parquet(spark, files, dialect)
    encoding = JAVA_CHARSETS.get(dialect.encoding, dialect.encoding)
    lines = _decoded(read_lines(spark, files, line_end=dialect.line_end[-1], encoding=encoding), dialect)
    frame = lines.transform(_join_open_lines, dialect) if is_multiline else lines
    if dialect.line_end == "\r\n":
        frame = frame.withColumn("line", F.regexp_replace("line", r"\r\z", ""))
    # Without any value: empty, or the separators that spreadsheets write below the last row.
    frame = frame.where(F.btrim("line", F.lit(dialect.separator + WHITESPACE)) != "")
    if dialect.skip_lines:
        frame = frame.transform(_without_first_lines, lines, dialect.skip_lines)
    if dialect.header is not None:
        # A header in the middle is that of a file that was appended.
        frame = frame.where(F.col("line") != dialect.header)
    return SourceRows(lines, frame.transform(_split, dialect), dialect)


def _decoded(lines: DataFrame, dialect: Dialect) -> DataFrame:
    """The lines as Unicode; without a byte order mark at the beginning of a file."""
    line = F.col("line")
    if dialect.encoding != "utf-8":
        line = F.decode(line.cast("binary"), JAVA_CHARSETS.get(dialect.encoding, dialect.encoding))
    return lines.withColumn("line", line).withColumn(
        "line",
        F.when((F.col("block") == 0) & F.startswith("line", F.lit(BOM)), F.substr("line", F.lit(2))).otherwise(
            F.col("line")
        ),
    )


def _split(lines: DataFrame, dialect: Dialect) -> DataFrame:
    """Add `cells` and `fault`."""
    # What can't be decoded becomes U+FFFD; in UTF-8 the bytes stay as they are.
    is_text = F.is_valid_utf8("line") if dialect.encoding == "utf-8" else ~F.contains("line", F.lit("\ufffd"))
    fault = F.when(~is_text, "invalid_utf8" if dialect.encoding == "utf-8" else "invalid_text")
    if dialect.kind == "json":
        text = F.when(is_text, F.col("line"))
        # In brackets, because Spark stops reading after the first value: two of them are no array of one.
        values, keys = F.try_parse_json(F.concat(F.lit("["), text, F.lit("]"))), F.json_object_keys(text)
        is_object = (
            F.startswith(F.schema_of_variant(values), F.lit("ARRAY<OBJECT"))
            & F.try_variant_get(values, "$[1]", "variant").isNull()
        )
        fault = fault.when(has_duplicate(keys), "duplicate_key").when(~F.coalesce(is_object, F.lit(False)), "not_json")
        objects = F.from_json(F.when(fault.isNull(), text), "map<string,string>", {"mode": "PERMISSIVE", **STRICT})
        return lines.withColumns({"fault": fault, "cells": objects})
    cells = _cells(dialect)
    is_whole = F.array_join("cells", dialect.separator) == F.col("line")
    size, num_cells = F.size("cells"), len(dialect.names)
    fault = (
        fault.when(~is_whole, "bad_quotes")
        .when(size < num_cells, "missing_cells")
        .when(size > num_cells, "extra_cells")
    )
    return lines.withColumn("cells", cells).withColumn("fault", fault)


def _cells(dialect: Dialect) -> Column:
    """The cells of `line`, with their quotes. Joined again they are the line unless its quotes are wrong."""
    separator = re.escape(dialect.separator)
    plain = F.split("line", separator)
    if dialect.quote is None and dialect.escape is None:
        return plain
    # With a separator before the first cell as well, no match is empty: a search stops at an empty one.
    text = F.concat(F.lit(dialect.separator), "line")
    matched = F.regexp_extract_all(text, F.lit(rf"\G{separator}({cell_pattern(dialect)})"), F.lit(1))
    if dialect.quote is None or dialect.escape is not None:
        return matched
    # A quarter of the time for lines without quotes, which most are.
    return F.when(F.contains("line", F.lit(dialect.quote)), matched).otherwise(plain)


def _unquoted(cell: Column, dialect: Dialect) -> Column:
    text = cell
    if (quote := dialect.quote) is not None:
        trimmed = F.btrim(cell, F.lit(" \t"))
        inner = F.substr(trimmed, F.lit(2), F.length(trimmed) - 2)
        is_quoted = F.startswith(trimmed, F.lit(quote))
        text = F.when(is_quoted, F.replace(inner, F.lit(quote * 2), F.lit(quote))).otherwise(cell)
    return text if dialect.escape is None else F.regexp_replace(text, r"(?s)\\(.)", "$1")


def _without_first_lines(frame: DataFrame, lines: DataFrame, count: int) -> DataFrame:
    first = lines.where("block = 0").groupBy("file").agg(F.min("id").alias("first_id"))
    numbered = frame.join(F.broadcast(first), on="file", how="left")
    is_before = (F.col("block") == 0) & (F.col("id") - F.col("first_id") < count)
    return numbered.where(~F.coalesce(is_before, F.lit(False))).drop("first_id")


def _join_open_lines(lines: DataFrame, dialect: Dialect) -> DataFrame:
    """One row for the lines of a quoted cell that goes on in the next line, with the place of the first."""

    def join(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        rows = (row for batch in batches for row in batch.itertuples(index=False, name=None))
        # Surrogates stand for bytes that are no UTF-8: such a line is refused later, and must come out as it was.
        texts = ((line.decode(errors="surrogateescape"), *place) for line, *place in rows)
        joined = joined_rows(texts, dialect)
        while chunk := [(line.encode(errors="surrogateescape"), *place) for line, *place in islice(joined, 10_000)]:
            yield pd.DataFrame(chunk, columns=list(PLACE))

    sources = lines.select(F.col("line").cast("binary"), *PLACE[1:]).repartition("file")
    joined_lines = sources.sortWithinPartitions("file", "block", "id").mapInPandas(join, _BINARY_LINES)
    return joined_lines.withColumn("line", F.col("line").cast("string"))


_Place = tuple[str, str, int, int]


def joined_rows(rows: Iterator[_Place], dialect: Dialect) -> Iterator[_Place]:
    """Join rows of (line, file, block, id) while a quoted cell is open; those that never close come as they are.

    Joined lines must have as many cells as the dialect has names: else a stray quote would join rows that are whole.
    """
    pending: list[_Place] = []
    again: deque[_Place] = deque()
    while True:
        row = again.popleft() if again else next(rows, None)
        if pending and (row is None or row[1] != pending[0][1] or len(pending) >= MAX_LINES):
            # The first is refused as it is; those after it are looked at on their own.
            yield pending[0]
            again.extendleft(reversed([*pending[1:], *([row] if row is not None else [])]))
            pending = []
        elif row is None:
            return
        elif pending:
            pending.append(row)
            # Only a quote can close the cell: without this, a wrong one would cost the square of the lines.
            text = dialect.line_end[-1].join([line for line, *_ in pending]) if (dialect.quote or "") in row[0] else ""
            if text and len(split_line(text, dialect) or ()) == len(dialect.names):
                yield text, *pending[0][1:]
                pending = []
        elif split_line(row[0], dialect) is None:
            pending = [row]
        else:
            yield row


def _read_parquet(spark: SparkSession, files: Sequence[str], dialect: Dialect) -> SourceRows:
    rows = spark.read.parquet(*files)
    cells = F.struct(*[F.col(f"`{name.replace('`', '``')}`") for name in rows.columns])
    frame = rows.select(
        cells.alias("cells"),
        F.to_json(cells).alias("line"),
        F.col("_metadata.file_path").alias("file"),
        F.col("_metadata.file_block_start").alias("block"),
        F.monotonically_increasing_id().alias("id"),
        F.lit(None).cast("string").alias("fault"),
    )
    return SourceRows(frame.select(*PLACE), frame, replace(dialect, names=tuple(rows.columns)))


def _as_text(frame: DataFrame, name: str) -> Column:
    """A typed column as a text file would have it: times with their zone, lists and structures as JSON."""
    column = F.col("cells").getField(name)
    type_ = next(field.dataType for field in _fields(frame) if field.name == name)
    if isinstance(type_, T.TimestampType):
        return F.date_format(column, "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")
    if isinstance(type_, (T.ArrayType, T.StructType, T.MapType)):
        return F.to_json(column)
    if isinstance(type_, (T.FloatType, T.DoubleType)):
        # An id, or a count: pandas makes 123456789.0 of an integer beside missing ones, and a cast 1.23456789E8.
        is_integer = (column == F.rint(column)) & (F.abs(column) < 2**53)
        return F.when(is_integer, column.cast("bigint").cast("string")).otherwise(column.cast("string"))
    return column.cast("string")


def _fields(frame: DataFrame) -> list[T.StructField]:
    cells = frame.schema["cells"].dataType
    assert isinstance(cells, T.StructType)
    return cells.fields
