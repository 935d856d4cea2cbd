"""The text of a check: tables of parts, columns and days, then what is wrong."""

from collections.abc import Iterator, Sequence

from conf.site import Items, Users
from features.check.column_checks import describe_columns
from features.check.label_checks import Positives
from features.check.part_sample import PartSample
from features.check.row_faults import refusals

_MAX_DAYS = 14


def part_lines(sample: PartSample, zone: str) -> Iterator[str]:
    """Rows, days, refused rows and columns of one part."""
    num_read = len(sample.frame) + len(sample.refused)
    of_all = "all" if sample.is_whole else f"a sample of {num_read:,}, from all over about"
    files = f" in {len(sample.files):,} files" if len(sample.files) > 1 else ""
    rows = f"{of_all} {sample.num_rows:,} rows{files} of {sample.part.source.pattern}"
    yield f"{sample.kind}: {rows}; {sample.dialect.describe()}"
    yield f"  {_days(sample, zone)}" if not isinstance(sample.part, Items | Users) else ""
    for refusal in refusals(sample):
        yield f"  refused: {refusal.count:,} × {refusal.reason}: {'; '.join(refusal.examples)}"
    header = ("column", "is", "missing", "distinct", "range or first")
    yield from (f"  {line}" for line in table([header, *describe_columns(sample)]))


def _days(sample: PartSample, zone: str) -> str:
    times = sample.times
    if times is None or not times.notna().any():
        day = sample.part.source.day
        return f"no times: the rows are of {'the day in the name of their file' if day == 'name' else day or 'no day'}"
    local = times.dropna().dt.tz_convert(zone)
    noun = "days" if sample.is_whole else "days of the sample"
    return f"{local.dt.date.nunique():,} {noun}, {local.min():%Y-%m-%d %H:%M} to {local.max():%Y-%m-%d %H:%M} ({zone})"


def label_lines(one: Positives, zone: str) -> Iterator[str]:
    """Share of positives of a part, and of its days: all of few, else the first and the last ones."""
    num_positive, num_rows = int(one.is_positive.sum()), len(one.is_positive)
    yield f"label of {one.sample.kind}: {num_positive:,} of {num_rows:,} rows ({one.share:.2%})"
    days = one.by_day(zone)
    if days is None or len(days) < 2:
        return
    half = _MAX_DAYS // 2
    chosen = days if len(days) <= _MAX_DAYS else days.iloc[[*range(half), *range(len(days) - half, len(days))]]
    rows = [("day", "rows", "positives", "share")]
    for day, row in chosen.iterrows():
        rows.append((str(day), f"{row.rows:,}", f"{row.positives:,}", f"{row.positives / row.rows:.2%}"))
    yield from (f"  {line}" for line in table(rows))
    if len(days) > _MAX_DAYS:
        shares = days.positives / days.rows
        yield f"  ({len(days) - _MAX_DAYS:,} days between them; share {shares.min():.2%} to {shares.max():.2%})"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts with columns of equal width."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
