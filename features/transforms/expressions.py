"""The catalog's expressions, evaluated for one row without Spark; `columns.py` does so for many rows at once.

They are what Spark SQL and Python's grammar have in common: numbers, text, names of columns, + − * /, and the functions
of this module. Spark evaluates the same text for training sets.
"""

import ast
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from conf import UserError
from conf.clock import local_time


def evaluate(expression: str, row: Mapping[str, Any], zone: str = "UTC") -> Any:
    """The value of an expression over a row, None standing for SQL's null.

    Args:
        expression: as in the catalog.
        row: value of every column that the expression names; a moment without a time zone is UTC.
        zone: by whose clocks a moment has its hour and its day.

    Raises:
        UserError: when the expression has another operator, function or column.
    """
    tree = parse(expression)
    return _evaluate(tree, row, zone, expression)  # the text, too, for error messages


def _datediff(end: date, start: date) -> int:
    last, first = (at.date() if isinstance(at, datetime) else at for at in (end, start))
    return (last - first).days


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:  # Spark's doubles go to infinity, which counts as missing
        return math.inf


# Functions as in Spark SQL that give null for a null. Outside its domain, a logarithm is null in Spark, too.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ln": lambda x: math.log(x) if x > 0 else None,
    "log1p": lambda x: math.log1p(x) if x > -1 else None,
    "exp": _exp,
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "concat": lambda *texts: "".join(str(text) for text in texts),
    # Of what the clocks show: `_evaluate` has converted the moments.
    "hour": lambda at: at.hour,
    "datediff": _datediff,
}
# Functions that see only their arguments that are not null.
NULL_SKIPPING: dict[str, Callable[..., Any]] = {
    "coalesce": lambda *values: next(iter(values), None),
    "greatest": lambda *values: max(values, default=None),
    # Gets what is left of its one argument: nothing when it is null.
    "isnull": lambda *values: not values,
}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b if b else None,  # a build stops on it, a request has to be served
}


# A catalog has tens of expressions, and every request evaluates all of them.
@lru_cache(maxsize=1024)
def parse(expression: str) -> ast.expr:
    """The syntax tree of an expression."""
    return ast.parse(expression, mode="eval").body


def _evaluate(node: ast.expr, row: Mapping[str, Any], zone: str, expression: str) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in row:
            value = row[name]
            return local_time(value, zone) if isinstance(value, datetime) else value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _evaluate(operand, row, zone, expression)
            return None if value is None else -value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            a, b = _evaluate(left, row, zone, expression), _evaluate(right, row, zone, expression)
            return None if a is None or b is None else OPERATORS[type(op)](a, b)
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in NULL_SKIPPING:
            values = [_evaluate(argument, row, zone, expression) for argument in arguments]
            return NULL_SKIPPING[name](*[value for value in values if value is not None])
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in FUNCTIONS:
            values = [_evaluate(argument, row, zone, expression) for argument in arguments]
            return None if None in values else FUNCTIONS[name](*values)
    raise unknown_part(node, expression)


def unknown_part(node: ast.expr, expression: str) -> UserError:
    """The error for a part of an expression that is no column, operator or function of the catalog."""
    functions = ", ".join([*FUNCTIONS, *NULL_SKIPPING])
    return UserError(
        f"'{ast.unparse(node)}' (in {expression!r}) is no column or function of the catalog; functions: {functions}"
    )
