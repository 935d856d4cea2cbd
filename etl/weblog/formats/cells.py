"""Lines -> cells: each line by the first of its formats that it has, in Spark's own expressions.

Each line is matched once: the groups are joined by a separator and split again, where `regexp_extract` would match once
for every column. Lines that contain the separator take that longer way.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from etl.weblog.formats.format import CELLS, Format, Formats, JsonFormat

_SEPARATOR = "\x01"
# The low 33 bits of monotonically_increasing_id count the rows of a partition; the high ones are the partition.
_ROW_BITS = (1 << 33) - 1


def position_in_file() -> Column:
    """Order of a line in its file: not its number, but growing."""
    row = F.col("id").bitwiseAND(F.lit(_ROW_BITS))
    return F.col("block") + row


def has_format(format: Format, format_sets: Sequence[Formats]) -> Column:
    indexes = [index for index, formats in enumerate(format_sets) if format in formats]
    return F.lit(True) if len(indexes) == len(format_sets) else F.col("formats").isin(indexes)


def distinct_formats(format_sets: Sequence[Formats]) -> list[Format]:
    return list(dict.fromkeys(format for formats in format_sets for format in formats))


def present_cells(format_sets: Sequence[Formats]) -> list[str]:
    present = {cell for format in distinct_formats(format_sets) for cell in format.cells}
    return [cell for cell in CELLS if cell in present]


def without_headers(lines: DataFrame, format_sets: Sequence[Formats]) -> DataFrame:
    w3c = [format for format in distinct_formats(format_sets) if format.is_w3c]
    if not w3c:
        return lines
    is_w3c = reduce(or_, [has_format(format, format_sets) for format in w3c])
    return lines.where(~(is_w3c & F.startswith("line", F.lit("#"))))


def add_cells(lines: DataFrame, format_sets: Sequence[Formats]) -> DataFrame:
    """Add `cells`: the texts of `present_cells` by the first of a line's formats that it has, else one text."""
    rows, names = lines, present_cells(format_sets)
    for number, format in enumerate(distinct_formats(format_sets)):
        if isinstance(format, JsonFormat):
            # A column of its own: Spark parses the document once for all that is taken out of it.
            document = F.when(F.startswith("text", F.lit("{")), F.col("text"))
            rows = rows.withColumn("document", F.from_json(document, _schema(format)))
            cells = _json_cells(format, names)
        else:
            cells = split_groups("text", format.pattern, [format.recipe(cell) for cell in names])
        is_open = has_format(format, format_sets) & (F.size("cells") < 2) if number else has_format(format, format_sets)
        rows = rows.withColumn("cells", F.when(is_open, cells).otherwise(F.col("cells") if number else F.array("text")))
    return rows.drop("document") if rows is not lines else rows.withColumn("cells", F.array("text"))


def split_groups(name: str, pattern: str, recipes: Sequence[Sequence[int | str]]) -> Column:
    """Texts put together from the groups of the match, in one array; an array of one when the text does not match.

    Args:
        name: the column to match.
        pattern: a pattern for a whole text.
        recipes: for each element of the array the numbers of groups and the literals that it is made of.
    """
    text = F.col(name)
    replacement = _SEPARATOR.join("".join(f"${part}" if isinstance(part, int) else part for part in r) for r in recipes)
    joined = F.regexp_replace(text, pattern, replacement)
    one_by_one = F.array(
        *[
            F.concat(
                F.lit(""),
                *[F.regexp_extract(text, pattern, part) if isinstance(part, int) else F.lit(part) for part in recipe],
            )
            for recipe in recipes
        ]
    )
    has_separator = F.contains(text, F.lit(_SEPARATOR))
    # -1: empty groups at the end stay.
    return F.when(~has_separator, F.split(joined, _SEPARATOR, -1)).otherwise(
        F.when(F.rlike(text, F.lit(pattern)), one_by_one).otherwise(F.array(text))
    )


def _schema(format: JsonFormat) -> T.StructType:
    """The part of a document that is read. Leaves are texts: of numbers as they are written, of objects their JSON."""
    tree: dict[str, Any] = {}
    for path in (path for paths in format.paths.values() for path in paths):
        node = tree
        for key in path.split("."):
            node = node.setdefault(key, {})

    def to_type(node: dict[str, Any]) -> T.DataType:
        if not node:
            return T.StringType()
        if all(key.isdigit() for key in node):
            return T.ArrayType(to_type({key: value for child in node.values() for key, value in child.items()}))
        return T.StructType([T.StructField(key, to_type(child)) for key, child in node.items()])

    schema = to_type(tree)
    assert isinstance(schema, T.StructType)
    return schema


def _json_cells(format: JsonFormat, names: Sequence[str]) -> Column:
    def value(cell: str) -> Column:
        columns = []
        for path in format.paths.get(cell, ()):
            column = F.col("document")
            for key in path.split("."):
                column = F.get(column, F.lit(int(key))) if key.isdigit() else column.getField(key)
            columns.append(column)
        return F.coalesce(*columns, F.lit(None).cast("string"))

    code = F.when(F.rlike(value("code"), F.lit(r"^\d{1,3}\z")), F.lpad(value("code"), 3, "0"))
    cells = {cell: value(cell) for cell in CELLS} | _time_cells(value("stamp")) | {"code": code}
    is_request = cells["addr"].isNotNull() & value("stamp").isNotNull() & code.isNotNull()
    has_url = cells["url"].isNotNull() | cells["request_line"].isNotNull()
    texts = F.array(*[F.coalesce(cells[cell], F.lit("")) for cell in names])
    return F.when(is_request & has_url, texts).otherwise(F.array("text"))


def _time_cells(stamp: Column) -> dict[str, Column]:
    """Date, time, zone and epoch of a time that is written in ISO 8601, as in the common format, or as a number."""
    iso = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,]\d+)?(Z|[+-]\d\d:?\d\d|)\z"
    common = r"^\[?(\d\d)/(\w{3})/(\d{4}):(\d\d:\d\d:\d\d)( [+-]\d{4}|)\]?\z"
    number = stamp.try_cast("double")
    # Seconds, milliseconds, microseconds or nanoseconds: of the years to come only one of them.
    seconds = (
        F.when(number < 1e11, number)
        .when(number < 1e14, number / 1e3)
        .when(number < 1e17, number / 1e6)
        .otherwise(number / 1e9)
    )
    is_iso, is_common = F.rlike(stamp, F.lit(iso)), F.rlike(stamp, F.lit(common))
    day = F.concat_ws("-", *[F.regexp_extract(stamp, common, group) for group in (3, 2, 1)])
    parts = {
        "date": (F.regexp_extract(stamp, iso, 1), day),
        "time": (F.regexp_extract(stamp, iso, 2), F.regexp_extract(stamp, common, 4)),
        "zone": (F.regexp_extract(stamp, iso, 3), F.regexp_extract(stamp, common, 5)),
    }
    return {
        **{name: F.when(is_iso, of_iso).when(is_common, of_common) for name, (of_iso, of_common) in parts.items()},
        "epoch": F.when(F.rlike(stamp, F.lit(r"^\d+(\.\d+)?([eE]\+?\d+)?\z")), seconds.cast("string")),
    }
