"""Feature rows -> codes of users and items, context and side information, as the factorisation reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from features.catalog import DENSE, OWN_COLUMNS, SPARSE
from recsys.dataset import Rows
from recsys.mf.inference import Feedback

SPARSE_NAMES = [feature.name for feature in SPARSE]
USER_FIELDS = ("gender", "age_group", "city", *OWN_COLUMNS.text_names("user"))  # columns of dim_user
ITEM_FIELDS = ("category", "author", *OWN_COLUMNS.text_names("item"))  # columns of dim_item
CONTEXT_FIELDS = ("position", "device", "hour")
AGE = [feature.name for feature in DENSE].index("item_age_days")
AGE_BINS = 12
SHARE_FIELD = "category"
SHARE_STRENGTH = 10.0  # impressions that the usual shares weigh as much as in a user's
MAX_SHARES = 64  # most frequent values of SHARE_FIELD that a user's side information counts
MIN_ROWS = 5  # of a value of the side information to have a column of its own


@dataclass(frozen=True)
class OneHot:
    """Columns of the values of some sparse fields; the last column is 1 in every row.

    Attributes:
        field: (columns − 1,) position in SPARSE.
        value: (columns − 1,) id within the field.
    """

    field: NDArray[np.int64]
    value: NDArray[np.int64]

    @classmethod
    def fit(cls, ids: NDArray[np.integer], fields: Sequence[str]) -> "OneHot":
        """Give a column to each value of `fields` that MIN_ROWS rows of `ids` (rows, sparse fields) have."""
        pairs = [
            (position, value)
            for position in map(SPARSE_NAMES.index, fields)
            for value, count in zip(*np.unique(ids[:, position], return_counts=True), strict=True)
            if count >= MIN_ROWS
        ]
        field, value = np.array(pairs, np.int64).reshape(-1, 2).T
        return cls(field, value)

    def transform(self, ids: NDArray[np.integer]) -> sparse.csr_matrix:
        """(rows, columns) of ones; a value without a column has none."""
        constant = np.full(len(ids), len(self.field))
        # In one go, as a server asks for a hundred rows at a time: (rows, fields + 1), −1 for no column.
        columns = np.column_stack([*(table[ids[:, field]] for field, table in self.columns.items()), constant])
        is_there = columns >= 0
        indptr = np.concatenate([[0], np.cumsum(is_there.sum(axis=1))])
        values = np.ones(indptr[-1])
        return sparse.csr_matrix((values, columns[is_there], indptr), shape=(len(ids), len(self.field) + 1))

    @cached_property
    def columns(self) -> dict[int, NDArray[np.int64]]:
        """Field -> (buckets,) column of each of its ids, −1 for none."""
        tables = {}
        for field in np.unique(self.field).tolist():
            table = np.full(SPARSE[field].buckets, -1)
            is_mine = self.field == field
            table[self.value[is_mine]] = np.flatnonzero(is_mine)
            tables[field] = table
        return tables


@dataclass(frozen=True)
class Encoder:
    """Vocabularies of users, items, context and side information; fitted on training rows."""

    users: NDArray[np.str_]  # (users,) sorted
    items: NDArray[np.str_]  # (items,) sorted
    user_side: OneHot
    item_side: OneHot
    context: OneHot
    age_edges: NDArray[np.float64]  # (edges,) of the item's age, standardised as the data set has it
    shares: NDArray[np.int64]  # (shares,) ids of SHARE_FIELD whose shares are a user's side information

    @classmethod
    def fit(cls, rows: Rows) -> "Encoder":
        """Fit the vocabularies to training rows with the keys user_id and item_id."""
        users, first_of_user = _distinct(rows.keys["user_id"])
        items, first_of_item = _distinct(rows.keys["item_id"])
        # Lists that nobody showed (sampled negatives) say nothing of what the site believed of a user.
        is_shown = bool(rows.sparse[:, SPARSE_NAMES.index("position")].any())
        values, counts = np.unique(rows.sparse[:, SPARSE_NAMES.index(SHARE_FIELD)], return_counts=True)
        age = rows.dense[:, AGE] if len(users) else np.zeros(1, np.float32)  # no rows have no quantiles
        edges = np.unique(np.quantile(age, np.linspace(0, 1, AGE_BINS + 1)[1:-1]))
        return cls(
            users,
            items,
            OneHot.fit(rows.sparse[first_of_user], USER_FIELDS),
            OneHot.fit(rows.sparse[first_of_item], ITEM_FIELDS),
            OneHot.fit(rows.sparse, CONTEXT_FIELDS),
            edges.astype(np.float64),
            np.sort(values[np.argsort(-counts, kind="stable")[:MAX_SHARES]]) if is_shown else np.zeros(0, np.int64),
        )

    def feedback(self, rows: Rows, weight: NDArray[np.float32]) -> Feedback:
        """Encode rows whose users and items are all in the vocabularies, such as those that it was fitted on."""
        user, item = self.user_codes(rows), self.item_codes(rows)
        return Feedback(user, item, rows.label, weight, self.contexts(rows))

    def user_codes(self, rows: Rows) -> NDArray[np.int32]:
        """(rows,) code of the user; −1 for an unknown one."""
        return _codes(self.users, rows.keys["user_id"])

    def item_codes(self, rows: Rows) -> NDArray[np.int32]:
        """(rows,) code of the item; −1 for an unknown one."""
        return _codes(self.items, rows.keys["item_id"])

    def contexts(self, rows: Rows) -> sparse.csr_matrix:
        """(rows, contexts): place in the list, device, hour and the item's age, a one in a column of each."""
        bins, count = self._age_bins(rows), len(self.age_edges) + 1
        ages = sparse.csr_matrix((np.ones(len(bins)), bins, np.arange(len(bins) + 1)), shape=(len(bins), count))
        return sparse.hstack([self.context.transform(rows.sparse)[:, :-1], ages], format="csr")

    def context_offsets(self, rows: Rows, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows,) sums of the effects (contexts,) of each row, as `contexts(rows) @ effects` without a matrix."""
        num_columns = len(self.context.field)
        offsets = effects[num_columns:][self._age_bins(rows)]
        of_columns = np.append(effects[:num_columns], 0.0)  # the last one is of column −1: none
        for field, columns in self.context.columns.items():
            offsets = offsets + of_columns[columns[rows.sparse[:, field]]]
        return offsets

    def _age_bins(self, rows: Rows) -> NDArray[np.int64]:
        return np.searchsorted(self.age_edges, rows.dense[:, AGE], side="right")

    def user_features(self, rows: Rows, weight: NDArray[np.float32]) -> sparse.csr_matrix:
        """(users, columns) side information: their columns, and of what they were shown, log of share over usual share.

        What a site showed to a user is what its own recommender believed of them.
        """
        user = self.user_codes(rows)
        codes, first = np.unique(user, return_index=True)
        described = self.user_side.transform(_rows_of(rows.sparse, codes, first, len(self.users)))
        if not len(self.shares):
            return described
        ids = rows.sparse[:, SPARSE_NAMES.index(SHARE_FIELD)]
        column = np.minimum(np.searchsorted(self.shares, ids), len(self.shares) - 1)
        is_counted = self.shares[column] == ids
        pair = user.astype(np.int64) * len(self.shares) + column
        shape = (len(self.users), len(self.shares))
        counts = np.bincount(pair[is_counted], weight[is_counted], minlength=shape[0] * shape[1])
        shown = counts.reshape(shape)
        usual = shown.sum(axis=0) / shown.sum()  # (shares,)
        share = (shown + SHARE_STRENGTH * usual) / (shown.sum(axis=1, keepdims=True) + SHARE_STRENGTH)
        return sparse.hstack([sparse.csr_matrix(np.log(share / usual)), described], format="csr")

    def item_features(self, rows: Rows) -> sparse.csr_matrix:
        """(items, columns) side information of the items."""
        codes, first = np.unique(self.item_codes(rows), return_index=True)
        return self.item_side.transform(_rows_of(rows.sparse, codes, first, len(self.items)))

    def user_side_of(self, ids: NDArray[np.integer]) -> sparse.csr_matrix:
        """Side information (rows, columns) of unknown users, from the sparse fields of a row of each."""
        no_shares = sparse.csr_matrix((len(ids), len(self.shares)))  # log of usual over usual share is 0
        return sparse.hstack([no_shares, self.user_side.transform(ids)], format="csr")


def _distinct(values: ArrayLike) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Distinct texts (n,), sorted, and the first row of each: by hash, for sorting the texts of all rows takes long."""
    codes, texts = _factorize(values)
    first = np.zeros(len(texts), np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several rows of a text the last assignment, the first row
    order = np.argsort(texts, kind="stable")
    return texts[order], first[order]


def _codes(vocabulary: NDArray[np.str_], values: ArrayLike) -> NDArray[np.int32]:
    codes, texts = _factorize(values)
    if not len(vocabulary):
        return np.full(len(codes), -1, np.int32)
    position = np.minimum(np.searchsorted(vocabulary, texts), len(vocabulary) - 1)
    return np.where(vocabulary[position] == texts, position, -1).astype(np.int32)[codes]


def _factorize(values: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Codes (rows,) of texts, and the distinct texts in the order of their first rows."""
    codes, texts = pd.factorize(np.asarray(values, dtype=object), use_na_sentinel=False)
    return codes, np.asarray(texts, dtype=np.str_)


def _rows_of(
    ids: NDArray[np.integer], codes: NDArray[np.int32], first: NDArray[np.int64], entities: int
) -> NDArray[np.int64]:
    """The row of `ids` at which each entity comes first; zeros (missing values) for one without a row."""
    described = np.zeros((entities, ids.shape[1]), np.int64)
    described[codes] = ids[first]
    return described
