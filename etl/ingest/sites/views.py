"""Views of the tables with a site's own columns as such: site_item, site_user, site_impression, site_interaction.

The tables keep own columns as text in a map, so that no declaration changes them; a view reads them by their types.
"""

from collections.abc import Iterator, Mapping
from itertools import chain

from pyspark.sql import SparkSession

from conf.site import Category, Number, Outcome, Site, Tags, Text, Tokens, Vector, Weight
from conf.site.checks import Part, owner_of, site_parts
from conf.site.columns import ColumnType, feature_name
from conf.site.sources import decimal_of
from etl.sources.texts import (
    LIST,
    LIST_PART,
    NO,
    QUOTED,
    THOUSANDS,
    TOKEN,
    VECTOR_ENDS,
    VECTOR_GAPS,
    WHITESPACE,
    WRITTEN_NUMBER,
    YES,
)
from etl.table import Table, quote
from etl.tables import dim, dwd
from etl.warehouse.store import Warehouse

# Table and its map by the class of the part that declares own columns.
VIEWS: Mapping[str, tuple[str, Table, str]] = {
    "Items": ("site_item", dim.item, "attributes"),
    "Users": ("site_user", dim.user, "attributes"),
    "Action": ("site_interaction", dwd.interaction, "context"),
    "Impressions": ("site_impression", dwd.impression, "context"),
}


MAX_QUERY_CHARS = 30_000  # of a view: Derby's metastore keeps 32,672


def write_views(spark: SparkSession, warehouse: Warehouse, site: Site) -> list[str]:
    """Create the views of the tables for which the site declares columns, or replace them; returns their names.

    Each is all columns of its table, then the own ones with their description. A view that other sessions read at this
    moment goes on as it was for them.
    """
    parts_by_kind: dict[str, list[Part]] = {}
    for part in site_parts(site):
        parts_by_kind.setdefault(type(part).__name__, []).append(part)
    written = []
    for kind, parts in parts_by_kind.items():
        own = dict(chain.from_iterable(_own_columns(part, is_compact=False) for part in parts))
        if not own:
            continue
        name, table, texts = VIEWS[kind]
        warehouse.ensure(table)
        of_table = [column.name for column in table.columns] + [table.partition]
        taken = {column: definition for column, definition in own.items() if column not in of_table}
        header = [f"`{column}`" for column in of_table]
        header += [f"`{column}` COMMENT {quote(about)}" for column, (_, about) in taken.items()]
        bare = [f"`{column}`" for column in of_table]
        values = [f"{sql} AS `{column}`" for column, (sql, _) in taken.items()]
        query = f"SELECT {', '.join([*bare, *values])} FROM {table.name}"
        if len(query) > MAX_QUERY_CHARS:
            # Hundreds of columns: what a cell means is written once, for all of them.
            compact = dict(chain.from_iterable(_own_columns(part, is_compact=True) for part in parts))
            values = [f"{compact[column][0]} AS `{column}`" for column in taken]
            query = f"SELECT {', '.join([*bare, *values])} FROM ({_read_maps(table, texts)})"
        spark.sql(
            f"CREATE OR REPLACE VIEW {name} ({', '.join(header)}) "
            f"COMMENT {quote(f'{table.name} with the own columns of {site.name}')} AS {query}"
        )
        written.append(name)
    return written


def _read_maps(table: Table, texts: str) -> str:
    """Rows of a table with its map of texts without blanks, and the numbers that they are by either decimal sign."""
    trimmed = f"nullif(btrim(text, {quote(WHITESPACE)}), '')"
    numbers = (
        f"transform_values(`_texts`, (name, text) -> {_number('text', decimal)}) AS `{column}`"
        for decimal, column in _NUMBERS.items()
    )
    read = f"SELECT *, transform_values(`{texts}`, (name, text) -> {trimmed}) AS `_texts` FROM {table.name}"
    return f"SELECT *, {', '.join(numbers)} FROM ({read})"


_NUMBERS = {".": "_numbers", ",": "_comma_numbers"}


def _own_columns(part: Part, *, is_compact: bool) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name of each own column -> its expression and description.

    Args:
        part: with own columns.
        is_compact: over the maps of `_read_maps`, in place of the table's.
    """
    texts, decimal = VIEWS[type(part).__name__][2], decimal_of(part.source)
    for source, kind in part.columns.items():
        cell = f"nullif(btrim(try_element_at(`{texts}`, {quote(source)}), {quote(WHITESPACE)}), '')"
        if is_compact:
            cell = f"try_element_at(`_texts`, {quote(source)})"
        name = kind.label if isinstance(kind, Outcome) else feature_name(owner_of(part), source, kind)
        about = f"{source} of {part.source.pattern}: {type(kind).__name__}"
        sql = _expression(cell, kind, decimal)
        if is_compact and isinstance(kind, Number | Weight):
            sql = f"try_element_at(`{_NUMBERS[decimal]}`, {quote(source)})"
        yield name, (sql, about)


def _expression(cell: str, kind: ColumnType, decimal: str) -> str:
    """What a cell's text means, as `etl.sources.values` and `features.compute.spark_own_columns` read it."""
    if isinstance(kind, Number | Weight):
        return _number(cell, decimal)
    if isinstance(kind, Tags):
        missing = ", ".join(map(quote, kind.missing))
        tag = f"nullif(btrim(tag, {quote(WHITESPACE)}), '')"
        is_tag = f"tag IS NOT NULL{f' AND tag NOT IN ({missing})' if missing else ''}"
        parts = f"transform({_list_parts(cell, kind.separator)}, tag -> {tag})"
        return f"array_distinct(filter({parts}, tag -> {is_tag}))"
    if isinstance(kind, Tokens):
        return f"array_distinct(regexp_extract_all(lower({cell}), {quote(TOKEN)}, 1))"
    if isinstance(kind, Vector):
        parts = f"split(regexp_replace({cell}, {quote(VECTOR_ENDS)}, ''), {quote(VECTOR_GAPS)})"
        numbers = f"transform({parts}, number -> {_number('number', '.')})"
        is_whole = f"size({numbers}) = {kind.size} AND NOT exists({numbers}, number -> number IS NULL)"
        return f"CASE WHEN {is_whole} THEN {numbers} END"
    if isinstance(kind, Outcome):
        if kind.at_least is not None:
            return f"CASE WHEN {cell} IS NULL THEN 0 ELSE int({_number(cell, decimal)} >= {kind.at_least!r}) END"
        yes, no = (", ".join(map(quote, words)) for words in (YES, NO))
        return f"CASE WHEN lower({cell}) IN ({yes}) THEN 1 WHEN {cell} IS NULL OR lower({cell}) IN ({no}) THEN 0 END"
    assert isinstance(kind, Category | Text)
    return cell


def _list_parts(cell: str, separator: str) -> str:
    parts = f"regexp_extract_all(substr({cell}, 2, length({cell}) - 2), {quote(LIST_PART)}, 0)"
    unquoted = f"regexp_replace(btrim(part, {quote(WHITESPACE)}), {quote(QUOTED)}, '$2')"
    plain = f"split({cell}, {quote(_escaped(separator))})"
    return f"CASE WHEN {cell} RLIKE {quote(LIST)} THEN transform({parts}, part -> {unquoted}) ELSE {plain} END"


def _number(cell: str, decimal: str) -> str:
    if decimal == ",":
        cell = f"replace(regexp_replace({cell}, {quote(THOUSANDS)}, ''), ',', '.')"
    number = f"CASE WHEN {cell} RLIKE {quote(WRITTEN_NUMBER)} THEN try_cast({cell} AS double) END"
    return f"CASE WHEN abs({number}) < double('infinity') THEN {number} END"


def _escaped(separator: str) -> str:
    return "".join(f"\\{sign}" if not sign.isalnum() and sign != " " else sign for sign in separator)
