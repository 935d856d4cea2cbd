"""Judge a history: pure functions over what was recorded, each with the promise that it checks.

A version counts as published at the latest when its attempt was acknowledged, and at the earliest when it started.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator

from history.record import Attempt, History, Read, Target

WHOLE_OR_NOTHING = ("ingest",)
"""Stages whose tables change together."""


def violations(history: History) -> list[str]:
    """One line for each broken promise; none for a history that holds."""
    checks = (reads, forward, together, outcomes, stage_rows, watermarks, ends, lines)
    return [f"seed {history.seed}: {check.__name__}: {line}" for check in checks for line in check(history)]


def reads(history: History) -> Iterator[str]:
    """Every read is one whole version of each source, none of the future, none before an acknowledged one."""
    for read in history.reads:
        where = f"{read.table} {read.day} by {read.reader}"
        if read.error:
            yield f"{where}: {read.error}"
            continue
        targets = {target.source: target for target in history.targets if target.table == read.table}
        if strangers := set(read.content) - set(targets):
            yield f"{where}: rows of {sorted(strangers)}"
        for source, target in targets.items():
            yield from (f"{where}: {line}" for line in _read_of_source(history, read, target, source))


def _read_of_source(history: History, read: Read, target: Target, source: str) -> Iterator[str]:
    versions = read.content.get(source, {})
    if len(versions) > 1:
        yield f"a mixture of versions of {source}: {dict(versions)}"
        return
    low, high = _bounds(history, target, read)
    if not versions:
        if low is not None and target.rows.get(read.day, {}).get(low):
            yield f"nothing of {source}, though version {low} was acknowledged"
        return
    ((version, rows),) = versions.items()
    whole = target.rows.get(read.day, {}).get(version)
    if rows != whole:
        yield f"{rows} of {whole} rows of version {version} of {source}"
    if low is not None and version < low:
        yield f"version {version} of {source} after {low} was acknowledged"
    if version > high:
        yield f"version {version} of {source} before any attempt at it, or of one that was refused"


def _bounds(history: History, target: Target, read: Read) -> tuple[int | None, int]:
    """The newest version acknowledged before a read began, and the newest that one may have published at its end."""
    days = (read.day, target.source)  # of events a folder's attempt publishes its late ones in other partitions
    versions = target.rows.get(read.day, {})
    own = [one for one in history.attempts if one.stage == target.stage and not one.must_fail]
    published = [one for one in own if one.day in days and one.version in versions]
    acknowledged = [one.version for one in published if one.outcome == "done" and one.ended <= read.started]
    started = [one.version for one in published if one.started <= read.ended]
    if target.stage == "events" and any(one.started <= read.ended for one in own):
        started = list(versions)  # whatever had landed, by an attempt at a day beside it
    return max(acknowledged, default=None), max(started, default=-1)


def forward(history: History) -> Iterator[str]:
    """A read that begins after another has ended sees no older version than that one did."""
    by_partition: dict[tuple[str, str], list[Read]] = defaultdict(list)
    for read in history.reads:
        if not read.error:
            by_partition[read.table, read.day].append(read)
    for (table, day), of_partition in by_partition.items():
        newest: dict[str, int] = {}
        pending = sorted(of_partition, key=lambda read: read.ended)
        for read in sorted(of_partition, key=lambda read: read.started):
            while pending and pending[0].ended < read.started:
                for source, versions in pending.pop(0).content.items():
                    newest[source] = max(newest.get(source, -1), *versions)
            for source, version in newest.items():
                if max(read.content.get(source, {}), default=-1) < version:
                    yield f"{table} {day} by {read.reader}: version {version} of {source} was there before, and is gone"


def together(history: History) -> Iterator[str]:
    """What a stage writes whole or not at all is of one version, once a command after a kill has ended.

    Between such an end and the stage's next attempt, all reads of its tables see the same version of a source.
    """
    tables: dict[tuple[str, str], set[str]] = defaultdict(set)
    for target in history.targets:
        if target.stage in WHOLE_OR_NOTHING:
            tables[target.stage, target.source].add(target.table)
    for (stage, source), of_source in tables.items():
        for start, end in _pauses(history, stage):
            versions = defaultdict(set)
            for read in history.reads:
                if read.table in of_source and not read.error and start <= read.started and read.ended <= end:
                    versions[read.day].add(max(read.content.get(source, {}), default=-1))
            for day, of_day in versions.items():
                if len(of_day) > 1:
                    yield f"{', '.join(sorted(of_source))} {day}: versions {sorted(of_day)} of {source} side by side"


def _pauses(history: History, stage: str) -> Iterator[tuple[float, float]]:
    """From the end of a command that opens Spark to the stage's next start, with no attempt at it in between."""
    opening = [
        one for one in history.attempts if one.outcome == "done" and one.stage != "collect" and not one.is_beside
    ]
    own = [one for one in history.attempts if one.stage == stage]
    for one in opening:
        if not any(other is not one and other.started < one.ended < other.ended for other in own):
            yield one.ended, min((other.started for other in own if other.started >= one.ended), default=math.inf)


def outcomes(history: History) -> Iterator[str]:
    """What nothing was done to, or was only frozen, ends well; what must be refused is refused."""
    for one in history.attempts:
        name = f"{one.stage} {one.day}"
        if one.must_fail and one.outcome == "done":
            yield f"{name}: bad rows were accepted"
        if (
            not one.must_fail
            and one.outcome == "failed"
            and not one.fault.startswith(("full disk", "read-only", "cut"))
        ):
            yield f"{name} failed {f'after {one.fault}' if one.fault else 'by itself'}: {one.error}"
        if one.outcome == "failed" and "Traceback" in one.error:
            yield f"{name}: a stack instead of a line"


def stage_rows(history: History) -> Iterator[str]:
    """`ops_run` has one row of each attempt that ended, at most one of each that was killed, and its counts add up."""
    for row in history.runs:
        accounted = row.rows_out + row.rows_invalid + row.rows_quarantined
        if row.status == "done" and row.rows_in != accounted:
            yield f"{row.stage} {row.day}: {row.rows_in} rows in, {accounted} accounted for"
    recorded = Counter((row.stage, row.day, row.status) for row in history.runs)
    attempts: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for one in history.attempts:
        attempts[one.stage, one.day].append(one)
    for (stage, day), of_day in attempts.items():
        if not any(row.stage == stage for row in history.runs):
            continue  # collect and vacuum have none
        # Events of a day make the days beside it again, with a row for each.
        counted = [one for one in history.attempts if one.stage == stage] if stage == "events" else of_day
        ended, most = Counter(one.outcome for one in of_day), Counter(one.outcome for one in counted)
        for status in ("done", "failed"):
            number = recorded[stage, day, status]
            # The disk may be too full for the row of a failure; the row of a killed one may be its last act.
            at_least = ended[status] if status == "done" else 0
            if not at_least <= number <= most[status] + most["killed"]:
                yield f"{stage} {day}: {number} rows with status {status}, of {dict(ended)} attempts"
        # Those that failed: the metastore may have refused a change that was decided.
        if (number := recorded[stage, day, "interrupted"]) > most["killed"] + most["failed"]:
            yield f"{stage} {day}: {number} rows with status interrupted, of {dict(ended)} attempts"


def watermarks(history: History) -> Iterator[str]:
    """The watermark of an import is the greatest value that its table has."""
    for name, (watermark, greatest) in history.watermarks.items():
        if watermark != greatest:
            yield f"{name}: watermark {watermark}, the table has {greatest}"


def ends(history: History) -> Iterator[str]:
    """The tables are those of a quiet run, and nothing is left over."""
    for table, digest in history.quiet.items():
        if history.final.get(table) != digest:
            yield f"{table} differs from that of a quiet run: {history.final.get(table)} instead of {digest}"
    yield from (f"left over: {leftover}" for leftover in history.leftovers)


def lines(history: History) -> Iterator[str]:
    """Every line is there once."""
    for line, number in history.lines.items():
        if number != 1:
            yield f"{line} is there {number} times"
