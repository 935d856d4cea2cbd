"""What users chose and did, as a server has it: histories, lists of last acts, what was bought, and similar items."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from conf.site import current_site
from features.catalog import LISTS
from features.item_lists import CLICK, reads_clicks
from recsys.serve.state.arrays import Lists
from recsys.serve.state.publication import Publication
from recsys.serve.state.recent import LISTED
from recsys.serve.state.rows import codes_of, read_partition

PURCHASE = "purchase"
NUM_SIMILAR = 50
SIMILAR_SHRINK = 5.0  # co-choices that similarity is pulled to 0 by, as recall.shrink


def read_acts(publication: Publication) -> pa.Table:
    """user_id, item_id, action, value and at (seconds) of purchases, and of what the site has lists of."""
    columns = ["user_id", "item_id", "action", "value", "acted_at"]
    types = [pa.string(), pa.string(), pa.string(), pa.float64(), pa.timestamp("us", "UTC")]
    schema = pa.schema(list(zip(columns, types, strict=True)))
    partitions = publication.sources.get("dwd_interaction", {})
    tables = [read_partition(url, columns) for url in partitions.values()]
    tables = [table.cast(pa.schema([schema.field(name) for name in table.column_names])) for table in tables]
    acts = pa.concat_tables([schema.empty_table(), *tables], promote_options="default")
    acts = acts.filter(pc.is_in(acts["action"], pa.array([PURCHASE, *LISTED])))
    at = pc.divide(pc.cast(pc.cast(acts["acted_at"], pa.int64()), pa.float64()), 1e6)
    return acts.drop_columns("acted_at").append_column("at", at)


def chosen_items(
    impressions: pa.Table,
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    item_id: NDArray[np.integer],
    length: int,
) -> pd.DataFrame:
    """user, item and is_recent (among the newest `length`) of the choices, oldest first within a user."""
    is_positive = impressions["label"].to_numpy() > 0
    at = impressions["at"].to_numpy()[is_positive]
    columns = {"user": user[is_positive], "item": item[is_positive], "at": at, "id": item_id[is_positive]}
    # Of choices at one moment the ids decide, as in `features.counts.history.with_history`.
    rows = pd.DataFrame(columns).sort_values(["user", "at", "id"], ignore_index=True)
    return rows.assign(is_recent=rows[::-1].groupby("user").cumcount()[::-1] < length)


def choices(acts: pa.Table, positives: pd.DataFrame, user_ids: pa.Array, item_ids: pa.Array) -> dict[str, NDArray[Any]]:
    """The newest choices of each user in order, all chosen items, and the bought ones."""
    recent, chosen = positives[positives["is_recent"]], positives[["user", "item"]].drop_duplicates()
    chosen = chosen.sort_values(["user", "item"])
    purchases = acts.filter(pc.equal(acts["action"], PURCHASE))
    bought = _coded(purchases, user_ids, item_ids)[["user", "item"]].drop_duplicates().sort_values(["user", "item"])
    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in (("history", recent), ("chosen", chosen), ("bought", bought)):
        values = rows["item"].to_numpy(np.int32)
        arrays |= Lists.of_sorted(rows["user"].to_numpy(), values, len(user_ids)).arrays(name)
    return arrays


def item_lists(
    acts: pa.Table,
    positives: pd.DataFrame,
    arrays: Mapping[str, NDArray[Any]],
    user_ids: pa.Array,
    item_ids: pa.Array,
) -> dict[str, NDArray[Any]]:
    """Ids of the site's lists of each user, oldest first, as `features.counts.history.with_last` orders them.

    Args:
        acts: of `read_acts`.
        positives: of `chosen_items`, which are clicks where the site has no action of that name.
        arrays: with the items' features.
        user_ids: by code.
        item_ids: by code.
    """
    rows = _coded(acts, user_ids, item_ids)
    if reads_clicks(current_site()):
        clicks = positives.assign(action=CLICK, value=1.0)
        rows = pd.concat([rows[rows["action"] != CLICK], clicks[rows.columns]])
    built: dict[str, NDArray[Any]] = {}
    for one in LISTS:
        is_of_list = rows["action"] == one.action
        if one.at_least is not None:
            is_of_list &= rows["value"] >= one.at_least
        ids = arrays[f"item_feature_{one.field.name}"][rows["item"].to_numpy(np.int64)].astype(np.int64)
        of_list = rows.assign(id=ids)[is_of_list & (ids > 0)].sort_values(["user", "at", "id"], ignore_index=True)
        newest = of_list[of_list[::-1].groupby("user").cumcount()[::-1] < one.length]
        lists = Lists.of_sorted(newest["user"].to_numpy(), newest["id"].to_numpy(), len(user_ids))
        built |= lists.arrays(f"list_{one.name}")
    return built


def _coded(acts: pa.Table, user_ids: pa.Array, item_ids: pa.Array) -> pd.DataFrame:
    """user and item as codes, action, value and at of the acts of known users with known items."""
    user, item = codes_of(acts["user_id"], user_ids), codes_of(acts["item_id"], item_ids)
    rows = pd.DataFrame({"user": user, "item": item, **acts.select(["action", "value", "at"]).to_pandas()})
    return rows[(user >= 0) & (item >= 0)]


def similar_items(
    user: NDArray[np.integer], item: NDArray[np.integer], num_users: int, num_items: int
) -> dict[str, NDArray[Any]]:
    """The items that the same users chose, by damped cosine as in `recsys.recall.channels.item_cf`.

    Args:
        user: (choices,).
        item: (choices,).
        num_users: number of users.
        num_items: number of items.

    Returns:
        `similar` and `similar_offsets` (see `Lists`), and `similar_scores`, best first for each item.
    """
    ones = np.ones(len(user), np.float32)
    choices = sparse.csr_matrix((ones, (user, item)), shape=(num_users, num_items))  # (users, items)
    choices.sum_duplicates()
    # Once or often: who clicked an item on three days chose it once.
    choices.data[:] = 1
    per_user = np.asarray(choices.sum(axis=1)).ravel()
    # A user of many choices says less of each pair of them.
    damped = sparse.diags(1 / np.log1p(np.maximum(per_user, 1))) @ choices
    norm = np.sqrt(np.asarray(choices.sum(axis=0)).ravel())  # (items,) √n_i
    items, scores, lengths = [], [], []
    for start in range(0, num_items, 1024):  # a block of rows at a time, not items × items
        block = (choices.T[start : start + 1024] @ damped).tocoo()
        row, other = block.row, block.col  # (pairs,) each; row within the block
        score = block.data / (norm[row + start] * norm[other] + SIMILAR_SHRINK)
        is_other = row + start != other
        row, other, score = row[is_other], other[is_other], score[is_other]
        order = np.lexsort((other, -score, row))
        row, other, score = row[order], other[order], score[order]
        counts = np.bincount(row, minlength=min(1024, num_items - start))
        position = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        is_near = position < NUM_SIMILAR
        items.append(other[is_near])
        scores.append(score[is_near])
        lengths.append(np.minimum(counts, NUM_SIMILAR))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]) if lengths else np.zeros(1)
    values, of_values = (np.concatenate(parts) if parts else np.zeros(0) for parts in (items, scores))
    lists = Lists(offsets.astype(np.int64), values.astype(np.int32))
    return {**lists.arrays("similar"), "similar_scores": of_values.astype(np.float32)}
