"""What channels are fitted on, who chose what and when by item number, and what they score: batches of users."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from scipy import sparse

from recsys.settings import RecallSettings

SECONDS_PER_DAY = 86_400.0
PAIRS_SCHEMA = "item int, other int, damped double, scaled double"


@dataclass(frozen=True)
class UserBatch:
    """Users with their histories as sparse matrices; a row without entries is a cold user."""

    users: NDArray[np.object_]  # (users,) ids
    chosen: sparse.csr_matrix  # (users, items) ones
    recent: sparse.csr_matrix  # (users, items) time decay: 1 for a user's newest item, less for older ones

    @property
    def is_cold(self) -> NDArray[np.bool_]:
        """(users,) whether a user chose nothing yet."""
        num_chosen = np.diff(self.chosen.indptr)
        return np.asarray(num_chosen == 0)

    def mask_cold(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return scores (users, items) with −inf for cold users: a personal channel has nothing to say about them."""
        scores = np.asarray(scores, np.float32)
        scores[self.is_cold] = -np.inf
        return scores


class History:
    """Positives of all users up to a moment, as distributed histories, and the items, on the driver.

    An item's number is its position in the order of item_id; scores are arrays by this number.

    Attributes:
        items: item_id, title, category, author, published_at and first_at (its first positive) by item number.
        num_items: length of a row of scores.
        histories: one row per user: items (numbers, newest first), ages (days before the user's newest), last
            (seconds since 1970 of the newest). Persisted.
        now: the moment, in seconds since 1970.
        settings: the section `recall`.
    """

    def __init__(self, positives: DataFrame, items: DataFrame, now: float, settings: RecallSettings) -> None:
        """Number the items and collect the histories.

        Args:
            positives: user_id, item_id, at; an item that `items` lacks gets a number, too.
            items: item_id, title, category, author, published_at.
            now: the moment up to which the positives reach, in seconds since 1970.
            settings: the section `recall`.
        """
        self.settings = settings
        self.now = now
        self.items = _number_items(positives, items)
        self.num_items = len(self.items)
        self.histories = self._collect_histories(positives).persist()
        self._persisted = [self.histories]

    @cached_property
    def heat(self) -> NDArray[np.float64]:
        """(items,) positives of each item; an old one counts less, half after `half_life_days`."""
        decay = F.pow(F.lit(0.5), F.col("age") / self.settings.half_life_days)
        return self._item_sums(decay)

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """(items,) number of users who chose each item."""
        return self._item_sums(F.lit(1.0))

    @cached_property
    def pairs(self) -> DataFrame:
        """Co-occurrence of items: item, other, damped, scaled; both directions and the diagonal. Persisted.

        Sums over the users who chose both, of 1/log(1 + n) in `damped` and of n^(−2a) in `scaled`, where n is the
        length of a user's history and a is `ease_user_power`. Each Spark partition multiplies sparse matrices, then one
        shuffle by pair adds them up: a self-join would shuffle every pair of every user.
        """
        power, num_items = self.settings.ease_user_power, self.num_items
        half_life = self.settings.history_half_life_days

        def partial_sums(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            for frame in frames:
                chosen = user_batch(frame, num_items, half_life).chosen
                lengths = np.maximum(np.diff(chosen.indptr), 1)
                damped = (sparse.diags(1 / np.log1p(lengths)) @ chosen).T @ chosen  # (items, items)
                scaled = (sparse.diags(lengths ** (-2.0 * power)) @ chosen).T @ chosen
                item, other = scaled.nonzero()
                columns = {"item": item, "other": other, "damped": np.asarray(damped[item, other]).ravel()}
                yield pd.DataFrame({**columns, "scaled": np.asarray(scaled[item, other]).ravel()})

        sums = [F.sum(name).alias(name) for name in ("damped", "scaled")]
        pair_sums = self.histories.mapInPandas(partial_sums, PAIRS_SCHEMA).groupBy("item", "other").agg(*sums).persist()
        self._persisted.append(pair_sums)  # item-CF and EASE both read it
        return pair_sums

    def for_users(self, users: DataFrame) -> DataFrame:
        """Return user_id, items, ages for each row of `users` (user_id); empty arrays without a history."""
        no_items, no_ages = F.array().cast("array<int>"), F.array().cast("array<float>")
        return users.join(self.histories, on="user_id", how="left").select(
            "user_id", F.coalesce("items", no_items).alias("items"), F.coalesce("ages", no_ages).alias("ages")
        )

    def newest_users(self, limit: int) -> pd.DataFrame:
        """Collect the rows of `histories` of the `limit` users who were active last; ties by user_id."""
        newest: pd.DataFrame = self.histories.orderBy(F.desc("last"), "user_id").limit(limit).toPandas()
        return newest

    def unpersist(self) -> None:
        """Free the persisted frames on the executors."""
        for frame in self._persisted:
            frame.unpersist()

    def _collect_histories(self, positives: DataFrame) -> DataFrame:
        """The column `histories`: each item once, at its newest time, the `history` newest items of a user."""
        item_numbers = positives.sparkSession.createDataFrame(
            pd.DataFrame({"item_id": self.items["item_id"], "item": np.arange(self.num_items, dtype=np.int32)})
        )
        last_chosen = positives.groupBy("user_id", "item_id").agg(F.max("at").cast("double").alias("at"))
        numbered = last_chosen.join(F.broadcast(item_numbers), on="item_id", how="inner")
        newest_first = Window.partitionBy("user_id").orderBy(F.desc("at"), "item")
        newest = numbered.withColumn("position", F.row_number().over(newest_first)).where(
            F.col("position") <= self.settings.history
        )
        # collect_list keeps no order: the position leads each struct, and the array is sorted by it.
        in_order = F.sort_array(F.collect_list(F.struct("position", F.col("item").cast("int").alias("item"), "at")))
        grouped = newest.groupBy("user_id").agg(in_order.alias("chosen"), F.max("at").alias("last"))
        ages = F.transform("chosen", lambda c: ((F.col("last") - c["at"]) / SECONDS_PER_DAY).cast("float"))
        return grouped.select("user_id", F.col("chosen.item").alias("items"), ages.alias("ages"), "last")

    def _item_sums(self, weight: Column) -> NDArray[np.float64]:
        """Sum `weight` (a column of `age`, in days before now) over the positives of each item; (items,)."""
        positives = self.histories.select(F.explode(F.arrays_zip("items", "ages")).alias("pair"), "last")
        # Ages are before the user's newest item; a clock that runs ahead must not make them negative.
        age = F.greatest((F.lit(self.now) - F.col("last")) / SECONDS_PER_DAY + F.col("pair.ages"), F.lit(0.0))
        aged = positives.select(F.col("pair.items").alias("item"), age.alias("age"))
        item_sums: pd.DataFrame = aged.groupBy("item").agg(F.sum(weight).alias("sum")).toPandas()
        sums = np.zeros(self.num_items)
        sums[item_sums["item"]] = item_sums["sum"]
        return sums


def _number_items(positives: DataFrame, items: DataFrame) -> pd.DataFrame:
    first_positives = positives.groupBy("item_id").agg(F.min("at").alias("first_at"))
    # `first_at` stands in where an item has no date of publication.
    described = items.select("item_id", "title", "category", "author", "published_at")
    # A full join: items that nobody chose yet, and chosen items that the item table lacks.
    catalog: pd.DataFrame = described.join(first_positives, on="item_id", how="full").toPandas()
    return catalog.sort_values("item_id", ignore_index=True)


def user_batch(frame: pd.DataFrame, num_items: int, half_life_days: float) -> UserBatch:
    """Turn rows of `History.for_users` into matrices.

    Args:
        frame: user_id, items (item numbers), ages (days before the user's newest item).
        num_items: number of columns.
        half_life_days: age at which an entry of `recent` is 1/2.
    """
    lengths = frame["items"].map(len).to_numpy()
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    empty = [np.empty(0, np.int32)]  # concatenate refuses an empty list: a batch may be of nobody
    items = np.concatenate([*frame["items"], *empty]).astype(np.int32)
    ages = np.concatenate([*frame["ages"], *empty]).astype(np.float32)
    shape = (len(frame), num_items)
    decay = np.float32(0.5) ** (ages / np.float32(half_life_days))
    return UserBatch(
        frame["user_id"].to_numpy(),
        sparse.csr_matrix((np.ones(len(items), np.float32), items, indptr), shape=shape),
        sparse.csr_matrix((decay, items, indptr), shape=shape),
    )
