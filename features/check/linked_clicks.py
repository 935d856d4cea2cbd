"""Clicks that are rows of their own, on samples: as `etl.ingest.clicks` joins them."""

from collections.abc import Sequence

import pandas as pd

from conf.site import Action, ClickedBy
from etl.sources.pandas_values import to_ids, to_numbers, trimmed
from features.check.part_sample import PartSample
from features.check.row_faults import valid_rows


def linked_clicks(shown: PartSample, happenings: Sequence[PartSample], rule: ClickedBy) -> pd.Series | None:
    """Whether each impression that will be loaded was clicked; None where a sample can't say.

    Of a part of the rows, the acts of most impressions are missing.

    Args:
        shown: of impressions.
        happenings: samples of all that happened.
        rule: which acts are clicks.
    """
    acts = [acts for sample in happenings if (acts := _acts(sample, rule)) is not None]
    samples = [shown, *(sample for sample in happenings if isinstance(sample.part, Action))]
    if not acts or shown.times is None or not all(sample.is_whole for sample in samples):
        return None
    impressions = _rows(shown, ["user", "item", "request"])
    is_by_request = any("request" in one for one in acts) and "request" in impressions
    keys = ["request", "item"] if is_by_request else ["user", "item"]
    numbered = impressions.assign(row=range(len(impressions)))
    joined = numbered.merge(pd.concat(acts, ignore_index=True), on=keys, suffixes=("", "_act"))
    delay = (joined["at_act"] - joined["at"]).dt.total_seconds()
    in_time = joined[delay.between(0, 60 * rule.within_minutes)].sort_values("at", kind="stable")
    clicked = in_time.groupby("act")["row"].last()
    return pd.Series(numbered["row"].isin(clicked), index=impressions.index)


def _acts(sample: PartSample, rule: ClickedBy) -> pd.DataFrame | None:
    """The rows that are clicks, numbered in `act`; None of other actions, and without times."""
    if not isinstance(sample.part, Action) or sample.times is None:
        return None
    names, values = sample.texts("column"), sample.texts("value")
    if names is None and sample.part.name != rule.action:
        return None
    is_click = pd.Series(True, index=sample.frame.index) if names is None else trimmed(names) == rule.action
    if rule.at_least is not None and values is not None:
        is_click &= to_numbers(values, sample.dialect.decimal) >= rule.at_least
    rows = _rows(sample, ["user", "item", "request"])
    rows = rows[is_click.reindex(rows.index)]
    return rows.assign(act=[f"{sample.place} {label}" for label in rows.index])


def _rows(sample: PartSample, roles: Sequence[str]) -> pd.DataFrame:
    """Ids and times (`at`) of the rows that will be loaded."""
    is_valid = valid_rows(sample)
    columns = {role: to_ids(sample.frame[sample.roles[role]])[is_valid] for role in roles if role in sample.roles}
    assert sample.times is not None
    return pd.DataFrame({**columns, "at": sample.times[is_valid]})
