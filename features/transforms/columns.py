"""The catalog's expressions, compiled once and evaluated over many rows at once without Spark.

What all rows share (the user, the moment) stays a single value and is computed once; what differs is a column: numbers,
texts by code, or moments. The result is that of `expressions.evaluate` for each row.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.transforms.expressions import FUNCTIONS, NULL_SKIPPING, OPERATORS, parse, unknown_part

Numbers = NDArray[np.float64]  # (rows,) NaN stands for SQL's null
SECONDS_OF_DAY = 86_400
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Texts:
    """A column of few distinct values."""

    values: Sequence[Any]
    """The distinct values; None stands for SQL's null."""
    codes: NDArray[np.integer]
    """(rows,) position of each row's value in `values`."""

    def map(self, function: Callable[[Any], Any]) -> "Texts":
        """The column of `function(value)`: one call for each distinct value that a row has."""
        codes, values = self.codes, self.values
        if len(values) > len(codes):
            present, codes = np.unique(codes, return_inverse=True)
            values = [values[code] for code in present.tolist()]
        return Texts([function(value) for value in values], codes)


@dataclass(frozen=True)
class Moments:
    """A column of moments as the site's clocks show them."""

    wall: Numbers
    """(rows,) seconds from 1970-01-01T00:00 by the same clocks; NaN for none."""

    @property
    def days(self) -> Numbers:
        """(rows,) days since 1970."""
        return np.floor(self.wall / SECONDS_OF_DAY)


# A single value (None, number, text, date, datetime without a time zone), or a column.
Value = Any
Row = Mapping[str, Value]
Compiled = Callable[[Row], Value]


def compile_expression(expression: str) -> Compiled:
    """A function from values by column name to the value of `expression`: single, or a column if one of them is.

    Moments must be given as the site's clocks show them: `Moments`, or datetimes without a time zone.

    Raises:
        UserError: when the expression has another operator or function; the function itself, for another column.
    """
    return _compile(parse(expression), expression)


def columns_of(expression: str) -> set[str]:
    """Names of the columns that an expression reads."""
    functions = {node.func for node in ast.walk(parse(expression)) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(parse(expression)) if isinstance(node, ast.Name) and node not in functions}


def as_numbers(value: Value, rows: int) -> Numbers:
    """A value as numbers (rows,), NaN for null.

    Raises:
        TypeError: it is a column of texts or moments.
    """
    if isinstance(value, np.ndarray):
        return np.asarray(value, np.float64)
    if isinstance(value, Texts):
        numbers = np.array([np.nan if one is None else float(one) for one in value.values])
        return np.asarray(numbers[value.codes])
    return np.full(rows, np.nan if value is None else float(value))


def _compile(node: ast.expr, expression: str) -> Compiled:
    match node:
        case ast.Constant(value=value):
            return lambda _: value
        case ast.Name(id=name):
            return _compile_name(node, name, expression)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _compile(operand, expression)
            return lambda row: None if (value := inner(row)) is None else -value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _compile_operator(type(op), _compile(left, expression), _compile(right, expression))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in FUNCTIONS or name in NULL_SKIPPING:
            return _compile_call(name, [_compile(argument, expression) for argument in arguments])
    raise unknown_part(node, expression)


def _compile_name(node: ast.expr, name: str, expression: str) -> Compiled:
    def column(row: Row) -> Value:
        if name not in row:
            raise unknown_part(node, expression)
        return row[name]

    return column


def _compile_operator(op: type, left: Compiled, right: Compiled) -> Compiled:
    single = OPERATORS[op]

    def compute(row: Row) -> Value:
        a, b = left(row), right(row)
        if a is None or b is None:
            return None
        if op is ast.Div and isinstance(b, np.ndarray):
            return _divide(a, b)
        return single(a, b)  # numpy's operators for columns; a division by a single number, too

    return compute


def _divide(a: Value, b: Numbers) -> Numbers:
    quotient = np.full(len(b), np.nan)
    np.divide(a, b, out=quotient, where=b != 0)
    return quotient


def _compile_call(name: str, arguments: list[Compiled]) -> Compiled:
    single = FUNCTIONS.get(name)
    over_columns = _OVER_COLUMNS[name]

    def compute(row: Row) -> Value:
        values = [argument(row) for argument in arguments]
        if any(isinstance(value, (np.ndarray, Texts, Moments)) for value in values):
            if single is not None and any(value is None for value in values):
                return None
            return over_columns(*values)
        if single is None:
            return NULL_SKIPPING[name](*[value for value in values if value is not None])
        return None if None in values else single(*values)

    return compute


def _ln(x: Numbers) -> Numbers:
    return np.log(x, out=np.full(len(x), np.nan), where=x > 0)


def _log1p(x: Numbers) -> Numbers:
    return np.log1p(x, out=np.full(len(x), np.nan), where=x > -1)


def _exp(x: Numbers) -> Numbers:
    with np.errstate(over="ignore"):
        return np.exp(x)


def _hour(at: Moments) -> Texts:
    hours = np.floor(at.wall % SECONDS_OF_DAY / 3600)
    # Whole numbers, as ids are hashed from their text; the last one is for no moment.
    return Texts([*range(24), None], np.where(np.isnan(hours), 24, hours).astype(np.int64))


def _datediff(end: Value, start: Value) -> Numbers:
    return np.asarray(_day_number(end) - _day_number(start))


def _day_number(moment: Value) -> Any:
    if isinstance(moment, Moments):
        return moment.days
    return ((moment.date() if isinstance(moment, datetime) else moment) - _EPOCH).days


def _concat(*parts: Value) -> Texts:
    """The concatenated texts, null where a part is; rows whose parts are the same are computed once."""
    columns = [part for part in parts if isinstance(part, Texts)]
    if len(columns) == 1:
        return columns[0].map(lambda text: _joined(*[text if isinstance(part, Texts) else part for part in parts]))
    codes = np.stack([column.codes for column in columns], axis=1)  # (rows, columns)
    pairs, inverse = np.unique(codes, axis=0, return_inverse=True)
    values = []
    for pair in pairs.tolist():
        texts = iter([column.values[code] for column, code in zip(columns, pair, strict=True)])
        values.append(_joined(*[next(texts) if isinstance(part, Texts) else part for part in parts]))
    return Texts(values, inverse.ravel())


def _joined(*parts: Any) -> str | None:
    if None in parts:  # as SQL's concat
        return None
    return "".join(str(part) for part in parts)


def _coalesce(*values: Value) -> Value:
    return reduce(_first_of, (value for value in values if value is not None))


def _first_of(a: Value, b: Value) -> Value:
    if isinstance(a, np.ndarray):
        return np.where(np.isnan(a), b, a)
    if isinstance(a, Texts):
        if isinstance(b, Texts):
            codes = np.where(_is_null(a), b.codes + len(a.values), a.codes)
            return Texts([*a.values, *b.values], codes)
        return a.map(lambda value: b if value is None else value)
    return a  # a single value that is not null


def _greatest(*values: Value) -> Value:
    return reduce(np.fmax, (value for value in values if value is not None))


def _is_null(value: Value) -> NDArray[np.bool_]:
    if isinstance(value, Texts):
        return np.asarray(np.array([one is None for one in value.values])[value.codes])
    return np.asarray(np.isnan(value.wall if isinstance(value, Moments) else value))


# By the names of FUNCTIONS and NULL_SKIPPING; at least one argument is a column, and none of FUNCTIONS' is null.
_OVER_COLUMNS: dict[str, Callable[..., Value]] = {
    "ln": _ln,
    "log1p": _log1p,
    "exp": _exp,
    "abs": np.abs,
    "sign": np.sign,
    "concat": _concat,
    "hour": _hour,
    "datediff": _datediff,
    "coalesce": _coalesce,
    "greatest": _greatest,
    "isnull": lambda value: _is_null(value).astype(np.float64),
}
