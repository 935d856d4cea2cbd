"""Impressions and clicks before a day, per item, user, topic, and user × topic, and the users' tags, on Spark.

Every row is joined with counts of strictly earlier days, so no row sees its own label or the future.
`features/counts/running_counts.py` counts the same for single requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from features.catalog import OWN_GROUPS, OWN_WINDOWS
from features.transforms.beta_prior import BetaPrior

# Name of the counts -> the columns that they are grouped by. Those of a site's own rates come last.
GROUPS: dict[str, tuple[str, ...]] = {
    "item": ("item_id",),
    "user": ("user_id",),
    "category": ("category",),
    "user_category": ("user_id", "category"),
    "all": (),
    **OWN_GROUPS,
}
SUMS = ("shown", "clicks", "expected")
TAG_STRENGTH = 10.0  # impressions that the usual shares weigh as much as in a user's tags
LIKED_STRENGTH = 1.0  # expected clicks that the usual rate weighs as much as in a user's liked tag
POSITION_STRENGTH = 20.0  # impressions that the overall rate weighs as much as in the rate at a position
NUM_TAGS = 3


@dataclass(frozen=True)
class ClickRates:
    """Click rates of the training rows: overall, and at each position of a list; constants of every example."""

    prior: float
    by_position: Mapping[int, float] = field(default_factory=dict)
    strength: float = 20.0
    """Impressions that the prior weighs in a smoothed rate."""

    def expected_clicks(self, position: Column) -> Column:
        """Clicks to expect of an impression: the rate at its position, or overall where it has none."""
        if not self.by_position:
            return F.lit(self.prior)
        # An array, not a chain of WHENs: lists of news have hundreds of positions.
        rates = [self.by_position.get(number) for number in range(max(self.by_position) + 1)]
        of_position = F.get(F.array(*[F.lit(rate).cast("double") for rate in rates]), position)
        return F.coalesce(of_position, F.lit(self.prior))


def fit_click_rates(train: DataFrame, strength: float | Literal["moments", "em"]) -> ClickRates:
    """Rates of the training split.

    Args:
        train: rows of the training split, and no others, with item_id, position and label.
        strength: of the prior, in impressions, or how it is estimated from the rates of the items.
    """
    # One row per position comes to the driver.
    rows = train.groupBy("position").agg(F.count("*").alias("shown"), F.sum("label").alias("clicks")).collect()
    prior = sum(row["clicks"] for row in rows) / max(sum(row["shown"] for row in rows), 1)
    # The rate at a position that was rarely shown is pulled to the overall rate.
    by_position = {
        int(row["position"]): (row["clicks"] + POSITION_STRENGTH * prior) / (row["shown"] + POSITION_STRENGTH)
        for row in rows
        if row["position"] is not None  # interactions were not shown in a list
    }
    if isinstance(strength, str):
        items = train.groupBy("item_id").agg(F.count("*").alias("shown"), F.sum("label").alias("clicks"))
        beta_prior = BetaPrior.fit(items, "clicks", "shown", strength)
        strength = beta_prior.alpha + beta_prior.beta  # a Beta prior counts as so many impressions
    return ClickRates(prior, dict(sorted(by_position.items())), strength)


def with_counts_before(
    rows: DataFrame, impressions: DataFrame, rates: ClickRates, *, has_few_days: bool = False
) -> DataFrame:
    """Add what was counted before each row's day.

    Costs one shuffle of the impressions for each of GROUPS, and of the rows one by user, in whose partitions the result
    is, and one for each other key of which there are many.

    Args:
        rows: with user_id, item_id, category, the columns of own rates, and `day`.
        impressions: the labelled rows that may be counted, with the same columns and `position`.
        rates: of the training rows.
        has_few_days: counts of items by day are as few as the items then, and are broadcast as these are.

    Returns:
        `rows` with `<group>_shown`, `<group>_clicks` and `<group>_expected` (clicks that the positions let expect) for
        each of GROUPS but `all`, `user_last_click`, `user_tag1..3`, `user_liked_tag`, `category_share`, `prior_rate`
        and `prior_strength`.
    """
    impressions = impressions.withColumn("expected", rates.expected_clicks(F.col("position")))
    before = {group: _sums_before(impressions, _keys_and_days(rows, impressions, group), group) for group in GROUPS}
    # A topic's share of all impressions, and its clicks, by day: few rows, broadcast.
    shares = (
        before["category"]
        .where("category is not null")
        .join(F.broadcast(before["all"]), on="day", how="inner")
        .withColumn("category_share", F.col("category_shown") / F.col("all_shown"))
        .select("category", "day", "category_share", "category_clicks", "category_expected")
    )
    for group, keys in GROUPS.items():
        if keys and group != "user":  # "all" has no columns of its own: it is in the shares
            is_small = group == "category" or (group == "item" and has_few_days)  # topics are few
            rows = rows.join(F.broadcast(before[group]) if is_small else before[group], on=[*keys, "day"], how="left")
    # One shuffle of the rows for all joins by user, that of histories included. The counts have theirs as well: else
    # Spark would rather shuffle the rows again, by user and day.
    counts = before["user"].repartition("user_id")
    rows = rows.repartition("user_id").join(counts, on=["user_id", "day"], how="left")
    # Tags are per user and day, so one join serves all of the user's rows of a day.
    tags = _tags(before["user_category"], before["user"], shares).repartition("user_id")
    rows = rows.join(tags, on=["user_id", "day"], how="left")
    rows = rows.join(
        F.broadcast(shares.select("category", "day", "category_share")), on=["category", "day"], how="left"
    )
    return rows.withColumns({"prior_rate": F.lit(rates.prior), "prior_strength": F.lit(rates.strength)})


def _keys_and_days(rows: DataFrame, impressions: DataFrame, group: str) -> DataFrame:
    """Keys of a group and days to sum up to."""
    keys = GROUPS[group]
    if group in ("item", "user", *OWN_GROUPS):
        return rows.select(*keys, "day").distinct()
    # Tags compare all topics of a user with all topics there are, shown today or not.
    user = ["user_id"] if "user_id" in keys else []
    days, all_keys = rows.select(*user, "day").distinct(), impressions.select(*keys).distinct()
    return days.join(all_keys, on=user) if user else days.crossJoin(F.broadcast(all_keys))


def _sums_before(impressions: DataFrame, keys_and_days: DataFrame, group: str) -> DataFrame:
    """SUMS over the days before each key and day, one row each; no row where nothing was counted."""
    keys = GROUPS[group]
    # Summed by day first: windows then run over days, not over impressions.
    per_day = impressions.groupBy(*keys, "day").agg(
        F.count("*").alias("shown"), F.sum("label").alias("clicks"), F.sum("expected").alias("expected")
    )
    # Days to sum up to stand beside the daily sums in one window: a join on day < day would multiply rows.
    both = per_day.withColumn("is_output", F.lit(False)).unionByName(
        keys_and_days.withColumn("is_output", F.lit(True)), allowMissingColumns=True
    )
    # "all" has no keys: without the literal, Spark warns of a window without partitions.
    first = -OWN_WINDOWS[group] if group in OWN_WINDOWS else Window.unboundedPreceding
    earlier_days = Window.partitionBy(F.lit(group), *keys).orderBy(F.unix_date("day")).rangeBetween(first, -1)
    sums = {f"{group}_{name}": F.sum(name).over(earlier_days) for name in SUMS}
    if group == "user":
        sums["user_last_click"] = F.max(F.when(F.col("clicks") > 0, F.col("day"))).over(earlier_days)
    return both.withColumns(sums).where(f"is_output and {group}_shown is not null").drop("is_output", *SUMS)


def _tags(user_category: DataFrame, user: DataFrame, shares: DataFrame) -> DataFrame:
    """user_id, day, user_tag1..3, user_liked_tag: topics by lift, and the one most clicked beyond expectation."""
    joined = (
        user_category.where("category is not null")
        .join(user.select("user_id", "day", "user_shown"), on=["user_id", "day"], how="inner")
        .join(F.broadcast(shares), on=["category", "day"], how="inner")
    )
    share = F.col("category_share")
    # How much more of the topic this user was shown than others, few impressions pulled to 1.
    lift = (F.col("user_category_shown") + TAG_STRENGTH * share) / (F.col("user_shown") + TAG_STRENGTH) / share
    # Where no click was to be expected of a topic, as on a site without any, the prior is what was expected.
    prior_clicks = LIKED_STRENGTH * F.coalesce(F.try_divide("category_clicks", "category_expected"), F.lit(1.0))
    liked = (F.col("user_category_clicks") + prior_clicks) / (F.col("user_category_expected") + LIKED_STRENGTH)
    scored = joined.select("user_id", "day", "category", lift.alias("lift"), liked.alias("liked"))
    # Rounded: sums in another order must not change which of two equal topics comes first.
    of_user = Window.partitionBy("user_id", "day")
    by_lift = F.row_number().over(of_user.orderBy(F.desc(F.round("lift", 9)), "category"))
    by_liked = F.row_number().over(of_user.orderBy(F.desc(F.round("liked", 9)), "category"))
    ranked = scored.withColumns({"by_lift": by_lift, "by_liked": by_liked})
    tags = [
        F.max(F.when(F.col("by_lift") == n, F.col("category"))).alias(f"user_tag{n}") for n in range(1, NUM_TAGS + 1)
    ]
    liked_tag = F.max(F.when(F.col("by_liked") == 1, F.col("category"))).alias("user_liked_tag")
    return ranked.where(f"by_lift <= {NUM_TAGS} or by_liked = 1").groupBy("user_id", "day").agg(*tags, liked_tag)
