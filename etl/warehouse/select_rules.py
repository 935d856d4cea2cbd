"""Which SELECT statements DuckDB answers as Spark does, and their text for it.

The rule is a list of what is the same in both, not of what differs: anything else is Spark's. Not on it, for instance,
are casts (Spark cuts 2.7 off to 2, DuckDB rounds it), `round` (decimal there, binary here), decimals (other scales),
times (a zone) and text compared with a number (Spark converts the text, DuckDB may convert the number).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify

from etl.table import Table

TYPES = {
    "string": "VARCHAR",
    "bigint": "BIGINT",
    "int": "INTEGER",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
}
"""Spark's types whose values are the same in DuckDB, and their names there."""

DIVISION_BY_ZERO = "division by zero"  # an error in Spark, null in DuckDB

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_CONDITIONS = (*_COMPARISONS, exp.Between, exp.In, exp.Is, exp.Like, exp.And, exp.Or, exp.Not, exp.Exists, exp.Boolean)
_AGGREGATES = (exp.Count, exp.CountIf, exp.Sum, exp.Avg, exp.Min, exp.Max)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg)
_CLAUSES = (
    exp.Select, exp.From, exp.Table, exp.TableAlias, exp.Identifier, exp.Where, exp.Group, exp.Having, exp.Order,
    exp.Ordered, exp.Limit, exp.Offset, exp.Distinct, exp.Join, exp.Subquery, exp.With, exp.CTE, exp.Alias,
)  # fmt: skip
_VALUES = (exp.Column, exp.Star, exp.Literal, exp.Null, exp.Paren, exp.Coalesce, exp.Nullif, exp.Case, exp.If)
_SAME = frozenset((*_CLAUSES, *_VALUES, *_CONDITIONS, *_AGGREGATES, *_ARITHMETIC))

_FAMILIES = {
    **dict.fromkeys((exp.DataType.Type.TEXT, exp.DataType.Type.VARCHAR), "text"),
    **dict.fromkeys((exp.DataType.Type.BIGINT, exp.DataType.Type.INT, exp.DataType.Type.DOUBLE), "number"),
    **dict.fromkeys((exp.DataType.Type.TINYINT, exp.DataType.Type.SMALLINT), "number"),  # of small literals
    exp.DataType.Type.BOOLEAN: "boolean",
    exp.DataType.Type.NULL: "null",
}
# The parts that a node may have; another one (a table's TABLESAMPLE, a group's ROLLUP, a join's NATURAL) is Spark's.
_PARTS: dict[type[exp.Expr], set[str]] = {
    exp.Table: {"this", "alias"},
    exp.Group: {"expressions"},
    exp.Join: {"this", "on", "side", "kind"},
    exp.Distinct: {"expressions"},
    exp.Subquery: {"this", "alias"},
    exp.In: {"this", "expressions"},
    exp.Between: {"this", "low", "high"},
    exp.With: {"expressions"},
    exp.Select: {
        "expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "distinct", "with_",
    },
}  # fmt: skip


class OnlySparkError(Exception):
    """The statement may have another result in DuckDB; says why."""


@dataclass(frozen=True)
class Select:
    """A SELECT that both engines answer alike."""

    sql: str
    """In DuckDB's words."""
    columns: tuple[str, ...]
    """The names of its columns, as Spark names them."""
    tables: dict[str, Table]
    """The tables that it reads, by name."""
    pruning: dict[str, str]
    """Table -> a condition on its partition column alone, in DuckDB's words, that every row of the result fulfils."""


def translate(statement: str, tables: Mapping[str, Table]) -> Select:
    """Translate a statement of Spark's SQL.

    Args:
        statement: one statement.
        tables: those that it may read, by name.

    Raises:
        OnlySparkError: it is no SELECT, or not on the list; Spark has the mistakes to say.
    """
    if not re.match(r"\s*(select|with)\s", statement, re.IGNORECASE):
        raise OnlySparkError("no select")  # at some commands of Spark the parser warns that it has no words for them
    try:
        tree = sqlglot.parse_one(statement, dialect="spark")
    except SqlglotError as error:
        raise OnlySparkError(str(error)) from None
    if not isinstance(tree, exp.Select):
        raise OnlySparkError(f"a {tree.key}")
    _require_same_parts(tree)
    used = {name: tables[name] for name in _table_names(tree, tables)}
    columns = tuple(_output_names(tree, used))
    schema: dict[str, object] = {name: _types(table) for name, table in used.items()}
    try:
        typed = annotate_types(qualify(tree.copy(), schema=schema, dialect="spark"), schema=schema, dialect="spark")
    except SqlglotError as error:  # a column of another type, or none of that name
        raise OnlySparkError(str(error)) from None
    _require_same_types(typed)
    if len(typed.expressions) != len(columns):
        raise OnlySparkError("columns that a star stands for")
    pruning = _pruning(typed, used)
    for division in list(typed.find_all(exp.Div)):
        division.replace(_checked(division))
    try:
        text = typed.sql(dialect="duckdb", unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise OnlySparkError(str(error)) from None
    return Select(text, columns, used, pruning)


def _types(table: Table) -> dict[str, str]:
    """Column -> type, of those that are the same in both."""
    types = {column.name: column.type for column in table.columns if column.type in TYPES}
    return types | {table.partition: "string"}


def _require_same_parts(tree: exp.Expr) -> None:
    for node in tree.walk():
        kind = type(node)
        if kind not in _SAME:
            raise OnlySparkError(f"{node.key}: {node.sql(dialect='spark')}")
        parts = {name for name, value in node.args.items() if value}
        if kind in _PARTS and (more := parts - _PARTS[kind]):
            raise OnlySparkError(f"{node.key} with {', '.join(sorted(more))}")
        if isinstance(node, exp.Join) and (node.side, node.kind) not in (
            ("", ""), ("", "INNER"), ("", "CROSS"), ("LEFT", ""), ("LEFT", "OUTER"),
        ):  # fmt: skip
            raise OnlySparkError(f"a {node.side} {node.kind} join")
        if isinstance(node, exp.Like) and not (node.expression.is_string and "\\" not in node.expression.this):
            raise OnlySparkError("a pattern with escapes")  # which DuckDB has only where ESCAPE names one
        if isinstance(node, exp.Count) and isinstance(node.this, exp.Distinct) and len(node.this.expressions) != 1:
            raise OnlySparkError("distinct combinations")


def _table_names(tree: exp.Expr, tables: Mapping[str, Table]) -> set[str]:
    queries = {query.alias.lower() for query in tree.find_all(exp.CTE)}
    names = {table.name.lower() for table in tree.find_all(exp.Table)} - queries
    if unknown := [name for name in names if name not in tables]:
        raise OnlySparkError(f"table {unknown[0]}")
    if queries & set(tables):
        raise OnlySparkError("a query with a table's name")
    if not names:
        raise OnlySparkError("no table")
    return names


def _output_names(tree: exp.Select, used: Mapping[str, Table]) -> Iterable[str]:
    for column in tree.expressions:
        if isinstance(column, exp.Star):
            yield from _names_of_star(tree, used)
        elif isinstance(column, exp.Alias | exp.Column) and not column.is_star:
            yield column.alias_or_name
        else:
            yield _spark_name(column)


def _names_of_star(tree: exp.Select, used: Mapping[str, Table]) -> list[str]:
    source = tree.args["from_"].this
    if not isinstance(source, exp.Table) or source.name.lower() not in used or tree.args.get("joins"):
        raise OnlySparkError("a star of other than a table")
    table = used[source.name.lower()]
    if any(column.type not in TYPES for column in table.columns):
        raise OnlySparkError(f"columns of {table.name} that differ")
    return [*table.column_names, table.partition]


def _spark_name(column: exp.Expr) -> str:
    """Spark's name of a count or sum of a column, which has none of its own."""
    value = column.this
    if isinstance(column, exp.Count) and isinstance(value, exp.Star):
        return "count(1)"
    if isinstance(column, _AGGREGATES) and isinstance(value, exp.Column):
        return f"{column.key}({value.name})"
    if (
        isinstance(column, exp.Count)
        and isinstance(value, exp.Distinct)
        and isinstance(value.expressions[0], exp.Column)
    ):
        return f"count(DISTINCT {value.expressions[0].name})"
    raise OnlySparkError(f"a column without a name: {column.sql(dialect='spark')}")


def _require_same_types(tree: exp.Expr) -> None:
    for node in tree.walk():
        if isinstance(node, _COMPARISONS):
            _require_one_family(node, [node.left, node.right])
        elif isinstance(node, exp.Between):
            _require_one_family(node, [node.this, node.args["low"], node.args["high"]])
        elif isinstance(node, exp.In | exp.Coalesce):
            _require_one_family(node, [node.this, *node.expressions])
        elif isinstance(node, exp.Nullif):
            _require_one_family(node, [node.this, node.expression])
        elif isinstance(node, exp.Case):
            if node.this is not None:
                raise OnlySparkError("a case of values")
            values = [branch.args["true"] for branch in node.args["ifs"]]
            _require_one_family(node, [*values, *filter(None, [node.args.get("default")])])
        elif isinstance(node, exp.If) and not isinstance(node.parent, exp.Case):
            _require_one_family(node, [node.args["true"], *filter(None, [node.args.get("false")])])
        elif isinstance(node, (*_ARITHMETIC, exp.Sum, exp.Avg)):
            _require(
                node, _families(node.unnest_operands() if isinstance(node, exp.Binary) else [node.this]) <= {"number"}
            )
        elif isinstance(node, exp.Literal) and not node.is_string and not node.this.isdigit():
            # 0.5 is a decimal in Spark: its arithmetic has another scale in each engine, a comparison has not.
            _require(node, isinstance(node.parent, (*_COMPARISONS, exp.Between, exp.In)) or _is_negated_bound(node))
        _require_conditions(node)


def _is_negated_bound(node: exp.Expr) -> bool:
    return isinstance(node.parent, exp.Neg) and isinstance(node.parent.parent, (*_COMPARISONS, exp.Between, exp.In))


def _require_conditions(node: exp.Expr) -> None:
    """What stands where Spark wants a boolean must be one: DuckDB also takes a number."""
    operands: list[exp.Expr | None] = []
    if isinstance(node, exp.And | exp.Or):
        operands = [node.left, node.right]
    elif isinstance(node, exp.Not | exp.Where | exp.Having | exp.If | exp.CountIf):
        operands = [node.this]
    elif isinstance(node, exp.Join):
        operands = [node.args.get("on")]
    for operand in filter(None, operands):
        inner = operand.unnest()
        _require(operand, isinstance(inner, _CONDITIONS) or _families([inner]) == {"boolean"})


def _require_one_family(node: exp.Expr, operands: Iterable[exp.Expr]) -> None:
    _require(node, len(_families(operands) - {"null"}) == 1)


def _families(operands: Iterable[exp.Expr]) -> set[str]:
    """The families of the types of expressions; that of an unknown type is like no other."""
    return {_family(operand.unnest()) for operand in operands}


def _family(operand: exp.Expr) -> str:
    if isinstance(operand, exp.Literal):  # 0.5 and 1e-3 as well, whatever their types
        return "text" if operand.is_string else "number"
    if isinstance(operand, exp.Neg):
        return _family(operand.this.unnest())
    kind = operand.type.this if operand.type is not None else None
    return _FAMILIES.get(kind, f"other: {operand.sql()}") if kind is not None else f"unknown: {operand.sql()}"


def _require(node: exp.Expr, is_same: bool) -> None:
    if not is_same:
        raise OnlySparkError(f"types of {node.sql(dialect='spark')}")


def _checked(division: exp.Div) -> exp.Expr:
    """The quotient, and an error for a zero below it; null by zero is null in Spark, too."""
    above, below = division.left.copy(), division.right.copy()
    quotient = exp.Div(this=exp.paren(above.copy()), expression=exp.paren(below.copy()), typed=False, safe=False)
    is_zero = exp.and_(
        above.copy().is_(exp.null()).not_(), exp.EQ(this=exp.paren(below), expression=exp.Literal.number(0))
    )
    failure = exp.Anonymous(this="error", expressions=[exp.Literal.string(DIVISION_BY_ZERO)])
    return exp.Case(ifs=[exp.If(this=is_zero, true=failure)], default=quotient)


def _pruning(tree: exp.Select, used: Mapping[str, Table]) -> dict[str, str]:
    """Of a query of one table: its conditions on the partition column, which leave most folders unopened."""
    where, source = tree.args.get("where"), tree.find(exp.Table)
    # Of a query around another one, the outer condition may be on what the inner one computes.
    if where is None or source is None or len(list(tree.find_all(exp.Select))) > 1 or tree.args.get("joins"):
        return {}
    partition = used[source.name].partition
    bounds = []
    for term in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
        if {column.name for column in term.find_all(exp.Column)} == {partition}:
            bounds.append(term.copy())
    for bound in bounds:
        for column in bound.find_all(exp.Column):
            column.set("table", None)
    return {source.name: exp.and_(*bounds).sql(dialect="duckdb")} if bounds else {}
