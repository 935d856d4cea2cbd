"""Which rows of a part the ingest will refuse, and why: the rules of `etl.ingest`, on a sample."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pandas as pd

from conf.site import Action, Impressions
from etl.ingest.interactions import MAX_ACTION_CHARS
from etl.site.fields import short
from etl.sources.pandas_values import to_ids, to_numbers, trimmed
from etl.sources.texts import yes_no_of
from etl.sources.values import DAMAGED_ID
from features.check.part_sample import Finding, PartSample

_MAX_LOST = 0.5  # of the rows, that anybody would let go
_NUM_EXAMPLES, _EXAMPLE_CHARS = 3, 80


@dataclass(frozen=True)
class Refusal:
    """Rows that are refused for one reason."""

    reason: str
    count: int
    examples: tuple[str, ...]


def refusals(sample: PartSample) -> list[Refusal]:
    """Rows of the sample that will be refused, by reason, the commonest first, with examples."""
    by_reason: dict[str, list[tuple[Sequence[int], str]]] = {}
    for file, row in sample.refused:
        by_reason.setdefault(row.reason, []).append(((file, row.line_number), row.line))
    for reason, column, is_wrong in _wrong_values(sample):
        texts = sample.frame.loc[is_wrong, column]
        examples = [(label, "empty" if text is None else f"{column} {text}") for label, text in texts.items()]
        by_reason.setdefault(f"{reason} in {column}", []).extend(examples)
    reasons = [
        Refusal(
            reason,
            len(rows),
            tuple(f"{sample.where(label)}: {short(text, _EXAMPLE_CHARS)}" for label, text in rows[:_NUM_EXAMPLES]),
        )
        for reason, rows in by_reason.items()
        if rows
    ]
    return sorted(reasons, key=lambda refusal: -refusal.count)


def valid_rows(sample: PartSample) -> pd.Series:
    """Whether each row of the sample's frame will be loaded."""
    is_valid = pd.Series(True, index=sample.frame.index)
    for _, _, is_wrong in _wrong_values(sample):
        is_valid &= ~is_wrong
    return is_valid


def refusal_findings(sample: PartSample, max_refused: float) -> Iterator[Finding]:
    """A fault where a larger share of the rows is refused than `ingest.max_refused` lets pass; a warning for less."""
    total = len(sample.frame) + len(sample.refused)
    reasons = refusals(sample)
    num_refused = sum(refusal.count for refusal in reasons)
    if not num_refused:
        return
    first = reasons[0]
    enough = math.ceil(num_refused / total * 20) / 20
    cure = "Correct the file, or name another column"
    is_fault = num_refused > max_refused * total
    cure += f"; --set ingest.max_refused={enough:g} lets them go." if is_fault and enough <= _MAX_LOST else "."
    evidence = f"{num_refused:,} of {total:,} rows ({num_refused / total:.1%}) can't be loaded"
    example = f"{first.count:,} × {first.reason}, first {first.examples[0]}"
    text = f"{sample.kind}: {evidence}; {example}. {cure}"
    yield Finding(sample.place, text, is_fault)


def clicks(sample: PartSample) -> pd.Series | None:
    """1 or 0 of each row of impressions, NaN for what is neither; None without that column."""
    part = sample.part
    texts = sample.texts("clicked") if isinstance(part, Impressions) else None
    if texts is None or not isinstance(part, Impressions):
        return None
    return texts.map(lambda text: yes_no_of(text, part.at_least, sample.dialect.decimal)).astype("float64")


@lru_cache(maxsize=32)
def _wrong_values(sample: PartSample) -> tuple[tuple[str, str, pd.Series], ...]:
    """Reason, column, and the rows that are refused for it; a row only for its first reason."""
    return tuple(_first_wrong_values(sample))


def _first_wrong_values(sample: PartSample) -> Iterator[tuple[str, str, pd.Series]]:
    remaining = pd.Series(True, index=sample.frame.index)
    for reason, column, is_wrong in _rules(sample):
        is_first = is_wrong & remaining
        remaining &= ~is_wrong
        if is_first.any():
            yield reason, column, is_first


def _rules(sample: PartSample) -> Iterator[tuple[str, str, pd.Series]]:
    ids = [role for role in ("key", "user", "item") if role in sample.roles]
    for role in ids:
        values = to_ids(sample.frame[sample.roles[role]])
        yield "missing_field", sample.roles[role], values.isna()
        yield "damaged_id", sample.roles[role], values.map(_is_damaged).astype(bool)
    if (times := sample.times) is not None:
        yield "bad_time", sample.roles["at"], times.isna()
    if isinstance(sample.part, Action):
        if (texts := sample.texts("value")) is not None:
            yield "bad_value", sample.roles["value"], to_numbers(texts, sample.dialect.decimal).isna()
        if (texts := sample.texts("column")) is not None:
            names = trimmed(texts)
            yield "missing_field", sample.roles["column"], names.isna()
            yield "bad_action", sample.roles["column"], names.str.len().fillna(0) > MAX_ACTION_CHARS
    elif (clicked := clicks(sample)) is not None:
        yield "bad_label", sample.roles["clicked"], clicked.isna()
        if (texts := sample.texts("position")) is not None:
            positions = to_numbers(texts, sample.dialect.decimal)
            yield "bad_position", sample.roles["position"], positions.isna() | (positions < 1)
        if (texts := sample.texts("propensity")) is not None:
            numbers = to_numbers(texts, sample.dialect.decimal)
            is_bad = trimmed(texts).notna() & ~((numbers > 0) & (numbers <= 1))
            yield "bad_propensity", sample.roles["propensity"], is_bad


def _is_damaged(text: str | None) -> bool:
    return text is not None and re.search(DAMAGED_ID, text) is not None
