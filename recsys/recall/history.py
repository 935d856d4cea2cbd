"""What channels learn from: who chose what and when, as item numbers; and what they score: batches of users."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy import sparse

from recsys.settings import RecallSettings

SECONDS_PER_DAY = 86_400.0
PAIRS = "item int, other int, damped double, scaled double"


@dataclass(frozen=True)
class Batch:
    """Users with their histories: `chosen` (users, items) CSR of ones, `recent` the same with time decay."""

    users: NDArray[np.object_]
    chosen: sparse.csr_matrix
    recent: sparse.csr_matrix

    @property
    def is_cold(self) -> NDArray[np.bool_]:
        """(users,) whether a user chose nothing yet."""
        return np.asarray(np.diff(self.chosen.indptr) == 0)

    def nothing_for_cold(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """`scores` (users, items) with −inf for users without a history."""
        scores = np.asarray(scores, np.float32)
        scores[self.is_cold] = -np.inf
        return scores


class History:
    """Positives of all users up to a moment, and the items that there are.

    `positives` has user_id, item_id, at. `items` has item_id, title, category, author, published_at; it comes to the
    driver: numbers of items follow the order of item_id. `now` is the moment, in seconds.
    """

    def __init__(self, positives: DataFrame, items: DataFrame, now: float, settings: RecallSettings) -> None:
        self.settings = settings
        self.now = now
        self.items = self._number_items(positives, items)
        self.histories = self._group(positives).persist()
        self._persisted = [self.histories]

    @property
    def num_items(self) -> int:
        """Length of a row of scores."""
        return len(self.items)

    @cached_property
    def heat(self) -> NDArray[np.float64]:
        """(items,) positives, an old one counting less (half after `half_life_days`)."""
        return self._item_sums(F.pow(F.lit(0.5), F.col("age") / self.settings.half_life_days))

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """(items,) how many users chose each."""
        return self._item_sums(F.lit(1.0))

    @cached_property
    def pairs(self) -> DataFrame:
        """item, other, damped, scaled: sums over users who chose both, of 1/log(1 + n) and of n^(−2a), n of the user.

        Sums of a partition are products of sparse matrices; Spark adds them up.
        """
        power, num_items, half_life = (
            self.settings.ease_user_power,
            self.num_items,
            self.settings.history_half_life_days,
        )

        def partial(frames):  # type: ignore[no-untyped-def]
            for frame in frames:
                chosen = batch_of(frame, num_items, half_life).chosen
                lengths = np.maximum(np.diff(chosen.indptr), 1)
                damped = (sparse.diags(1 / np.log1p(lengths)) @ chosen).T @ chosen
                scaled = (sparse.diags(lengths ** (-2.0 * power)) @ chosen).T @ chosen
                item, other = scaled.nonzero()
                columns = {"item": item, "other": other, "damped": np.asarray(damped[item, other]).ravel()}
                yield pd.DataFrame({**columns, "scaled": np.asarray(scaled[item, other]).ravel()})

        sums = [F.sum(name).alias(name) for name in ("damped", "scaled")]
        pair_counts = self.histories.mapInPandas(partial, PAIRS).groupBy("item", "other").agg(*sums).persist()
        self._persisted.append(pair_counts)
        return pair_counts

    def of_users(self, users: DataFrame) -> DataFrame:
        """user_id, items, ages for each of `users`; empty arrays for those without a history."""
        empty = F.array().cast("array<int>"), F.array().cast("array<float>")
        return users.join(self.histories, on="user_id", how="left").select(
            "user_id", F.coalesce("items", empty[0]).alias("items"), F.coalesce("ages", empty[1]).alias("ages")
        )

    def unpersist(self) -> None:
        """Let go of what was kept."""
        for frame in self._persisted:
            frame.unpersist()

    def _number_items(self, positives: DataFrame, items: DataFrame) -> pd.DataFrame:
        chosen = positives.groupBy("item_id").agg(F.min("at").alias("first_at"))
        described = items.select("item_id", "title", "category", "author", "published_at")
        catalog: pd.DataFrame = described.join(chosen, on="item_id", how="full").toPandas()
        return catalog.sort_values("item_id", ignore_index=True)

    def _group(self, positives: DataFrame) -> DataFrame:
        """One row a user: the newest items first, each once, and their ages in days before the user's newest."""
        numbers = positives.sparkSession.createDataFrame(
            pd.DataFrame({"item_id": self.items["item_id"], "item": np.arange(self.num_items, dtype=np.int32)})
        )
        once = positives.groupBy("user_id", "item_id").agg(F.max("at").cast("double").alias("at"))
        numbered = once.join(F.broadcast(numbers), on="item_id", how="inner")
        newest = Window.partitionBy("user_id").orderBy(F.desc("at"), "item")
        newest_first = numbered.withColumn("nth", F.row_number().over(newest)).where(
            F.col("nth") <= self.settings.history
        )
        in_order = F.sort_array(F.collect_list(F.struct("nth", F.col("item").cast("int").alias("item"), "at")))
        grouped = newest_first.groupBy("user_id").agg(in_order.alias("chosen"), F.max("at").alias("last"))
        ages = F.transform("chosen", lambda c: ((F.col("last") - c["at"]) / SECONDS_PER_DAY).cast("float"))
        return grouped.select("user_id", F.col("chosen.item").alias("items"), ages.alias("ages"), "last")

    def _item_sums(self, weight: object) -> NDArray[np.float64]:
        """(items,) sums of `weight` (a column, of `age` in days before now) over users."""
        each = self.histories.select(F.explode(F.arrays_zip("items", "ages")).alias("pair"), "last")
        age = F.greatest((F.lit(self.now) - F.col("last")) / SECONDS_PER_DAY + F.col("pair.ages"), F.lit(0.0))
        aged = each.select(F.col("pair.items").alias("item"), age.alias("age"))
        item_sums: pd.DataFrame = aged.groupBy("item").agg(F.sum(weight).alias("sum")).toPandas()  # type: ignore[arg-type]
        sums = np.zeros(self.num_items)
        sums[item_sums["item"]] = item_sums["sum"]
        return sums


def batch_of(frame: pd.DataFrame, num_items: int, half_life_days: float) -> Batch:
    """Rows of `History.of_users` as matrices."""
    lengths = frame["items"].map(len).to_numpy()
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    empty = [np.empty(0, np.int32)]
    items = np.concatenate([*frame["items"], *empty]).astype(np.int32)
    ages = np.concatenate([*frame["ages"], *empty]).astype(np.float32)
    shape = (len(frame), num_items)
    ones = np.ones(len(items), np.float32)
    return Batch(
        frame["user_id"].to_numpy(),
        sparse.csr_matrix((ones, items, indptr), shape=shape),
        sparse.csr_matrix((np.float32(0.5) ** (ages / np.float32(half_life_days)), items, indptr), shape=shape),
    )
