"""The user's history of choices before an example."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

# Choices of a user that are kept, in lengths of the history: far more than a row takes, but not a lifetime.
MAX_HISTORIES = 20


def with_history(rows: DataFrame, impressions: DataFrame, length: int, *, by_day: bool = True) -> DataFrame:
    """Add `history`: ids of the `length` items that the user chose last on earlier days, oldest first.

    A user's choices are one list, joined once; each row takes from it what was earlier.

    Args:
        rows: with user_id, day and at.
        impressions: labelled rows that may be looked at, with user_id, at, day, label and `item_code`, the item's id.
        length: items at most.
        by_day: False where rows have no real days: then what was chosen earlier on the day counts, too.
    """
    chosen = impressions.where("label = 1").select(
        "user_id", F.col("at").cast("double").alias("at_s"), "day", "item_code"
    )
    newest_first = Window.partitionBy("user_id").orderBy(F.desc("at_s"), "item_code")
    choices = (
        chosen.withColumn("recency", F.row_number().over(newest_first))
        .where(F.col("recency") <= MAX_HISTORIES * length)
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list(F.struct("at_s", "item_code", "day"))).alias("choices"))
    )
    joined = rows.join(choices, on="user_id", how="left")
    # Higher-order functions on the array: exploding it would multiply the rows by the length.
    moment = F.col("at").cast("double")
    earlier = F.filter("choices", lambda choice: choice["day"] < F.col("day") if by_day else choice["at_s"] < moment)
    # The last `length`: slice counts from the front, and an array may be shorter.
    newest = F.reverse(F.slice(F.reverse(earlier), 1, length))
    codes = F.transform(newest, lambda choice: choice["item_code"])
    return joined.withColumn("history", F.coalesce(codes, F.array().cast("array<bigint>"))).drop("choices")
