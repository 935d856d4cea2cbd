"""What channels are fitted on, who chose what and when by item number, and what they answer: batches of users."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from scipy import sparse

from features.catalog import OWN_COLUMNS
from recsys.mf.vectors import Factors
from recsys.recall.positives import Positives
from recsys.settings import RecallSettings

log = logging.getLogger(__name__)

SECONDS_PER_DAY = 86_400.0
OWN_TEXTS = OWN_COLUMNS.text_names("item")
ITEM_COLUMNS = ["item_id", "title", "category", "author", "published_at"]
PAIRS_SCHEMA = "item int, other int, damped double, scaled double"


@dataclass(frozen=True)
class UserBatch:
    """Users with their histories as sparse matrices; a row without entries is a cold user."""

    users: NDArray[np.object_]  # (users,) ids
    chosen: sparse.csr_matrix  # (users, items) ones
    recent: sparse.csr_matrix  # (users, items) time decay: 1 for a user's newest item, less for older ones
    hidden: sparse.csr_matrix | None = None  # (users, items) what lists leave out; None: what was chosen

    @property
    def excluded(self) -> sparse.csr_matrix:
        """(users, items) entries of what lists leave out."""
        return self.chosen if self.hidden is None else self.hidden

    @property
    def is_cold(self) -> NDArray[np.bool_]:
        """(users,) whether a user chose nothing yet."""
        num_chosen = np.diff(self.chosen.indptr)
        return np.asarray(num_chosen == 0)

    def take(self, rows: NDArray[np.integer], users: NDArray[np.object_]) -> "UserBatch":
        """A batch of `users`, whose histories are those of `rows`, −1 for a user without one."""
        is_cold = rows < 0
        lengths = np.where(is_cold, 0, np.diff(self.chosen.indptr)[rows]) if len(self.users) else np.zeros(len(rows))
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Positions of the entries: those of each row are beside each other.
        starts = np.where(is_cold, 0, self.chosen.indptr[rows]) - indptr[:-1]
        entries = np.arange(indptr[-1]) + np.repeat(starts, np.diff(indptr))
        shape = (len(rows), self.chosen.shape[1])
        items = self.chosen.indices[entries]
        chosen = sparse.csr_matrix((self.chosen.data[entries], items, indptr), shape=shape)
        return UserBatch(users, chosen, sparse.csr_matrix((self.recent.data[entries], items, indptr), shape=shape))

    def mask_cold(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return scores (users, items) with −inf for cold users: a personal channel has nothing to say about them."""
        scores = np.asarray(scores, np.float32)
        scores[self.is_cold] = -np.inf
        return scores


@dataclass(frozen=True)
class HiddenItems:
    """Items of users that lists leave out, on the driver."""

    users: "pd.Index[str]"  # ids
    matrix: sparse.csr_matrix  # (users + 1, items) ones; the last row, of any other user, is empty

    @classmethod
    def of(cls, pairs: pd.DataFrame, items: pd.DataFrame) -> "HiddenItems":
        """Distinct pairs of user_id and item_id as a matrix; an item that `items` (item_id) lacks is in no list."""
        number = pd.Index(items["item_id"]).get_indexer(pd.Index(pairs["item_id"]))
        rows, users = pairs["user_id"].factorize()
        is_item = number >= 0
        entries = np.ones(int(is_item.sum()), np.float32), (rows[is_item], number[is_item])
        return cls(pd.Index(users), sparse.csr_matrix(entries, shape=(len(users) + 1, len(items))))

    def take(self, users: NDArray[np.object_]) -> sparse.csr_matrix:
        """(users, items) of some users."""
        return self.matrix[self.users.get_indexer(pd.Index(users))]  # −1 is the last row


class History:
    """Positives of all users up to a moment, and the items, which are on the driver.

    Histories are on the driver, too, where `recall.driver_positives` allows, and distributed otherwise. An item's
    number is its position in the order of item_id.

    Attributes:
        items: item_id, title, category, author, published_at and first_at (its first positive) by item number.
        num_items: number of items.
        all_users: histories of all users by user_id, on the driver; None where they are too many for it.
        now: the moment, in seconds since 1970.
        settings: the section `recall`.
        factors: of the factorisation of the same rows; None where none was trained.
        hidden: what lists leave out, on the driver; None: the histories, or what Spark has.
    """

    def __init__(
        self,
        positives: DataFrame | None,
        items: pd.DataFrame,
        now: float,
        settings: RecallSettings,
        *,
        collected: Positives | None = None,
        factors: Factors | None = None,
        excluded: "DataFrame | pd.DataFrame | None" = None,
    ) -> None:
        """Number the items and group the histories.

        Args:
            positives: user_id, item_id, at; an item that `items` lacks gets a number, too. None where they are
                collected and nobody asks for `histories` or `pairs`.
            items: item_id, title, category, author, published_at, and the site's own texts.
            now: the moment up to which the positives reach, in seconds since 1970.
            settings: the section `recall`.
            collected: the same positives, if they are on the driver.
            factors: of the factorisation of the same rows.
            excluded: distinct user_id and item_id that lists leave out, on the driver where positives are; None: the
                positives.
        """
        self.settings, self.factors = settings, factors
        self.now = now
        self._positives = positives
        self._persisted: list[DataFrame] = []
        self.all_users: UserBatch | None = None
        first_at = self._first_positives() if collected is None else _first_collected(collected)
        # An outer join: items that nobody chose yet, and chosen items that the item table lacks.
        described = items[[*ITEM_COLUMNS, *OWN_TEXTS]].astype(
            {"item_id": object}
        )  # a frame without rows has no type of its own
        catalog = described.merge(first_at.astype({"item_id": object}), on="item_id", how="outer")
        self.items = catalog.sort_values("item_id", ignore_index=True)
        self.num_items = len(self.items)
        if collected is not None:
            self.all_users, self._ages, self._last = self._group(collected)
        self._excluded = excluded
        self.hidden = HiddenItems.of(excluded, self.items) if isinstance(excluded, pd.DataFrame) else None

    @cached_property
    def histories(self) -> DataFrame:
        """One row per user: items (numbers, newest first), ages (days before the user's newest), last (seconds since
        1970 of the newest). Persisted on Spark.
        """
        histories = self._distribute_histories(self._distributed()).persist()
        self._persisted.append(histories)
        return histories

    @cached_property
    def heat(self) -> NDArray[np.float64]:
        """(items,) positives of each item; an old one counts less, half after `half_life_days`."""
        half_life = self.settings.half_life_days
        if self.all_users is None:
            return self._item_sums(F.pow(F.lit(0.5), F.col("age") / half_life))
        # Ages are before the user's newest item; a clock that runs ahead must not make them negative.
        since_last = np.repeat((self.now - self._last) / SECONDS_PER_DAY, np.diff(self.all_users.chosen.indptr))
        age = np.maximum(since_last + self._ages, 0.0)
        decay = 0.5 ** (age / half_life)
        return np.asarray(np.bincount(self.all_users.chosen.indices, decay, self.num_items), np.float64)

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """(items,) number of users who chose each item."""
        if self.all_users is None:
            return self._item_sums(F.lit(1.0))
        return np.bincount(self.all_users.chosen.indices, minlength=self.num_items).astype(float)

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
                # Both have entries at the same places: those of items that one user chose together.
                item, other = scaled.nonzero()
                columns = {"item": item, "other": other, "damped": np.asarray(damped[item, other]).ravel()}
                yield pd.DataFrame({**columns, "scaled": np.asarray(scaled[item, other]).ravel()})

        sums = [F.sum(name).alias(name) for name in ("damped", "scaled")]
        pair_sums = self.histories.mapInPandas(partial_sums, PAIRS_SCHEMA).groupBy("item", "other").agg(*sums).persist()
        self._persisted.append(pair_sums)  # item-CF and EASE both read it
        return pair_sums

    def for_users(self, users: DataFrame) -> DataFrame:
        """Return user_id, items, ages for each row of `users` (user_id); empty arrays without a history.

        And `hidden`, the items that lists leave out, where these are not the history.
        """
        no_items, no_ages = F.array().cast("array<int>"), F.array().cast("array<float>")
        columns = [F.coalesce("items", no_items).alias("items"), F.coalesce("ages", no_ages).alias("ages")]
        histories = users.join(self.histories, on="user_id", how="left")
        if isinstance(self._excluded, DataFrame):
            numbered = self._excluded.join(
                F.broadcast(self._item_numbers(users.sparkSession)), on="item_id", how="inner"
            )
            hidden = numbered.groupBy("user_id").agg(F.sort_array(F.collect_set("item")).alias("hidden"))
            histories = histories.join(hidden, on="user_id", how="left")
            columns.append(F.coalesce("hidden", no_items).alias("hidden"))
        return histories.select("user_id", *columns)

    def newest_users(self, limit: int, reader: str = "") -> UserBatch:
        """The `limit` users who were active last, newest first; ties by user_id.

        Args:
            limit: number of users.
            reader: the channel and the setting that limits it, for a log line where there are more users.
        """
        if self.all_users is None:
            newest = self.histories.orderBy(F.desc("last"), "user_id").limit(limit).toPandas()
            users = user_batch(newest, self.num_items, self.settings.history_half_life_days)
            # Counted only where there may be more of them: a job for a line in the log.
            num_users = self.histories.count() if len(newest) == limit else len(newest)
        else:
            rows = np.argsort(-self._last, kind="stable")[:limit]
            users, num_users = self.all_users.take(rows, self.all_users.users[rows]), len(self.all_users.users)
        if reader and num_users > limit:
            log.info("%s: of %d users, the %d who were active last", reader, num_users, limit)
        return users

    def unpersist(self) -> None:
        """Free the persisted frames on the executors."""
        for frame in self._persisted:
            frame.unpersist()

    def _distributed(self) -> DataFrame:
        if self._positives is None:
            raise ValueError("positives were collected only: nothing is on Spark")
        return self._positives

    def _first_positives(self) -> pd.DataFrame:
        """item_id and first_at, which stands in where an item has no date of publication; one row per item."""
        by_item = self._distributed().groupBy("item_id")
        first: pd.DataFrame = by_item.agg(F.min("at").alias("first_at")).toPandas()
        return first

    def _group(self, positives: Positives) -> tuple[UserBatch, NDArray[np.float32], NDArray[np.float64]]:
        """Histories by user as `_distribute_histories` has them; ages (entries,) and times of the newest (users,)."""
        number = pd.Index(self.items["item_id"]).get_indexer(pd.Index(positives.item_ids)).astype(np.int32)  # (ids,)
        items = number[positives.items]  # −1 for an id of other splits, which no row has
        # By user, newest first, ties by item: the order of `newest_first` on Spark.
        by_user = np.lexsort((items, -positives.at, positives.users))
        users, items, at = positives.users[by_user], items[by_user], positives.at[by_user]
        # Each item once, at its newest time: the first of equal pairs.
        key = users.astype(np.int64) * max(self.num_items, 1) + items
        first = np.sort(np.unique(key, return_index=True)[1])
        users, items, at = users[first], items[first], at[first]
        codes, start, lengths = np.unique(users, return_index=True, return_counts=True)  # (users,) each
        position = np.arange(len(users)) - np.repeat(start, lengths)  # (entries,) 0 for a user's newest
        last = at[start]
        is_newest = position < self.settings.history
        ages = ((np.repeat(last, lengths) - at) / SECONDS_PER_DAY).astype(np.float32)[is_newest]
        indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, self.settings.history))])
        matrices = _matrices(items[is_newest], ages, indptr, self.num_items, self.settings.history_half_life_days)
        return UserBatch(positives.user_ids[codes], *matrices), ages, last

    def _distribute_histories(self, positives: DataFrame) -> DataFrame:
        """The column `histories`: each item once, at its newest time, the `history` newest items of a user."""
        item_numbers = self._item_numbers(positives.sparkSession)
        last_chosen = positives.groupBy("user_id", "item_id").agg(F.max("at").cast("double").alias("at"))
        # Broadcast: items are on the driver anyway, and positives are many.
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

    def _item_numbers(self, spark: SparkSession) -> DataFrame:
        numbers = pd.DataFrame({"item_id": self.items["item_id"], "item": np.arange(self.num_items, dtype=np.int32)})
        return spark.createDataFrame(numbers)

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


def _first_collected(positives: Positives) -> pd.DataFrame:
    first = np.full(len(positives.item_ids), np.inf)
    np.minimum.at(first, positives.items, positives.at)
    items = np.flatnonzero(np.isfinite(first))
    return pd.DataFrame({"item_id": positives.item_ids[items], "first_at": pd.to_datetime(first[items], unit="s")})


def user_batch(frame: pd.DataFrame, num_items: int, half_life_days: float) -> UserBatch:
    """Turn rows of `History.for_users` into matrices.

    Args:
        frame: user_id, items (item numbers), ages (days before the user's newest item), perhaps hidden.
        num_items: number of columns.
        half_life_days: age at which an entry of `recent` is 1/2.
    """
    lengths = frame["items"].map(len).to_numpy()
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    empty = [np.empty(0, np.int32)]  # concatenate refuses an empty list: a batch may be of nobody
    items = np.concatenate([*frame["items"], *empty]).astype(np.int32)
    ages = np.concatenate([*frame["ages"], *empty]).astype(np.float32)
    hidden = _ones(frame["hidden"], num_items) if "hidden" in frame else None
    return UserBatch(frame["user_id"].to_numpy(), *_matrices(items, ages, indptr, num_items, half_life_days), hidden)


def _ones(lists: "pd.Series[Any]", num_items: int) -> sparse.csr_matrix:
    """(rows, items) ones where the lists of item numbers have them."""
    indptr = np.concatenate([[0], np.cumsum(lists.map(len).to_numpy())])
    items = np.concatenate([*lists, np.empty(0, np.int32)]).astype(np.int32)
    return sparse.csr_matrix((np.ones(len(items), np.float32), items, indptr), shape=(len(lists), num_items))


def _matrices(
    items: NDArray[np.int32], ages: NDArray[np.float32], indptr: NDArray[np.int64], num_items: int, half_life: float
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """`chosen` and `recent` of a batch."""
    shape = (len(indptr) - 1, num_items)
    decay = np.float32(0.5) ** (ages / np.float32(half_life))
    chosen = sparse.csr_matrix((np.ones(len(items), np.float32), items, indptr), shape=shape)
    return chosen, sparse.csr_matrix((decay, items, indptr), shape=shape)
