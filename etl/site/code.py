"""Python text of a declaration: calls with their arguments, and a comment at each."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_WIDTH, _TRAILING = 116, 112


@dataclass(frozen=True)
class Argument:
    """One argument of a call, or entry of a list."""

    lines: Sequence[str]
    """Without the comma at the end; none for a comment alone."""
    comment: str = ""
    name: str = ""

    def rendered(self, indent: int) -> Iterator[str]:
        """The lines with their comment: behind the code where there is room, above it elsewhere."""
        lines = list(self.lines)
        if lines and self.name:
            lines[0] = f"{self.name}={lines[0]}"
        if len(lines) == 1 and self.comment and indent + len(lines[0]) + len(self.comment) + 4 <= _TRAILING:
            yield f"{lines[0]},  # {self.comment}"
            return
        yield from comment_lines(self.comment, indent)
        if lines:
            yield from lines[:-1]
            yield f"{lines[-1]},"


def comment_lines(text: str, indent: int = 0) -> list[str]:
    """A comment on as many lines as it needs."""
    width = max(_WIDTH - indent, 40)
    return [f"# {line}" for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)]


def call(name: str, arguments: Sequence[Argument], depth: int, *, close: str = ")") -> list[str]:
    """The lines of a call; one line for a few short arguments without comments.

    Args:
        name: what is called, up to its bracket: `Items(`.
        arguments: in order.
        depth: blanks before the call, for the width of comments.
        close: the closing bracket.
    """
    if all(len(one.lines) == 1 and not one.comment for one in arguments):
        parts = [f"{one.name}={one.lines[0]}" if one.name else one.lines[0] for one in arguments]
        if depth + len(line := f"{name}{', '.join(parts)}{close}") <= _WIDTH - 10:
            return [line]
    inner = [line for one in arguments for line in one.rendered(depth + 4)]
    return [name, *(f"    {line}" for line in inner), close]


def text(value: str) -> str:
    """A text as Python writes it, in double quotes."""
    escaped = repr(value)[1:-1].replace("\\'", "'").replace('"', '\\"') if "'" in value else repr(value)[1:-1]
    return f'"{escaped}"' if '"' not in value else repr(value)
