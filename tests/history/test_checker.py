"""The checker itself: a history that holds, and one small change for each promise that breaks it."""

from collections.abc import Callable
from copy import deepcopy

import pytest
from history.checker import violations
from history.record import Attempt, History, Read, StageRow, Target

DAY = "2031-01-01"


def good() -> History:
    """Version 1 is written; 2 is refused; 3 is killed, then done; two readers look on."""
    return History(
        seed=7,
        targets=[Target("import", "dim_user", "db", {DAY: {1: 5, 3: 4}})],
        attempts=[
            Attempt("import", DAY, 1, 0, 1, "done"),
            Attempt("import", DAY, 2, 2, 3, "failed", must_fail=True, error="twice the same"),
            Attempt("import", DAY, 3, 4, 5, "killed", fault="kill at rename"),
            Attempt("import", DAY, 3, 6, 8, "done", fault="freeze"),
        ],
        reads=[
            Read("a", "dim_user", DAY, 0, 0.5, {}),
            Read("a", "dim_user", DAY, 1.5, 3.5, {"db": {1: 5}}),
            Read("b", "dim_user", DAY, 4.5, 4.6, {"db": {1: 5}}),
            Read("b", "dim_user", DAY, 6.5, 7, {"db": {3: 4}}),
            Read("a", "dim_user", DAY, 6.6, 6.9, {"db": {1: 5}}),
            Read("a", "dim_user", DAY, 9, 9.5, {"db": {3: 4}}),
        ],
        runs=[
            StageRow("import", DAY, "done", 5, 5, 0, 0),
            StageRow("import", DAY, "failed", 0, 0, 0, 0),
            StageRow("import", DAY, "done", 4, 4, 0, 0),
        ],
        final={"dim_user": "abc"},
        quiet={"dim_user": "abc"},
        lines={"line 1": 1},
        watermarks={f"orders {DAY}": (9, 9)},
    )


def add_read(*times: float, **content: dict[int, int]) -> Callable[[History], None]:
    return lambda history: history.reads.append(Read("c", "dim_user", DAY, *times, content))


def lose_a_row(history: History) -> None:
    history.runs[0] = StageRow("import", DAY, "done", 5, 4, 0, 0)


def accept_bad_rows(history: History) -> None:
    history.attempts[1] = Attempt("import", DAY, 2, 2, 3, "done", must_fail=True)


def tear(history: History) -> None:
    """An ingest was killed between its two tables, and the export after it did not complete the change."""
    history.targets = [Target("ingest", table, "db", {DAY: {1: 5, 3: 4}}) for table in ("dim_user", "dim_item")]
    history.attempts = [
        Attempt("ingest", DAY, 1, 0, 1, "done"),
        Attempt("ingest", DAY, 3, 4, 5, "killed", fault="kill at alterPartitions"),
        Attempt("export", DAY, 3, 6, 8, "done"),
    ]
    history.reads = [
        Read("a", "dim_user", DAY, 8.1, 8.2, {"db": {3: 4}}),
        Read("b", "dim_item", DAY, 8.3, 8.4, {"db": {1: 5}}),
    ]


BROKEN: list[tuple[str, Callable[[History], None]]] = [
    ("a mixture of versions", add_read(6.5, 7, db={1: 5, 3: 4})),
    ("2 of 5 rows of version 1", add_read(1.5, 1.6, db={1: 2})),
    ("nothing of db, though version 1 was acknowledged", add_read(1.5, 1.6)),
    ("version 1 of db after 3 was acknowledged", add_read(8.5, 8.6, db={1: 5})),
    ("before any attempt at it, or of one that was refused", add_read(2.5, 2.6, db={2: 6})),
    ("before any attempt at it, or of one that was refused", add_read(2.5, 2.6, db={3: 4})),
    ("version 3 of db was there before, and is gone", add_read(7.5, 7.6, db={1: 5})),
    ("rows of ['other']", add_read(1.5, 1.6, db={1: 5}, other={1: 1})),
    ("by c: FileNotFound", lambda h: h.reads.append(Read("c", "dim_user", DAY, 1, 2, error="FileNotFound"))),
    ("bad rows were accepted", accept_bad_rows),
    ("failed by itself", lambda h: h.attempts.append(Attempt("import", DAY, 3, 9, 9.1, "failed", error="no"))),
    ("failed after freeze", lambda h: h.attempts.append(Attempt("import", DAY, 3, 9, 9.1, "failed", "freeze", "no"))),
    ("5 rows in, 4 accounted for", lose_a_row),
    ("4 rows with status done", lambda h: h.runs.extend(h.runs[:1] * 2)),
    ("1 rows with status done", lambda h: h.runs.pop()),
    ("watermark 8, the table has 9", lambda h: h.watermarks.update({f"orders {DAY}": (8, 9)})),
    ("differs from that of a quiet run", lambda h: h.final.update(dim_user="abd")),
    ("left over: swaps.json", lambda h: h.leftovers.append("swaps.json")),
    ("dim_item, dim_user 2031-01-01: versions [1, 3] of db side by side", tear),
    ("3 rows with status int", lambda h: h.runs.extend([StageRow("import", DAY, "interrupted", 0, 0, 0, 0)] * 3)),
    ("line 1 is there 2 times", lambda h: h.lines.update({"line 1": 2})),
]


def test_a_history_that_holds_has_no_violation() -> None:
    assert violations(good()) == []


@pytest.mark.parametrize(("message", "change"), BROKEN, ids=[message for message, _ in BROKEN])
def test_each_broken_promise_is_named(message: str, change: Callable[[History], None]) -> None:
    history = deepcopy(good())
    change(history)
    assert any(message in line for line in violations(history)), violations(history)


def test_a_read_while_a_version_is_published_may_be_either() -> None:
    history = good()
    for content in ({1: 5}, {3: 4}):
        history.reads = [*good().reads[:3], Read("c", "dim_user", DAY, 6.5, 7, {"db": content})]
        assert violations(history) == []
