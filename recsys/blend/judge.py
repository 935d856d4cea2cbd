"""Off-policy judgement of the day's lists: the clicks that the site's own log lets expect of them.

Lists that were never shown are judged by the impressions of the test rows: where the site showed an item of a list, its
click or its absence counts for as many as the site hardly ever showed it (`features.metrics.off_policy`).
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from features import catalog
from features.dataset.names import PROPENSITY
from features.metrics import off_policy
from features.metrics.off_policy import ListLog, Slots
from features.transforms.hashing import hash_bucket
from recsys.dataset import SPARSE_COLUMNS, Rows

log = logging.getLogger(__name__)

CLIP = 100.0  # of a list's weight: larger ones add more variance than they take bias
LOGGED = "logged"  # as the source of propensities
MIN_CLICKS = 10  # on items of the judged lists: below, intervals are too short
POSITION, CATEGORY = SPARSE_COLUMNS.index("f_position"), SPARSE_COLUMNS.index("f_category")
MAX_POSITION = 5000  # so many that each id of the feature stands for one


def judge_after(
    folder: Path, splits: Sequence[str], rows: Rows, predicted: NDArray[np.float64], attraction: NDArray[np.float64]
) -> "ListJudge":
    """A judge by `rows` of a training set, after the impressions of its `splits`; by propensities that the site logs.

    Args:
        folder: of the training set.
        splits: what was shown before the rows.
        rows: impressions of another split, with the keys of `ListJudge`, and PROPENSITY where the site logs it.
        predicted: (rows,) click probabilities.
        attraction: (rows,) the same of `at_first_place(rows)`.
    """
    columns = {"user_id": "user_id", SPARSE_COLUMNS[CATEGORY]: "category"}
    earlier = [ds.dataset(folder / split).to_table(columns=list(columns)) for split in splits]
    before = pa.concat_tables(earlier).to_pandas().rename(columns=columns)
    propensity = rows.keys.get(PROPENSITY)
    logged = None if propensity is None else propensity.to_numpy(np.float64)
    return ListJudge(rows, before, predicted, attraction, logged)


class ListJudge:
    """Judges lists by logged impressions that no ranker learned from."""

    def __init__(
        self,
        rows: Rows,
        earlier: pd.DataFrame,
        predicted: NDArray[np.float64],
        attraction: NDArray[np.float64],
        propensity: NDArray[np.float64] | None = None,
    ) -> None:
        """Estimate what the site shows to whom and how much each place is looked at.

        Args:
            rows: impressions, with the keys user_id, item_id and at_s.
            earlier: impressions before them: user_id and category (the feature's id).
            predicted: (rows,) click probabilities by the stack.
            attraction: (rows,) the same of `at_first_place(rows)`.
            propensity: (rows,) probability that the site shows this user this item at the row's place, as it logs it;
                estimated for rows where it is NaN, and for all without it.

        Raises:
            ValueError: a row has no probability at all of what it was shown.
        """
        position = np.maximum(positions(rows), 1)  # without a place: as if it was shown first
        # What a user was shown at one moment is a list.
        order = np.lexsort((position, rows.keys["user_id"].to_numpy(str), rows.keys["at_s"].to_numpy()))
        user, self._users = rows.keys["user_id"].iloc[order].factorize()
        item, self._items = rows.keys["item_id"].iloc[order].factorize()
        position, click = position[order], rows.label[order].astype(np.float64)
        examination = off_policy.examination_of(position, click, attraction[order])
        logged = np.full(len(user), np.nan) if propensity is None else propensity[order]
        shown = pd.DataFrame({"user": user, "item": item, "category": rows.sparse[order, CATEGORY]})
        before = self._users.get_indexer(earlier["user_id"])
        categories = pd.DataFrame({"user": before, "category": earlier["category"].to_numpy()})
        exposure, self.propensity_source = _exposure(logged, shown, categories, position, examination)
        self._log = ListLog(user, item, position, click, predicted[order], exposure, examination)

    def logged_lists(self, k: int) -> Slots:
        """The site's own lists: slots of weight 1, whose reward is the clicks on the first k places."""
        request = off_policy.list_numbers(self._log.user, self._log.position)
        first = np.unique(request, return_index=True)[1]
        is_counted = self._log.position <= k
        clicks, expected = (
            np.bincount(request, values * is_counted).astype(np.float64)
            for values in (self._log.click, self._log.predicted)
        )
        return Slots(self._log.user[first], clicks, np.ones(len(first)), expected, expected)

    def collector(self, k: int) -> "ListCollector":
        """What collects lists of length k that are judged."""
        return ListCollector(self, self._log, k)

    def match(self, ranked: pd.DataFrame, k: int) -> Slots:
        """Logged lists as they judge other lists, all of them at once; arguments as of `ListCollector`."""
        collector = self.collector(k)
        collector.add(ranked)
        return collector.match()

    def match_codes(self, coded: pd.DataFrame, k: int) -> Slots:
        """`match` of lists with the numbers of `codes`: user, item, rank and attraction."""
        return off_policy.matched_slots(self._log, off_policy.match_lists(self._log, coded, k), k)

    def codes(self, ranked: pd.DataFrame) -> pd.DataFrame:
        """Lists of the users that the log has, with codes; -1 for an item that it lacks: the model alone knows it."""
        user = self._users.get_indexer(ranked["user_id"])
        is_logged = user >= 0
        ranked = ranked[is_logged]
        return pd.DataFrame(
            {
                "user": user[is_logged],
                "item": self._items.get_indexer(ranked["item_id"]),
                "rank": ranked["rank"].to_numpy(),
                "attraction": ranked["attraction"].to_numpy(),
            }
        )


class ListCollector:
    """Lists by one score as logged lists judge them, added some users at a time; no list itself is held."""

    def __init__(self, judge: ListJudge, log: off_policy.ListLog, k: int) -> None:
        self._judge, self._log, self._k = judge, log, k
        self._parts: list[off_policy.ListMatches] = []

    def add(self, ranked: pd.DataFrame) -> None:
        """Add lists of users none of whose rows were added before.

        Args:
            ranked: user_id, item_id, rank and attraction (click probability at the first place).
        """
        codes = self._judge.codes(ranked[ranked["rank"] <= self._k])
        self._parts.append(off_policy.match_lists(self._log, codes, self._k))

    def match(self) -> Slots:
        """Logged lists as they judge those that were added, for `off_policy.estimate`; rewards are clicks on k places.

        Raises:
            ValueError: nothing was added.
        """
        logged, earned = zip(*((part.logged, part.earned) for part in self._parts), strict=True)
        matches = off_policy.ListMatches(pd.concat(logged, ignore_index=True), pd.concat(earned))
        return off_policy.matched_slots(self._log, matches, self._k)

    def slots(self) -> Slots | None:
        """The slots of `match`; None where the log can't answer, with a line that says so."""
        slots = self.match()
        if not has_support(slots):
            log.warning(
                "the log can't judge these lists: it shows them as %.0f lists would, with %.0f clicks on their items",
                off_policy.effective_slots(slots, CLIP),
                num_clicked(slots),
            )
            return None
        return slots


def has_support(slots: Slots) -> bool:
    """Whether the log shows enough of what the judged lists would, and clicks on it, for estimates and intervals."""
    enough = off_policy.effective_slots(slots, CLIP) >= off_policy.MIN_EFFECTIVE_SLOTS
    return enough and num_clicked(slots) >= MIN_CLICKS


def num_clicked(slots: Slots) -> int:
    """In how many logged lists an item of the judged ones was clicked."""
    return int((slots.reward * (slots.weight > 0)).astype(bool).sum())


def _exposure(
    logged: NDArray[np.float64],
    shown: pd.DataFrame,
    earlier: pd.DataFrame,
    position: NDArray[np.int64],
    examination: NDArray[np.float64],
) -> tuple[NDArray[np.float64], str]:
    """(slots,) expected exposures a list: by logged propensities, estimated where these are NaN; and which they are."""
    request = off_policy.list_numbers(shown["user"].to_numpy(), position)
    # By what was logged: two places may share an id, and a list have more places than there are ids.
    attention = np.bincount(request, examination[position - 1]).astype(np.float64)[request]
    is_logged = ~np.isnan(logged)
    exposure = np.full(len(logged), np.nan)
    exposure[is_logged] = off_policy.logged_exposure(logged[is_logged], attention[is_logged])
    if is_logged.all():
        return exposure, LOGGED
    estimated = off_policy.estimated_exposure(shown, earlier, attention)
    return np.where(is_logged, exposure, estimated), "both" if is_logged.any() else "estimated"


def at_first_place(rows: Rows) -> Rows:
    """The same rows as if each item had been shown at the first place."""
    sparse = rows.sparse.copy()
    sparse[:, POSITION] = position_id(1)
    return replace(rows, sparse=sparse)


def positions(rows: Rows) -> NDArray[np.int64]:
    """(rows,) places in the list, from 1, of ids of the feature `position`; 0 where there is none."""
    table = np.zeros(catalog.SPARSE[POSITION].buckets, np.int64)
    for position in range(MAX_POSITION, 0, -1):  # downwards: of two places with the same id, the first one is meant
        table[position_id(position)] = position
    return np.asarray(table[rows.sparse[:, POSITION]])


def position_id(position: int) -> int:
    """Id of a place in the list, from 1, in the feature `position`."""
    feature = catalog.SPARSE[POSITION]
    return hash_bucket(catalog.index_of(feature), position, feature.buckets)
