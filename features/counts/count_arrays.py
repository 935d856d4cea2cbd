"""The counts of `features/counts/counts_before.py` as arrays, for a server: one request's candidates at once.

Users, items and topics have codes; arrays by code can lie in memory-mapped files. `running_counts.py` counts the same
for single rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.counts.counts_before import ClickRates
from features.counts.day_sums import NEVER, SUMS
from features.counts.user_days import LIKED_STRENGTH, NUM_TAGS, TAG_STRENGTH
from features.transforms.columns import Texts

Sums = NDArray[np.float64]  # (3, keys): SUMS of each key


@dataclass(frozen=True)
class CategoryCounts:
    """Sums of every topic. The arrays may be added to while a server runs."""

    names: Sequence[str | None]
    """By code; the last is None, of items without a topic, which are never counted."""
    sums: Sums
    """(3, topics + 1)."""
    num_shown: NDArray[np.float64]
    """(1,) impressions of all items, with a topic or not."""
    alphabetic: NDArray[np.int64]
    """(topics + 1,) rank of each name."""

    @classmethod
    def of(cls, names: Sequence[str | None], sums: Sums, num_shown: NDArray[np.float64]) -> "CategoryCounts":
        """With the ranks of the names, which end with None."""
        ranks = np.argsort(np.argsort(np.array([name or "" for name in names[:-1]], object), kind="stable"))
        return cls(names, sums, num_shown, np.append(ranks, len(ranks)).astype(np.int64))


@dataclass(frozen=True)
class UserCounts:
    """What was counted of one user; all zero for a new one."""

    shown: float = 0.0
    clicks: float = 0.0
    expected: float = 0.0
    last_click: date | None = None
    categories: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(k,) codes of the topics that the user was shown, each once."""
    sums: Sums = field(default_factory=lambda: np.zeros((3, 0)))
    """(3, k) sums of these topics."""


@dataclass(frozen=True)
class CountArrays:
    """Sums of all impressions of some days, by code of item, user and topic, and of user × topic."""

    items: Sums
    users: Sums
    last_click: NDArray[np.int32]  # (users,) days since 1970, NEVER without a click
    categories: Sums  # (3, topics + 1), the last of items without a topic: zero
    num_shown: int
    user_offsets: NDArray[np.int64]  # (users + 1,) where the topics of each user are in the next two
    user_categories: NDArray[np.int32]  # (pairs,) code of the topic
    pairs: Sums


@dataclass(frozen=True)
class Impressions:
    """Labelled impressions as arrays (rows,)."""

    user: NDArray[np.integer]
    item: NDArray[np.integer]
    category: NDArray[np.integer]  # code of the item's topic; the largest code for none
    position: NDArray[np.float64]  # NaN for none
    day: NDArray[np.integer]  # since 1970
    label: NDArray[np.integer]


def count_impressions(rows: Impressions, users: int, items: int, categories: int, rates: ClickRates) -> CountArrays:
    """Count impressions.

    Args:
        rows: of the days that are counted.
        users: number of users.
        items: number of items.
        categories: number of topics; a category of this code is none.
        rates: of the training rows.
    """
    expected = expected_clicks(rows.position, rates)
    values = (np.ones(len(rows.user)), rows.label.astype(np.float64), expected)
    has_topic = rows.category < categories
    pair, of_row = np.unique(
        rows.user[has_topic].astype(np.int64) * categories + rows.category[has_topic], return_inverse=True
    )
    last_click = np.full(users, NEVER, np.int32)
    is_click = rows.label > 0
    np.maximum.at(last_click, rows.user[is_click], rows.day[is_click].astype(np.int32))

    def sums(codes: NDArray[np.integer], size: int, weights: Sequence[NDArray[np.float64]] = values) -> Sums:
        return np.stack([np.bincount(codes, weight, minlength=size) for weight in weights])

    of_topics = [value[has_topic] for value in values]
    return CountArrays(
        items=sums(rows.item, items),
        users=sums(rows.user, users),
        last_click=last_click,
        categories=sums(rows.category[has_topic], categories + 1, of_topics),
        num_shown=len(rows.user),
        user_offsets=np.searchsorted(pair, np.arange(users + 1, dtype=np.int64) * categories),
        user_categories=(pair % max(categories, 1)).astype(np.int32),
        pairs=sums(of_row, len(pair), of_topics),
    )


def expected_clicks(position: NDArray[np.float64], rates: ClickRates) -> NDArray[np.float64]:
    """(rows,) clicks to expect of impressions at positions; the overall rate where there is none, or a new one."""
    expected = np.full(len(position), rates.prior)
    for number, rate in rates.by_position.items():
        expected[position == number] = rate
    return expected


def count_columns(
    user: UserCounts,
    categories: CategoryCounts,
    category: NDArray[np.integer],
    item_sums: Sums,
    rates: ClickRates,
) -> dict[str, Any]:
    """The columns that `with_counts_before` adds, for one user and many items.

    Args:
        user: of the request.
        categories: of all topics.
        category: (rows,) code of each item's topic.
        item_sums: (3, rows) sums of each item.
        rates: of the training rows.

    Returns:
        Single values of the user, numbers (rows,) of items and topics with NaN where nothing was counted, and
        `category` as texts.
    """
    columns: dict[str, Any] = {
        "category": Texts(categories.names, category),
        "user_last_click": user.last_click,
        "prior_rate": rates.prior,
        "prior_strength": rates.strength,
        "category_share": _share(categories)[category],
    }
    of_user = (user.shown, user.clicks, user.expected) if user.shown else (None, None, None)
    columns |= {f"user_{name}": value for name, value in zip(SUMS, of_user, strict=True)}
    pairs = np.zeros((3, len(categories.names)))
    pairs[:, user.categories] = user.sums
    for group, sums in (
        ("item", item_sums),
        ("category", categories.sums[:, category]),
        ("user_category", pairs[:, category]),
    ):
        shown = sums[0] > 0
        columns |= {f"{group}_{name}": np.where(shown, row, np.nan) for name, row in zip(SUMS, sums, strict=True)}
    return columns | user_tags(user, categories)


def user_tags(user: UserCounts, categories: CategoryCounts) -> dict[str, str | None]:
    """user_tag1..3 and user_liked_tag of `with_counts_before`, None where the user has fewer topics."""
    tags: dict[str, str | None] = {f"user_tag{n + 1}": None for n in range(NUM_TAGS)}
    tags["user_liked_tag"] = None
    codes = user.categories
    if not len(codes):
        return tags
    # As `_tags` of counts_before.py; the same rounding and the same order of equal topics.
    share, of_all = _share(categories)[codes], categories.sums[:, codes]
    lift = (user.sums[0] + TAG_STRENGTH * share) / (user.shown + TAG_STRENGTH) / share
    usual = np.divide(of_all[1], of_all[2], out=np.ones(len(codes)), where=of_all[2] != 0)
    liked = (user.sums[1] + LIKED_STRENGTH * usual) / (user.sums[2] + LIKED_STRENGTH)
    names = categories.alphabetic[codes]
    best = codes[np.lexsort((names, -np.round(lift, 9)))[:NUM_TAGS]].tolist()
    tags |= {f"user_tag{n + 1}": categories.names[code] for n, code in enumerate(best)}
    tags["user_liked_tag"] = categories.names[int(codes[np.lexsort((names, -np.round(liked, 9)))[0]])]
    return tags


def _share(categories: CategoryCounts) -> NDArray[np.float64]:
    """(topics + 1,) share of the impressions that each topic has; NaN for one that was never shown."""
    shown = categories.sums[0]
    return np.where(shown > 0, shown, np.nan) / max(float(categories.num_shown[0]), 1.0)
