"""Frozen values that know their line, and what is wrong with them: all faults of a file are told at once."""

import difflib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from conf.errors import UserError

T = TypeVar("T")


def _in_order(value: object) -> object:
    if not isinstance(value, list | tuple):  # of a set the order differs from process to process
        raise ValueError('write a list, as ["user_id", "city"]')
    return value


Name = Annotated[str, Field(min_length=1)]
"""Of a column."""
Names = Annotated[tuple[Name, ...], BeforeValidator(_in_order)]
"""Names whose order matters."""

_MAX_CHARS = 60  # of a wrong value in a message


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a declaration."""

    place: str
    """File and line, as `site.py:7`; the file alone where there is no line."""
    text: str
    """What is wrong, and what to do."""

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class SiteError(UserError):
    """A declaration is wrong; the message has every fault with its file and line."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = tuple(faults)


_faults: ContextVar[list[Fault] | None] = ContextVar("faults", default=None)


@contextmanager
def collected_faults() -> Iterator[list[Fault]]:
    """The faults of all values that are declared in the block, which then do not raise."""
    faults: list[Fault] = []
    token = _faults.set(faults)
    try:
        yield faults
    finally:
        _faults.reset(token)


def report(place: str, *texts: str) -> None:
    """Add faults to those that are being collected.

    Raises:
        SiteError: none are collected, and there is a fault.
    """
    faults = [Fault(place, text) for text in texts]
    if (collected := _faults.get()) is not None:
        collected.extend(faults)
    elif faults:
        raise SiteError(faults)


def place_of(value: object) -> str:
    """File and line where a value was declared."""
    return str(getattr(value, "_place", "site"))


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """The end of a message about an unknown name: a near one, and all of them."""
    near = difflib.get_close_matches(name, names, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else "."
    return f"{hint} There are: {', '.join(names)}."


@dataclass_transform(frozen_default=True)
def declaration(cls: type[T]) -> type[T]:
    """Make a class of frozen values whose arguments are checked, and which knows where it was declared.

    A wrong argument is a fault of the line; the value is then incomplete, so that the rest of the file can be read.
    """
    config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
    validated = validated_dataclass(cls, frozen=True, config=config)
    validate = validated.__init__

    def initialise(self: Any, *arguments: Any, **options: Any) -> None:
        caller = sys._getframe(1)
        place = f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
        try:
            validate(self, *arguments, **options)
        except (ValidationError, TypeError) as error:
            _fill(self, validated, arguments, options)
            report(place, *_texts(validated, error))
        object.__setattr__(self, "_place", place)

    # Set afterwards: pydantic would take another `__init__` of the class for the user's own.
    validated.__init__ = initialise  # type: ignore[method-assign]
    return cast(type[T], validated)


def _fill(value: object, cls: Any, arguments: Sequence[Any], options: dict[str, Any]) -> None:
    """Set the attributes of a value that was refused, as they were given."""
    for field, argument in zip(fields(cls), arguments, strict=False):
        options = {field.name: argument, **options}
    for field in fields(cls):
        default = getattr(cls, field.name, None)
        object.__setattr__(value, field.name, options.get(field.name, default))


def _texts(cls: Any, error: ValidationError | TypeError) -> list[str]:
    if isinstance(error, TypeError):
        return [f"{cls.__name__}: {error}"]
    names = [field.name for field in fields(cls)]
    texts = {}
    for problem in error.errors(include_url=False):
        if problem["type"] == "unexpected_positional_argument":
            texts[""] = f"{cls.__name__}: too many arguments; in order they are {', '.join(names)}"
            continue
        name = names[problem["loc"][0]] if isinstance(problem["loc"][0], int) else str(problem["loc"][0])
        if problem["type"] == "unexpected_keyword_argument":
            texts[name] = f'{cls.__name__}: unknown option "{name}"{did_you_mean(name, names)}'
        elif problem["type"] in ("missing_argument", "missing"):
            texts[name] = f'{cls.__name__}: "{name}" is missing'
        else:
            value = repr(problem["input"])[:_MAX_CHARS]
            # Of a union, each member complains: the first complaint stands for all.
            texts.setdefault(
                name, f'{cls.__name__}: "{name}" is {value}: {problem["msg"].removeprefix("Value error, ")}'
            )
    return list(texts.values())
