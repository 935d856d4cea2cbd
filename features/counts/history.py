"""What the user chose, and did, before an example: lists of ids."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

# Choices of a user that are kept, in lengths of the history: far more than a row takes, but not a lifetime.
MAX_HISTORIES = 20


def with_history(rows: DataFrame, impressions: DataFrame, length: int, *, by_day: bool = True) -> DataFrame:
    """Add `history`: ids of the `length` items that the user chose last on earlier days, oldest first.

    Args:
        rows: as for `with_last`.
        impressions: labelled rows that may be looked at, with `label` and the columns of acts.
        length: items at most.
        by_day: as for `with_last`.
    """
    return with_last(rows, impressions.where("label = 1"), "history", length, by_day=by_day)


def with_last(rows: DataFrame, acts: DataFrame, name: str, length: int, *, by_day: bool) -> DataFrame:
    """Add `name`: ids of the items of the `length` newest acts of the user before the row, oldest first.

    A user's acts are one list, joined once; each row takes from it what was earlier.

    Args:
        rows: with user_id, at and, by day, `day`.
        acts: that may be looked at, with user_id, at, `item_code`, the item's id, and, by day, `day`.
        name: of the list.
        length: items at most.
        by_day: whether only acts of earlier days count; else those strictly before the row's moment do.
    """
    days = ["day"] if by_day else []
    acts = acts.select("user_id", F.col("at").cast("double").alias("at_s"), "item_code", *days)
    newest_first = Window.partitionBy("user_id").orderBy(F.desc("at_s"), "item_code")
    by_user = (
        acts.withColumn("recency", F.row_number().over(newest_first))
        .where(F.col("recency") <= MAX_HISTORIES * length)
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list(F.struct("at_s", "item_code", *days))).alias("acts"))
    )
    joined = rows.join(by_user, on="user_id", how="left")
    # Higher-order functions on the array: exploding it would multiply the rows by the length.
    moment = F.col("at").cast("double")
    earlier = F.filter("acts", lambda act: act["day"] < F.col("day") if by_day else act["at_s"] < moment)
    # The last `length`: slice counts from the front, and an array may be shorter.
    newest = F.reverse(F.slice(F.reverse(earlier), 1, length))
    codes = F.transform(newest, lambda act: act["item_code"])
    return joined.withColumn(name, F.coalesce(codes, F.array().cast("array<bigint>"))).drop("acts")
