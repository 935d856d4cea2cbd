"""What was known before a day: impressions and clicks per item, user, topic, and user × topic, from training rows only.

Every row is joined with counts of strictly earlier days, so no row sees its own label or the future.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

# Name of the counts -> the columns they are kept by.
GROUPS: dict[str, tuple[str, ...]] = {
    "item": ("item_id",),
    "user": ("user_id",),
    "category": ("category",),
    "user_category": ("user_id", "category"),
}


def with_counts(rows: DataFrame, known: DataFrame, prior_strength: float) -> DataFrame:
    """Add `<group>_shown`, `<group>_clicks`, `user_last_click`, `prior_rate` and `prior_strength` to `rows`.

    `rows` have user_id, item_id, category and `day`; `known` are the labelled rows that may be counted.
    """
    days = rows.select(F.col("day").alias("as_of")).distinct()
    for group, keys in GROUPS.items():
        rows = rows.join(_before(known, days, group, keys), on=[*keys, "day"], how="left")
    # The rate that nothing else is known about; on the first day it comes from that day's own training rows, as a
    # constant for all of them.
    overall = known.agg(F.avg("label").alias("prior_rate"))
    return rows.crossJoin(F.broadcast(overall)).withColumn("prior_strength", F.lit(prior_strength))


def _before(known: DataFrame, days: DataFrame, group: str, keys: tuple[str, ...]) -> DataFrame:
    """Sums over the days before each day of `days`, one row per key and day."""
    per_day = known.groupBy(*keys, F.col("day").alias("of_day")).agg(
        F.count("*").alias("shown"), F.sum("label").alias("clicks")
    )
    joined = per_day.join(F.broadcast(days), on=F.col("of_day") < F.col("as_of"), how="inner")
    sums = [F.sum("shown").alias(f"{group}_shown"), F.sum("clicks").alias(f"{group}_clicks")]
    if group == "user":
        sums.append(F.max(F.when(F.col("clicks") > 0, F.col("of_day"))).alias("user_last_click"))
    return joined.groupBy(*keys, F.col("as_of").alias("day")).agg(*sums)
