"""Keys of items and users: one row each, and a row for each id of what happened."""

from collections.abc import Iterator, Sequence

import pandas as pd

from etl.sources.pandas_values import to_ids
from features.check.part_sample import Finding, PartSample
from features.check.row_faults import valid_rows

_MANY = 0.5  # unmatched ids: they are written otherwise
_FEW = 0.01
_POINT = r"\.0$"


def key_findings(sample: PartSample) -> Iterator[Finding]:
    """A key that several rows have."""
    texts = sample.texts("key")
    if texts is None:
        return
    ids = to_ids(texts).dropna()
    again = ids[ids.duplicated(keep=False)]
    if again.empty:
        return
    example = again.iloc[0]
    first, second = again[again == example].index[:2]
    text = (
        f'{sample.kind}: key "{sample.roles["key"]}" is not unique: {again.nunique():,} of {ids.nunique():,} values '
        f"have several rows, as {example!r} ({sample.where(first)} and {second[1]:,}). Write one row for each."
    )
    yield Finding(sample.place, text)


def match_findings(dimension: PartSample, happenings: Sequence[PartSample], role: str) -> Iterator[Finding]:
    """Ids of what happened that have no row in the table of items or users.

    Args:
        dimension: the items or users; of a sample of them nothing can be said.
        happenings: actions and impressions.
        role: `item` or `user`.
    """
    texts = dimension.texts("key")
    if texts is None or not dimension.is_whole:
        return
    keys = pd.Index(to_ids(texts).dropna().unique())
    for sample in happenings:
        column = sample.texts(role)
        if column is None:
            continue
        ids = pd.Index(to_ids(column[valid_rows(sample)]).dropna().unique())
        unmatched = ids[~ids.isin(keys)]
        share = len(unmatched) / max(len(ids), 1)
        if share <= _FEW:
            continue
        cure = _cure(unmatched, keys) if share > _MANY else "They get a row without attributes; complete the file."
        text = (
            f"{dimension.kind}: {len(unmatched):,} of {len(ids):,} {role}s of {sample.kind} ({share:.1%}) have no row, "
            f"as {unmatched[0]!r}; keys are such as {keys[0]!r}. {cure}"
        )
        yield Finding(dimension.place, text, is_fault=share > _MANY)


def _cure(unmatched: pd.Index, keys: pd.Index) -> str:
    """How ids would have to be written to be found."""
    without_point = [ids.str.replace(_POINT, "", regex=True) for ids in (unmatched, keys)]
    spellings = {
        "without the decimal point": without_point,
        "without leading zeros": [ids.str.lstrip("0") for ids in (unmatched, keys)],
        "in small letters": [ids.str.casefold() for ids in (unmatched, keys)],
    }
    for how, (ids, others) in spellings.items():
        if ids.isin(others).mean() > _MANY:
            return f"Write both {how}: then they match."
    return "Name the column that has the same ids."
