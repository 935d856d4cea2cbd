"""The channels fitted on what was chosen before a moment, and their proposals: on the driver's cores or on Spark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkstemp

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from conf import file_url
from etl.session import run_concurrently
from recsys.recall.channels import Scorer, fit_channel
from recsys.recall.channels.new_items import hash_ids
from recsys.recall.history import History
from recsys.recall.merge import ChannelWeights, initial_weights
from recsys.recall.propose import ARROW_SCHEMA, SCHEMA, RecallPlan, propose, propose_on_driver, write_proposals

MAX_FIT_ROWS = 1_000_000  # candidates that weights are fitted on, on the driver
MF = "mf"  # the channel that needs a factorisation
PAIR_SCHEMA = "user_id string, item_id string"


Users = DataFrame | NDArray[np.object_]  # with user_id; ids, where positives are on the driver


@dataclass(frozen=True)
class Truth:
    """Pairs of user_id and item_id that users chose later, each once."""

    frame: DataFrame
    collected: pd.DataFrame | None  # the same, where positives are on the driver

    def users(self) -> Users:
        """Who chose them."""
        if self.collected is None:
            return self.frame.select("user_id").distinct()
        return np.asarray(self.collected["user_id"].drop_duplicates(), object)

    def pairs(self) -> pd.DataFrame:
        """The pairs, collected."""
        if self.collected is not None:  # counted on the driver already: no second job
            return self.collected
        return self.frame.toPandas()


class Proposer:
    """Fitted channels, and the histories of the users that they propose to.

    Attributes:
        history: that they are fitted on.
        channels: names, in the order of ranks and scores.
        cold_channel: the channel that ranks for users without a history.
    """

    def __init__(self, spark: SparkSession, history: History, ks: Sequence[int], scratch: Path) -> None:
        """Fit all channels of `recall.quota`, side by side.

        Args:
            spark: the session.
            history: what was chosen before.
            ks: lengths that channels' lists are measured at.
            scratch: an existing folder, for proposals that the driver writes and Spark reads.
        """
        settings = history.settings
        self.history = history
        self.channels = [name for name in settings.quota if name != MF or history.factors is not None]
        # Shares of what was shown: a factorisation that learned from sampled negatives has none.
        self._knows_impressions = history.factors is not None and len(history.factors.ranker.encoder.shares) > 0
        # Who chose nothing has been shown something, perhaps: the factorisation knows what.
        self.cold_channel = MF if self._knows_impressions else "hot"
        self._spark, self._scratch = spark, scratch
        self._persisted: list[DataFrame] = []
        self._max_rank = max(*ks, *settings.quota.values())
        fits = [partial(fit_channel, name, history, settings) for name in self.channels]
        # Fits share the cores already: threads of BLAS would wait for each other in every small product.
        with threadpool_limits(1, "blas"):
            scorers = run_concurrently(*fits)
        self._scorers: Mapping[str, Scorer] = dict(zip(self.channels, scorers, strict=True))

    def propose(self, users: Users, weights: ChannelWeights, max_candidates: int | None) -> DataFrame:
        """The candidates of `users`: rows of `propose.SCHEMA`; written to a file where the driver proposes them."""
        plan = self._plan(weights, max_candidates)
        if isinstance(users, DataFrame):
            self._persisted.append(propose(self.history, users, plan).persist())
            return self._persisted[-1]
        return self.read(self.write(users, weights, max_candidates))

    def read(self, file: Path) -> DataFrame:
        """What `write` wrote, on Spark."""
        return self._spark.read.schema(SCHEMA).parquet(file_url(file))

    def write(self, users: NDArray[np.object_], weights: ChannelWeights, max_candidates: int | None) -> Path:
        """Propose on the driver, to a new Parquet file, and return it."""
        assert self.history.all_users is not None
        handle, name = mkstemp(".parquet", dir=self._scratch)
        plan = self._plan(weights, max_candidates)
        with open(handle, "wb") as file:
            histories, hidden = self.history.all_users, self.history.hidden
            write_proposals(propose_on_driver(histories, users, plan, hidden), file)
        return Path(name)

    def fit_sample(self, truth: Truth) -> pd.DataFrame:
        """All proposals to as many of the users of `truth` as MAX_FIT_ROWS allows, by a hash of the user.

        Only users with a history: cold ones are ranked by one channel whatever the weights are, and would add noise.

        Returns:
            user_id, item_id, channel_scores and label (1: the user chose the item), in a fixed order.
        """
        plan = self._plan(initial_weights(self.channels, self.cold_channel), None)
        num_users = max(1, MAX_FIT_ROWS // sum(plan.quota.values()))
        users, columns = truth.users(), ["user_id", "item_id", "channel_scores"]
        if isinstance(users, DataFrame):
            warm = users.join(self.history.histories.select("user_id"), on="user_id", how="left_semi")
            sampled = warm.orderBy(F.xxhash64("user_id"), "user_id").limit(num_users)
            proposed: pd.DataFrame = propose(self.history, sampled, plan).select(columns).toPandas()
            truth_pairs: pd.DataFrame = truth.frame.join(sampled, on="user_id", how="left_semi").toPandas()
        else:
            assert self.history.all_users is not None
            warm_users = users[np.isin(users.astype(str), self.history.all_users.users.astype(str))]
            order = np.lexsort((warm_users.astype(str), hash_ids(warm_users)))[:num_users]
            histories, hidden = self.history.all_users, self.history.hidden
            batches = propose_on_driver(histories, warm_users[np.sort(order)], plan, hidden)
            proposed = pa.Table.from_batches(batches, ARROW_SCHEMA).select(columns).to_pandas()
            truth_pairs = truth.pairs()
        sample: pd.DataFrame = proposed.merge(truth_pairs.assign(label=1), on=["user_id", "item_id"], how="left")
        sample["label"] = sample["label"].fillna(0).astype(int)
        return sample.sort_values(["user_id", "item_id"], ignore_index=True)

    def close(self) -> None:
        """Free what is persisted on Spark."""
        for frame in self._persisted:
            frame.unpersist()
        self.history.unpersist()

    def _plan(self, weights: ChannelWeights, max_candidates: int | None) -> RecallPlan:
        settings = self.history.settings
        return RecallPlan(
            scorers=self._scorers,
            quota=settings.quota,
            reserved=settings.reserved if self._knows_impressions else {},
            weights=weights,
            item_ids=self.history.items["item_id"].to_numpy(dtype=object),
            max_candidates=max_candidates,
            max_rank=self._max_rank,
            half_life_days=settings.history_half_life_days,
        )


def read_ranks(file: Path) -> Iterator[pd.DataFrame]:
    """user_id, item_id, rank and channel_ranks of a file of `Proposer.write`, a stretch at a time."""
    columns = ["user_id", "item_id", "rank", "channel_ranks"]
    yield pd.DataFrame(columns=columns)  # there may be no candidate
    for batch in pq.ParquetFile(file).iter_batches(columns=columns):
        yield batch.to_pandas()
