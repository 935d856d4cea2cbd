"""The counts of `features/counts/counts_before.py` for single requests, in the memory of one process."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.catalog import OWN_WINDOWS
from features.counts.counts_before import GROUPS, ClickRates
from features.counts.day_sums import SUMS
from features.counts.user_days import LIKED_STRENGTH, NUM_TAGS, TAG_STRENGTH


@dataclass
class Tally:
    """Sums of one key of a group."""

    shown: int = 0
    clicks: int = 0
    expected: float = 0.0


class RunningCounts:
    """Counts of finished days, by item, user, topic, and user × topic.

    Add the impressions of a day when it is over: features of a request may count earlier days only. Rates with a
    window of days come from `load_running_counts`: what was added is never taken away.
    """

    def __init__(self, rates: ClickRates) -> None:
        self._rates = rates
        self._tallies: dict[str, dict[tuple[Any, ...], Tally]] = {group: defaultdict(Tally) for group in GROUPS}
        self._user_categories: dict[Any, set[Any]] = defaultdict(set)
        self._last_click: dict[Any, date] = {}

    def add(self, impression: Mapping[str, Any]) -> None:
        """Count an impression: user_id, item_id, category, position, day, label, and the columns of own rates."""
        # No position, or a new one: the overall rate.
        expected = self._rates.by_position.get(impression["position"], self._rates.prior)
        for group, keys in GROUPS.items():
            key = tuple(impression[name] for name in keys)
            if None in key:  # as in SQL, nothing equals a missing value
                continue
            tally = self._tallies[group][key]
            tally.shown += 1
            tally.clicks += impression["label"]
            tally.expected += expected
        if impression["category"] is not None:  # items without a topic are in no tag
            self._user_categories[impression["user_id"]].add(impression["category"])
        if impression["label"]:  # days are added in order, so the newest click is the last
            self._last_click[impression["user_id"]] = impression["day"]

    def set_tally(self, group: str, key: tuple[Any, ...], tally: Tally, last_click: date | None) -> None:
        """Set the sums of a key of one of GROUPS, as counted elsewhere; `last_click` is used for users."""
        self._tallies[group][key] = tally
        if group == "user_category":
            self._user_categories[key[0]].add(key[1])
        if group == "user" and last_click is not None:
            self._last_click[key[0]] = last_click

    def columns(
        self, user_id: Any, item_id: Any, category: Any, row: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """The columns that `with_counts_before` adds, for one user and item; None where nothing was counted.

        Args:
            user_id: the user.
            item_id: the item.
            category: its topic.
            row: the columns of own rates.
        """
        ids = {**row, "item_id": item_id, "user_id": user_id, "category": category}
        columns: dict[str, Any] = {
            "user_last_click": self._last_click.get(user_id),
            "prior_rate": self._rates.prior,
            "prior_strength": self._rates.strength,
            "category_share": self._category_share(category),
        }
        for group, keys in GROUPS.items():
            # .get, not []: a defaultdict would grow with every new user that asks.
            tally = self._tallies[group].get(tuple(ids[name] for name in keys))
            columns |= {f"{group}_{name}": getattr(tally, name) if tally else None for name in SUMS}
        return columns | self._tags(user_id)

    def _category_share(self, category: Any) -> float | None:
        tally = self._tallies["category"].get((category,))
        return tally.shown / self._tallies["all"][()].shown if tally else None

    def _tags(self, user_id: Any) -> dict[str, Any]:
        """user_tag1..3 and user_liked_tag, None where the user has fewer topics."""
        by_lift, by_liked = [], []
        # As `_tags` of counts_before.py; the same rounding and the same order of equal topics.
        user_categories = self._user_categories.get(user_id, ())
        user_shown = self._tallies["user"][user_id,].shown if user_categories else 0
        for category in user_categories:
            share = self._category_share(category) or 1.0
            of_user, of_all = self._tallies["user_category"][user_id, category], self._tallies["category"][category,]
            lift = (of_user.shown + TAG_STRENGTH * share) / (user_shown + TAG_STRENGTH) / share
            prior_clicks = LIKED_STRENGTH * (of_all.clicks / of_all.expected if of_all.expected else 1.0)
            liked = (of_user.clicks + prior_clicks) / (of_user.expected + LIKED_STRENGTH)
            by_lift.append((-round(lift, 9), category))
            by_liked.append((-round(liked, 9), category))
        # Padded with None for users with fewer topics.
        best = [category for _, category in sorted(by_lift)[:NUM_TAGS]] + [None] * NUM_TAGS
        tags = {f"user_tag{n + 1}": best[n] for n in range(NUM_TAGS)}
        return tags | {"user_liked_tag": min(by_liked)[1] if by_liked else None}


def load_running_counts(impressions: DataFrame, rates: ClickRates, day: date, pairs: DataFrame) -> RunningCounts:
    """Counts of the days before `day`, as a server needs them for some users and items.

    Costs a shuffle for each of GROUPS; what comes to the driver grows with the pairs, the topics and the keys of own
    rates, not with the impressions.

    Args:
        impressions: labelled, with user_id, item_id, category, position and day.
        rates: of the training rows.
        day: the first day that is not counted.
        pairs: user_id and item_id of the requests.
    """
    earlier = impressions.where(F.col("day") < F.lit(day)).withColumn(
        "expected", rates.expected_clicks(F.col("position"))
    )
    counts = RunningCounts(rates)
    for group, keys in GROUPS.items():
        # As in SQL's joins, a missing key belongs to no group.
        rows = earlier.dropna(subset=list(keys)) if keys else earlier
        if group in OWN_WINDOWS:
            rows = rows.where(F.col("day") >= F.lit(day - timedelta(days=OWN_WINDOWS[group])))
        for key in {"user_id", "item_id"} & set(keys):
            # Only keys that a request asks for: topics are few, users and items are not.
            rows = rows.join(F.broadcast(pairs.select(key).distinct()), on=key, how="left_semi")
        sums = rows.groupBy(*keys).agg(
            F.count("*").alias("shown"),
            F.sum("label").alias("clicks"),
            F.sum("expected").alias("expected"),
            F.max(F.when(F.col("label") > 0, F.col("day"))).alias("last_click"),
        )
        # Without keys, there is a row of zeros on the first day.
        for row in sums.where("shown > 0").collect():
            counts.set_tally(
                group,
                tuple(row[key] for key in keys),
                Tally(row["shown"], row["clicks"], row["expected"]),
                row["last_click"],
            )
    return counts
