"""The label: its share of positives, all and by day; and columns of impressions that give it away."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from conf.site import Action, Category, Impressions, Label, Number, Site
from conf.site.declaration import did_you_mean, place_of
from etl.sources.pandas_values import to_numbers, trimmed
from features.check.linked_clicks import linked_clicks
from features.check.part_sample import Finding, PartSample
from features.check.row_faults import clicks, valid_rows
from features.metrics.classification import auc

_GIVEN_AWAY = 0.99
_MIN_CLASS = 20  # rows of each class, for an AUC that says something


@dataclass(frozen=True)
class Positives:
    """Which rows of a sample are positives."""

    sample: PartSample
    is_positive: pd.Series
    """True or False of each row that will be loaded."""

    @property
    def share(self) -> float:
        """Of the rows that will be loaded."""
        if not len(self.is_positive):  # whose mean would be NaN
            return 0.0
        return float(self.is_positive.mean())

    def by_day(self, zone: str) -> pd.DataFrame | None:
        """Rows and positives (`rows`, `positives`) of each day by the site's clock; None without times."""
        times = self.sample.times
        if times is None:
            return None
        days = times[self.is_positive.index].dt.tz_convert(zone).dt.date
        return self.is_positive.groupby(days).agg(rows="size", positives="sum")


def positives_of(site: Site, sample: PartSample, happenings: Sequence[PartSample]) -> Positives | None:
    """Positives among the rows of actions or impressions; None where their columns are missing.

    Args:
        site: the declaration.
        sample: of a part.
        happenings: samples of all actions and impressions, some of which may be the clicks of others.
    """
    is_valid = valid_rows(sample)
    if isinstance(sample.part, Impressions):
        if sample.part.clicked_by is not None:
            linked = linked_clicks(sample, happenings, sample.part.clicked_by)
            return None if linked is None else Positives(sample, linked)
        clicked = clicks(sample)
        return None if clicked is None else Positives(sample, clicked[is_valid] == 1)
    label = site.label
    is_positive = pd.Series(True, index=sample.frame.index)
    if label is not None and isinstance(sample.part, Action):
        names = sample.texts("column")
        if sample.part.column is not None and names is None:
            return None
        is_positive = (
            trimmed(names) == label.action if names is not None else is_positive & (sample.part.name == label.action)
        )
        if label.at_least is not None and is_positive.any():
            texts = sample.texts("value")
            if texts is None:
                return None
            is_positive &= to_numbers(texts, sample.dialect.decimal) >= label.at_least
    return Positives(sample, is_positive[is_valid])


def label_findings(site: Site, positives: Sequence[Positives]) -> Iterator[Finding]:
    """A label that is true of no row, or of all of them."""
    shown = [one for one in positives if isinstance(one.sample.part, Impressions)]
    for one in shown:
        yield from _click_findings(one)
    chosen = [one for one in positives if isinstance(one.sample.part, Action)]
    if site.label is None:
        if not shown and any(one.sample.texts("value") is not None for one in chosen):
            place = place_of(site)
            yield Finding(
                place, "Site: no label: every row is a positive, whatever its value. Write label=Label(…).", False
            )
        return
    if chosen and not any(one.is_positive.any() for one in chosen):
        yield Finding(place_of(site.label), _without_positives(site.label, chosen))


def _click_findings(one: Positives) -> Iterator[Finding]:
    if len(one.is_positive) < 2 or one.share not in (0.0, 1.0):
        return
    part = one.sample.part
    if isinstance(part, Impressions) and part.clicked_by is not None:
        which = "None" if one.share == 0 else "All"
        text = (
            f'{which} of {len(one.is_positive):,} rows was clicked: "{part.clicked_by.action}" of the same user and '
            f"item within {part.clicked_by.within_minutes:g} minutes. Are ids and times written as those of the action?"
        )
        yield Finding(one.sample.place, f"Impressions: {text}")
    else:
        name = one.sample.roles["clicked"]
        which = "no click" if one.share == 0 else "a click"
        values = ", ".join(f"{value!r}" for value in one.sample.frame[name].value_counts().index[:5])
        evidence = f'"{name}" is {which} in all {len(one.is_positive):,} rows (values: {values})'
        yield Finding(one.sample.place, f"Impressions: {evidence}. Name another column.")


def _without_positives(label: Label, chosen: Sequence[Positives]) -> str:
    """The message about a label that no row has, with the range of the values or the names of the actions."""
    rows = sum(len(one.is_positive) for one in chosen)
    bound = f", at_least={label.at_least:g}" if label.at_least is not None else ""
    text = f'Label("{label.action}"{bound}) is true for 0 of {rows:,} rows'
    of_label: list[pd.Series] = []
    names: list[str] = []
    for one in chosen:
        column, values = one.sample.texts("column"), one.sample.texts("value")
        names += [str(name) for name in trimmed(column).value_counts().index[:20]] if column is not None else []
        part = one.sample.part
        is_of = (
            trimmed(column) == label.action
            if column is not None
            else isinstance(part, Action) and part.name == label.action
        )
        if values is not None and label.at_least is not None:
            of_label.append(
                to_numbers(values[is_of] if column is not None else values, one.sample.dialect.decimal).dropna()
            )
    if names and label.action not in names:
        return text + did_you_mean(label.action, names)
    numbers = pd.concat(of_label) if of_label else pd.Series(dtype=float)
    if len(numbers):
        return f"{text}; the value runs {numbers.min():g} to {numbers.max():g}. Choose a bound inside that range."
    return f"{text}. Choose another action."


def leak_findings(one: Positives) -> Iterator[Finding]:
    """Own columns of impressions that alone tell clicks from others: they were known only afterwards."""
    sample, labels = one.sample, one.is_positive
    if not isinstance(sample.part, Impressions):
        return
    is_valid = valid_rows(sample)
    if labels.sum() < _MIN_CLASS or (~labels).sum() < _MIN_CLASS:
        return
    for name, kind in sample.part.columns.items():
        if name not in sample.frame or not isinstance(kind, Number | Category) or not kind.is_feature:
            continue
        texts = trimmed(sample.frame.loc[is_valid, name])
        score = separation(texts, labels, is_number=isinstance(kind, Number), decimal=sample.dialect.decimal)
        if score > _GIVEN_AWAY:
            text = (
                f'"{name}" alone tells clicks from others (AUC {score:.3f}): it says what came of the impression. '
                "Leave it out, or declare it Outcome(…), a further label."
            )
            yield Finding(place_of(kind), text)


def separation(texts: pd.Series, labels: pd.Series, *, is_number: bool, decimal: str = ".") -> float:
    """How well a column alone tells positives from others: AUC, at least .5.

    Of texts, the rate of positives in one half of the rows scores the other half: a text of its own in each row tells
    nothing.

    Args:
        texts: (rows,) of the column.
        labels: (rows,) True for positives.
        is_number: whether it is read as a number.
        decimal: its sign.
    """
    if is_number:
        numbers = to_numbers(texts, decimal)
        if not numbers.notna().any():
            return 0.5
        scores = numbers.fillna(numbers.min() - 1).to_numpy()
        area = auc(labels.to_numpy(), scores)
        return max(area, 1 - area)
    is_first = np.random.default_rng(0).random(len(texts)) < 0.5
    keys = texts.fillna("")
    rates = labels[is_first].groupby(keys[is_first]).mean()
    scores = keys[~is_first].map(rates).fillna(labels.mean())
    rest = labels[~is_first]
    if rest.all() or not rest.any():
        return 0.5
    return float(auc(rest.to_numpy(), scores.to_numpy()))
