"""Impressions and clicks before a day, per item, user, topic, and user × topic, and the users' tags, on Spark.

Every row is joined with counts of strictly earlier days, so no row sees its own label or the future.
`features/counts/running_counts.py` counts the same for single requests.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from features.catalog import OWN_GROUPS, OWN_WINDOWS
from features.counts.day_sums import SUMS, DaySums
from features.counts.user_days import SCHEMA, user_days
from features.transforms.beta_prior import BetaPrior

ROWS_AT_ONCE = 500_000  # impressions of users that a worker counts together
MAX_COLLECTED = 1_000_000  # sums of an item on a day that the driver takes; 24 bytes each

# Name of the counts -> the columns that they are grouped by. Those of a site's own rates come last.
GROUPS: dict[str, tuple[str, ...]] = {
    "item": ("item_id",),
    "user": ("user_id",),
    "category": ("category",),
    "user_category": ("user_id", "category"),
    "all": (),
    **OWN_GROUPS,
}
POSITION_STRENGTH = 20.0  # impressions that the overall rate weighs as much as in the rate at a position


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
    rows: DataFrame,
    impressions: DataFrame,
    rates: ClickRates,
    *,
    has_few_days: bool = False,
    with_more: Callable[[DataFrame], DataFrame] | None = None,
) -> DataFrame:
    """Add what was counted before each row's day.

    Costs a shuffle of the rows by user, in whose partitions the result is, and one of some columns of the impressions;
    for each group of own rates, and for items where these are too many for the driver, one of either by its keys.

    Args:
        rows: with user_id, item_id, category, the columns of own rates, and `day`.
        impressions: the labelled rows that may be counted, with the same columns and `position`.
        rates: of the training rows.
        has_few_days: counts of items by day are as few as the items then, and are broadcast as these are.
        with_more: adds columns to the users and days of the rows, user_id and day, before they are joined; its joins
            by user cost no shuffle of these.

    Returns:
        `rows` with `<group>_shown`, `<group>_clicks` and `<group>_expected` (clicks that the positions let expect) for
        each of GROUPS but `all`, `user_last_click`, `user_tag1..3`, `user_liked_tag`, `category_share`, `prior_rate`
        and `prior_strength`.
    """
    impressions = impressions.withColumn("expected", rates.expected_clicks(F.col("position")))
    items, topics = _collected_sums(impressions)
    num_shown = int(topics.all_shown[-1])
    for group in ["item", *OWN_GROUPS] if items is None else OWN_GROUPS:
        keys = [*GROUPS[group], "day"]
        sums = _sums_before(impressions, rows.select(*keys).distinct(), group)
        rows = rows.join(F.broadcast(sums) if group == "item" and has_few_days else sums, on=keys, how="left")
    # One shuffle of the rows for all that is by user, histories included, and no sort: parts are small.
    fewest = rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1
    partitions = max(int(fewest), num_shown // ROWS_AT_ONCE)
    states = _user_days(rows, impressions, topics, partitions).repartition(partitions, "user_id")
    states = states if with_more is None else with_more(states)
    rows = rows.repartition(partitions, "user_id")
    rows = rows.join(states.hint("shuffle_hash"), on=["user_id", "day"], how="left")
    # After the shuffle, which so has fewer columns.
    rows = _with_day_sums(rows, topics, "category")
    if items is not None:
        rows = _with_day_sums(rows, items, "item").drop("item_share")
    of_topic = F.try_element_at("topics", F.col("category"))
    rows = rows.withColumns({f"user_category_{name}": of_topic[name] for name in SUMS}).drop("topics")
    return rows.withColumns({"prior_rate": F.lit(rates.prior), "prior_strength": F.lit(rates.strength)})


def _collected_sums(impressions: DataFrame) -> tuple[DaySums | None, DaySums]:
    """Sums of items, None where they are too many for the driver, and of topics."""
    daily = _daily_sums(impressions, ["item_id", "category"]).limit(MAX_COLLECTED + 1).toArrow()
    if daily.num_rows <= MAX_COLLECTED:
        items, topics = _day_sums(daily, "item_id"), _day_sums(daily, "category")
        # Broadcast for each day from the first to the last, not only for those with impressions.
        num_days = items.last_day - int(items.days[0]) if len(items.days) else 0
        return (items if len(items.keys) * num_days <= MAX_COLLECTED else None), topics
    return None, _day_sums(_daily_sums(impressions, ["category"]).toArrow(), "category")


def _day_sums(daily: pa.Table, key: str) -> DaySums:
    sums = np.stack([daily[name].fill_null(0).to_numpy().astype(np.float64) for name in SUMS])
    return DaySums.of(daily[key].to_pylist(), daily["day"].cast("int32").to_numpy().astype(np.int64), sums)


def _with_day_sums(rows: DataFrame, sums: DaySums, group: str) -> DataFrame:
    """With SUMS of a group with a single key, and `<group>_share`; they are broadcast."""
    schema = f"{GROUPS[group][0]} string, _day date, {group}_shown bigint, {group}_clicks bigint, "
    schema += f"{group}_expected double, {group}_share double"
    table = sums.table().rename_columns([column.split()[0] for column in schema.split(", ")])
    by_day = F.broadcast(rows.sparkSession.createDataFrame(table, schema))
    # After the last day nothing changes any more.
    last = F.date_from_unix_date(F.lit(sums.last_day))
    dated = rows.withColumn("_day", F.least("day", last))
    return dated.join(by_day, on=[GROUPS[group][0], "_day"], how="left").drop("_day")


def _user_days(rows: DataFrame, impressions: DataFrame, topics: DaySums, partitions: int) -> DataFrame:
    """`user_days` of the users and days of `rows`."""
    label = F.coalesce(F.col("label").cast("int"), F.lit(0)).alias("label")  # null is for days to sum up to
    counted = impressions.select("user_id", "day", "category", label, "expected")
    both = counted.unionByName(rows.select("user_id", "day").distinct(), allowMissingColumns=True)
    by_user: DataFrame = both.where("user_id is not null").repartition(partitions, "user_id")
    return by_user.mapInArrow(partial(user_days, topics=topics), SCHEMA)


def _daily_sums(impressions: DataFrame, keys: Sequence[str]) -> DataFrame:
    """SUMS of the impressions of each key on each day."""
    return impressions.groupBy(*keys, "day").agg(
        F.count("*").alias("shown"), F.sum("label").alias("clicks"), F.sum("expected").alias("expected")
    )


def _sums_before(impressions: DataFrame, keys_and_days: DataFrame, group: str) -> DataFrame:
    """SUMS over the days before each key and day, one row each; no row where nothing was counted."""
    keys = GROUPS[group]
    # Days to sum up to stand beside the daily sums in one window: a join on day < day would multiply rows.
    both = (
        _daily_sums(impressions, keys)
        .withColumn("is_output", F.lit(False))
        .unionByName(keys_and_days.withColumn("is_output", F.lit(True)), allowMissingColumns=True)
    )
    first = -OWN_WINDOWS[group] if group in OWN_WINDOWS else Window.unboundedPreceding
    # Windows run over days, not over impressions.
    earlier_days = Window.partitionBy(F.lit(group), *keys).orderBy(F.unix_date("day")).rangeBetween(first, -1)
    sums = {f"{group}_{name}": F.sum(name).over(earlier_days) for name in SUMS}
    return both.withColumns(sums).where(f"is_output and {group}_shown is not null").drop("is_output", *SUMS)
