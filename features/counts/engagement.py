"""What a user chose before an example, and what followed a click: for models of sequences and of several tasks."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

ACTIONS = ("like", "purchase")


def with_history(rows: DataFrame, known: DataFrame, length: int) -> DataFrame:
    """Add `history`: ids of the `length` items that the user chose last on earlier days, in that order.

    `known` are rows that may be looked at, with `label`, `at`, `day`, `user_id` and `item_code`, the item's id. A
    user's choices stand in one list, of which each row takes what was earlier.
    """
    chosen = known.where("label = 1").select("user_id", F.col("at").cast("double").alias("at_s"), "day", "item_code")
    newest = Window.partitionBy("user_id").orderBy(F.desc("at_s"), "item_code")
    choices = (
        # Nobody's list of choices grows without bounds: far more than a row takes, but not a lifetime.
        chosen.withColumn("nth", F.row_number().over(newest))
        .where(F.col("nth") <= 20 * length)
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list(F.struct("at_s", "item_code", "day"))).alias("choices"))
    )
    joined = rows.join(choices, on="user_id", how="left")
    earlier = F.filter("choices", lambda choice: choice["day"] < F.col("day"))
    newest_last = F.reverse(F.slice(F.reverse(earlier), 1, length))
    codes = F.transform(newest_last, lambda choice: choice["item_code"])
    return joined.withColumn("history", F.coalesce(codes, F.array().cast("array<bigint>"))).drop("choices")


def with_followed(rows: DataFrame, interactions: DataFrame | None) -> DataFrame:
    """Add `label_like` and `label_purchase`: 1 or 0 for clicked impressions, null for others.


    `interactions` are rows of dwd_interaction, or None when there are none.
    """
    names = {action: f"label_{action}" for action in ACTIONS}
    if interactions is None:
        return rows.withColumns({name: F.lit(None).cast("float") for name in names.values()})
    did = {name: F.max(F.when(F.col("action") == action, 1.0)) for action, name in names.items()}
    followed = (
        interactions.where("impression_id is not null")
        .groupBy(F.col("impression_id").alias("example_id"))
        .agg(*[value.alias(name) for name, value in did.items()])
    )
    joined = rows.join(followed, on="example_id", how="left")
    return joined.withColumns(
        {name: F.when(F.col("label") == 1, F.coalesce(name, F.lit(0.0))).cast("float") for name in names.values()}
    )
