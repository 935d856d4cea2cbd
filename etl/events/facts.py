"""Parsed events -> facts: the first of doubled events, actions with their impressions, impressions with their clicks.

Every rule looks at two neighbouring days at most, so that what a day's tables hold does not depend on what else is
loaded together with it.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from etl.events.parse import ACTIONS


def drop_duplicates(events: DataFrame) -> DataFrame:
    """Keep the first event of each id: a sender that gets no answer sends the event again.

    An id is doubled where the same or the previous day has it already. Ordered by time and content, not by place: a
    file may be read alone or with others.
    """
    # One shuffle, by event id.
    order = Window.partitionBy("event_id").orderBy("happened_at", "line_hash")
    days_since = F.datediff(F.to_date("dt"), F.to_date(F.lag("dt").over(order)))
    return events.withColumn("days_since", days_since).where("days_since is null or days_since > 1").drop("days_since")


def to_actions(events: DataFrame, impressions: DataFrame) -> DataFrame:
    """Clicks, likes and purchases with the impression that each refers to, on its own day or the day before.

    Args:
        events: without duplicates.
        impressions: all impressions of those days and the days before.

    Returns:
        The actions with `is_matching` (null where there is no such impression, false where it is of another user or
        item) and `shown_dt`, the day of the impression that matches.
    """
    actions = events.where(F.col("type").isin(*ACTIONS)).drop(
        "features", "position", "device", "request_id", "propensity"
    )
    shown = impressions.select(
        F.col("event_id").alias("impression_id"),
        F.col("user_id").alias("shown_user"),
        F.col("item_id").alias("shown_item"),
        F.col("dt").alias("shown_dt"),
    )
    is_same = (F.col("user_id") == F.col("shown_user")) & (F.col("item_id") == F.col("shown_item"))
    # The ids of the actions are few beside the impressions, and broadcast where they are.
    pairs = (
        actions.select("event_id", "dt", "impression_id", "user_id", "item_id")
        .join(shown, on="impression_id", how="inner")
        .where(F.datediff(F.to_date("dt"), F.to_date("shown_dt")).between(0, 1))
    )
    matches = pairs.groupBy("event_id", "dt").agg(
        F.max(is_same).alias("is_matching"), F.min(F.when(is_same, F.col("shown_dt"))).alias("shown_dt")
    )
    return actions.join(matches, on=["event_id", "dt"], how="left")


def is_of_other_impression() -> Column:
    """Whether an action names an impression that is of another user or item."""
    return F.coalesce(~F.col("is_matching"), F.lit(False))


def to_impressions(events: DataFrame, actions: DataFrame) -> DataFrame:
    """Events -> dwd_impression: the impressions, with whether a click followed by the end of the next day."""
    key = ["impression_id", "user_id", "item_id", "dt"]
    clicks = actions.where("type = 'click' and is_matching").drop("dt").withColumnRenamed("shown_dt", "dt")
    clicked = clicks.select(*key).distinct().withColumn("is_clicked", F.lit(1))
    # An impression's own id is what clicks refer to.
    impressions = events.where(F.col("type") == "impression").withColumn("impression_id", F.col("event_id"))
    return (
        impressions.join(clicked, on=key, how="left")
        .withColumn("is_clicked", F.coalesce("is_clicked", F.lit(0)))
        .withColumnRenamed("happened_at", "shown_at")
    )


def to_interactions(actions: DataFrame) -> DataFrame:
    """Actions -> dwd_interaction: those of no other impression; an action without a value has 1."""
    accepted = actions.where(~is_of_other_impression()).withColumn("value", F.coalesce("value", F.lit(1.0)))
    return accepted.withColumnsRenamed({"type": "action", "happened_at": "acted_at"})


def daily_click_rate(impressions: DataFrame) -> DataFrame:
    """dwd_impression -> ads_ctr_daily: impressions, clicks, click-through rate and users of each day."""
    clicks = F.sum("is_clicked")
    totals = [F.count("*").alias("impressions"), clicks.alias("clicks"), (clicks / F.count("*")).alias("ctr")]
    return impressions.groupBy("dt").agg(*totals, F.countDistinct("user_id").alias("users"))
