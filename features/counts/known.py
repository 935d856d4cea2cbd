"""What was known before a day: impressions and clicks per item, user, topic, and user × topic, and the users' tags.

Every row is joined with counts of strictly earlier days, so no row sees its own label or the future.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

# Name of the counts -> the columns they are kept by.
GROUPS: dict[str, tuple[str, ...]] = {
    "item": ("item_id",),
    "user": ("user_id",),
    "category": ("category",),
    "user_category": ("user_id", "category"),
    "all": (),
}
TAG_STRENGTH = 10.0  # impressions that the usual shares weigh as much as in a user's tags
LIKED_STRENGTH = 1.0  # expected clicks that the usual rate weighs as much as in a user's liked tag
NUM_TAGS = 3


@dataclass(frozen=True)
class Rates:
    """Click rates of the training rows: overall, and at each place of a list; constants of every example."""

    prior: float
    by_position: Mapping[int, float] = field(default_factory=dict)

    def expected(self, position: Column) -> Column:
        """Clicks to expect of an impression at `position`: the rate there, or overall where there are no places."""
        value = F.lit(self.prior)
        for place, rate in self.by_position.items():
            value = F.when(position == place, rate).otherwise(value)
        return value


def fit_rates(train: DataFrame) -> Rates:
    """From rows of the training split, and from no others."""
    rows = train.groupBy("position").agg(F.count("*").alias("shown"), F.sum("label").alias("clicks")).collect()
    shown = sum(row["shown"] for row in rows)
    clicks = sum(row["clicks"] for row in rows)
    prior = clicks / max(shown, 1)
    # A place that was rarely shown is pulled to the overall rate.
    by_position = {
        int(row["position"]): (row["clicks"] + 20 * prior) / (row["shown"] + 20)
        for row in rows
        if row["position"] is not None
    }
    return Rates(prior, dict(sorted(by_position.items())))


def with_counts(rows: DataFrame, known: DataFrame, rates: Rates, prior_strength: float) -> DataFrame:
    """Add what was known before each row's day.

    `rows` have user_id, item_id, category and `day`; `known` are the labelled rows that may be counted, with
    `position`. Added are `<group>_shown`, `<group>_clicks` and `<group>_expected` (clicks that the places let expect),
    `user_last_click`, `user_tag1..3`, `user_liked_tag`, `category_share`, `prior_rate` and `prior_strength`.
    """
    known = known.withColumn("expected", rates.expected(F.col("position")))
    before = {group: _before(known, _wanted(rows, known, group), group) for group in GROUPS}
    shares = _shares(before["category"], before["all"])
    for group, keys in GROUPS.items():
        if keys:
            rows = rows.join(before[group], on=[*keys, "day"], how="left")
    rows = rows.join(_tags(before["user_category"], before["user"], shares), on=["user_id", "day"], how="left")
    rows = rows.join(
        F.broadcast(shares.select("category", "day", "category_share")), on=["category", "day"], how="left"
    )
    return rows.withColumns({"prior_rate": F.lit(rates.prior), "prior_strength": F.lit(prior_strength)})


def _wanted(rows: DataFrame, known: DataFrame, group: str) -> DataFrame:
    """Keys and days that counts are asked for."""
    keys = GROUPS[group]
    if group in ("item", "user"):
        return rows.select(*keys, "day").distinct()
    # Tags compare all topics of a user with all topics there are.
    of_whom = ["user_id"] if "user_id" in keys else []
    days, every_key = rows.select(*of_whom, "day").distinct(), known.select(*keys).distinct()
    return days.join(every_key, on=of_whom) if of_whom else days.crossJoin(F.broadcast(every_key))


def _before(known: DataFrame, wanted: DataFrame, group: str) -> DataFrame:
    """Sums over the days before each `wanted` key and day, one row each; none where nothing was known."""
    keys, names = GROUPS[group], ("shown", "clicks", "expected")
    per_day = known.groupBy(*keys, "day").agg(
        F.count("*").alias("shown"), F.sum("label").alias("clicks"), F.sum("expected").alias("expected")
    )
    asked = wanted.withColumn("asked", F.lit(True))
    both = per_day.withColumn("asked", F.lit(False)).unionByName(asked, allowMissingColumns=True)
    earlier = (
        Window.partitionBy(F.lit(group), *keys).orderBy(F.unix_date("day")).rangeBetween(Window.unboundedPreceding, -1)
    )
    sums = {f"{group}_{name}": F.sum(name).over(earlier) for name in names}
    if group == "user":
        sums["user_last_click"] = F.max(F.when(F.col("clicks") > 0, F.col("day"))).over(earlier)
    return both.withColumns(sums).where(f"asked and {group}_shown is not null").drop("asked", *names)


def _shares(category: DataFrame, everything: DataFrame) -> DataFrame:
    """category, day, category_share of all impressions, category_clicks, category_expected."""
    return (
        category.where("category is not null")
        .join(F.broadcast(everything), on="day", how="inner")
        .withColumn("category_share", F.col("category_shown") / F.col("all_shown"))
        .select("category", "day", "category_share", "category_clicks", "category_expected")
    )


def _tags(user_category: DataFrame, user: DataFrame, shares: DataFrame) -> DataFrame:
    """user_id, day, user_tag1..3, user_liked_tag: topics by lift, and the one most clicked beyond expectation."""
    joined = (
        user_category.where("category is not null")
        .join(user.select("user_id", "day", "user_shown"), on=["user_id", "day"], how="inner")
        .join(F.broadcast(shares), on=["category", "day"], how="inner")
    )
    share = F.col("category_share")
    lift = (F.col("user_category_shown") + TAG_STRENGTH * share) / (F.col("user_shown") + TAG_STRENGTH) / share
    # Where no click was to be expected of a topic, as on a site without any, it has what was expected.
    usual = LIKED_STRENGTH * F.coalesce(F.try_divide("category_clicks", "category_expected"), F.lit(1.0))
    liked = (F.col("user_category_clicks") + usual) / (F.col("user_category_expected") + LIKED_STRENGTH)
    scored = joined.select("user_id", "day", "category", lift.alias("lift"), liked.alias("liked"))
    person = Window.partitionBy("user_id", "day")
    by_lift = F.row_number().over(person.orderBy(F.desc(F.round("lift", 9)), "category"))
    by_liked = F.row_number().over(person.orderBy(F.desc(F.round("liked", 9)), "category"))
    placed = scored.withColumns({"by_lift": by_lift, "by_liked": by_liked})
    tags = [
        F.max(F.when(F.col("by_lift") == n, F.col("category"))).alias(f"user_tag{n}") for n in range(1, NUM_TAGS + 1)
    ]
    liked_tag = F.max(F.when(F.col("by_liked") == 1, F.col("category"))).alias("user_liked_tag")
    return placed.where(f"by_lift <= {NUM_TAGS} or by_liked = 1").groupBy("user_id", "day").agg(*tags, liked_tag)
