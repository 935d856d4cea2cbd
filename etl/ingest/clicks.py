"""Clicks that are rows of their own: which impressions they belong to."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


@dataclass(frozen=True, kw_only=True)
class ClickRule:
    """Which acts are clicks of impressions."""

    action: str
    at_least: float | None = None
    """Smallest value of an act that is one."""
    within_s: float
    """Seconds after the impression."""
    request: str | None = None
    """Column of the acts' context with the impression's request_id; without one, users and items decide."""

    def days_shown(self, days_acted: Iterable[date]) -> set[date]:
        """Days of the impressions that acts of these days may belong to."""
        return {day - timedelta(days=n) for day in days_acted for n in range(self._num_days)}

    def days_acted(self, days_shown: Iterable[date]) -> set[date]:
        """Days of the acts that may belong to impressions of these days."""
        return {day + timedelta(days=n) for day in days_shown for n in range(self._num_days)}

    @property
    def _num_days(self) -> int:
        return 1 + math.ceil(self.within_s / 86400)


def with_clicks(impressions: DataFrame, interactions: DataFrame, rule: ClickRule) -> DataFrame:
    """Set `is_clicked` to 1 for the impressions that an act belongs to, else to 0.

    An act belongs to the last impression before it: who saw an item twice and took it once clicked the second one.

    Args:
        impressions: rows of dwd_impression.
        interactions: rows of dwd_interaction of `rule.days_acted`.
        rule: which acts count.
    """
    is_click = F.col("action") == rule.action
    if rule.at_least is not None:
        is_click &= F.col("value") >= rule.at_least
    keys = ["user_id", "item_id"]
    if rule.request is not None:
        keys = ["request_id", "item_id"]
        interactions = interactions.withColumn("request_id", F.try_element_at("context", F.lit(rule.request)))
    acts = interactions.where(is_click).select("event_id", "acted_at", *keys)
    delay = F.col("acted_at").cast("double") - F.col("shown_at").cast("double")
    newest = Window.partitionBy("event_id").orderBy(F.desc("shown_at"), "position", "impression_id")
    clicked = (
        acts.join(impressions.select("impression_id", "shown_at", "position", *keys), on=keys)
        .where(delay.between(0, rule.within_s))
        .withColumn("place", F.row_number().over(newest))
        .where("place = 1")
        .select("impression_id", F.lit(1).alias("was_clicked"))
        .distinct()
    )
    joined = impressions.join(clicked, on="impression_id", how="left")
    return joined.withColumn("is_clicked", F.coalesce("was_clicked", F.lit(0))).drop("was_clicked")
