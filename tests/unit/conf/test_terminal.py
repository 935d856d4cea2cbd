"""Printing data: nothing in it reaches the terminal as a command, and nothing of it is lost."""

import csv
import io
import json
import logging
import math

import pytest

from conf import UserError
from conf.console.logs import set_up_logging
from conf.console.terminal import print_rows, write_csv, write_json

# Colour, window title, the one-byte CSI, a carriage return over what was printed, text that reads backwards.
HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J\rgone \u202edcba"
OBEYED = ("\x1b", "\x07", "\x9b", "\r", "\u202e")


@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_a_terminal_obeys_nothing_that_stands_in_data(capsys: pytest.CaptureFixture[str], output: str) -> None:
    print_rows(["a", HOSTILE], [(HOSTILE, None)], output)
    printed = capsys.readouterr().out.replace("\r\n", "\n")  # ends of CSV's lines
    assert not [character for character in OBEYED if character in printed]
    assert r"\x1b[31mred" in printed or r"\u001b[31mred" in printed


def test_a_table_shows_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["a[b]"], [("[bold]Mozilla[/x] [link=http://x]",), ("two\nlines\tand a tab",)], "table")
    printed = capsys.readouterr().out
    assert "[bold]Mozilla[/x] [link=http://x]" in printed
    assert r"two\nlines\tand a tab" in printed
    assert "a[b]" in printed


def test_json_holds_the_exact_values() -> None:
    out = io.StringIO()
    rows = [(HOSTILE, 0.1, None), ("x", math.nan, -math.inf)]
    write_json(["text", "number", "nested"], [*rows, ("y", 1, {"deep": [math.inf, HOSTILE]})], out)
    assert json.loads(out.getvalue()) == [
        {"text": HOSTILE, "number": 0.1, "nested": None},
        {"text": "x", "number": "NaN", "nested": "-Infinity"},
        {"text": "y", "number": 1, "nested": {"deep": ["Infinity", HOSTILE]}},
    ]
    with pytest.raises(UserError, match="several columns are called a: rename"):
        write_json(["a", "b", "a"], [(1, 2, 3)], out)


def test_a_spreadsheet_computes_nothing_when_asked() -> None:
    plain, safe = io.StringIO(), io.StringIO()
    rows = [("=1+1", -1, "@sum"), ("a,b", None, "+49"), ("fine", 2.5, "-x")]
    write_csv(["a", "b", "c"], rows, plain)
    write_csv(["a", "b", "c"], rows, safe, formulas_as_text=True)
    assert list(csv.reader(plain.getvalue().splitlines()))[1:] == [
        ["=1+1", "-1", "@sum"], ["a,b", "", "+49"], ["fine", "2.5", "-x"],
    ]  # fmt: skip
    # Numbers stay numbers, negative ones too.
    assert list(csv.reader(safe.getvalue().splitlines()))[1:] == [
        ["'=1+1", "-1", "'@sum"], ["a,b", "", "'+49"], ["fine", "2.5", "'-x"],
    ]  # fmt: skip


def test_a_log_line_that_quotes_data_is_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        set_up_logging()
        logging.getLogger("etl").warning("row %s", HOSTILE)
    finally:
        logging.getLogger().handlers[:] = before
    printed = capfd.readouterr().err
    assert "\x1b" not in printed
    assert r"row \x1b[31mred" in printed
