"""Millrace's published lists on the generated site: which users see them, what is explored, with what propensity.

Lists are read as data, from the run folder of the newest promotion before the day.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from conf import UserError
from conf.runs import RECOMMENDATIONS, UNKNOWN_USER, promotions, run_folder
from etl.simulator.world import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXPERIMENT = "policy"  # its name for `millrace experiment read`
SITE, PUBLISHED = "site", "published"  # its arms
ROWS_AT_A_TIME = 2000  # requests whose orders of all items are in memory: 10 MB at scale 1


@dataclass(frozen=True, kw_only=True)
class PublishedPolicy:
    """How the site shows published lists."""

    share: float = 0.5
    """Share of the users whom they are shown to; the others get the site's own."""
    explore: float = 0.05
    """Probability of each place to be filled by a random item."""

    def __post_init__(self) -> None:
        for name in ("share", "explore"):
            if not 0 <= (value := getattr(self, name)) <= 1:  # false of NaN, too
                raise UserError(f"--{name} {value:g}: write a share from 0 to 1")


@dataclass(frozen=True)
class PublishedLists:
    """What is shown of them on one day.

    Attributes:
        day: of the promotion.
        policy: how they are shown.
        lists: (users, places) item numbers, −1 where a list is shorter.
        is_assigned: (users,) whether a user is in the arm of the published lists.
        available: (n,) ascending numbers of the items that exist on the day.
    """

    day: date
    policy: PublishedPolicy
    lists: Ints
    is_assigned: NDArray[np.bool_]
    available: Ints

    def explored(self, users: Ints, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """The users' lists with random items in some places, and the propensity of each item at its place.

        From the first place down, each is swapped with probability `explore` with itself or any item that is not above
        it. So the items of a list differ, and each that exists may be shown at each place, as estimates need it.

        Args:
            users: (n,) numbers of the users of n requests.
            rng: of these requests.

        Returns:
            (n, places) item numbers, and (n, places) probabilities.
        """
        items = np.empty((len(users), self.lists.shape[1]), np.int64)
        propensity = np.empty(items.shape)
        for first in range(0, len(users), ROWS_AT_A_TIME):
            rows = slice(first, first + ROWS_AT_A_TIME)
            lists = self.lists[users[rows]]
            items[rows] = self._swapped(lists, rng)
            propensity[rows] = self._propensity(lists, items[rows])
        return items, propensity

    def _swapped(self, lists: Ints, rng: np.random.Generator) -> Ints:
        n, places = lists.shape
        # Each row an order of all items: the list first, the others after it in random order.
        key = rng.random((n, len(self.available)))
        row, place = np.nonzero(lists >= 0)
        key[row, np.searchsorted(self.available, lists[row, place])] = place - float(places)
        order = np.argsort(key, axis=1)
        for position in range(places):
            explored = np.flatnonzero(rng.random(n) < self.policy.explore)
            other = rng.integers(position, len(self.available), size=(n,))[explored]
            swapped = order[explored, other], order[explored, position]
            order[explored, position], order[explored, other] = swapped
        return np.asarray(self.available[order[:, :places]])

    def _propensity(self, lists: Ints, items: Ints) -> Floats:
        places = lists.shape[1]
        is_same = items[:, :, None] == lists[:, None, :]  # (n, places, places of the list)
        start = np.where(is_same.any(axis=2), is_same.argmax(axis=2), places)
        length = (lists >= 0).sum(axis=1, keepdims=True)
        tables = place_probabilities(len(self.available), places, self.policy.explore)
        return np.asarray(tables[length, start, np.arange(places)])


def place_probabilities(num_items: int, places: int, explore: float) -> Floats:
    """With what probability exploration shows each item at each place.

    Args:
        num_items: items that exist, at least as many as places.
        places: of the list that is shown.
        explore: probability of each place to be swapped.

    Returns:
        (length, start, place), each from 0: for a list of `length` items, of the item at its place `start`, or where
        `start` is `places`, of each item that is not in the list.
    """
    below = num_items - places  # items that no place would have without exploration
    at = np.eye(places + 1)  # (start, where it is by now), the last of both: any one below the places
    for place in range(places):
        swap = explore / (num_items - place)  # with each single one of this place and those after it
        targets = np.ones(places - place)
        targets[-1] = below
        here, later = at[:, place].copy(), at[:, place + 1 :].copy()
        at[:, place] = here * (1 - swap * targets.sum()) + swap * later.sum(axis=1)
        at[:, place + 1 :] = later * (1 - swap) + swap * here[:, None] * targets
    shown = at[:, :places]
    tables = np.repeat(shown[None], places + 1, axis=0)
    for length in range(places):
        # Items outside a shorter list start at any place after it.
        rest = shown[length:places].sum(axis=0) + below * shown[places]
        tables[length, places] = rest / (num_items - length)
    return tables


def read_lists(world: World, runs: Path, day: date, policy: PublishedPolicy, places: int) -> PublishedLists | None:
    """The newest lists that were promoted for a day before `day`; None when there are none.

    A user without a list gets that of unknown users, as `recsys recommend` has it.

    Args:
        world: users and items of the site.
        runs: folder of the run folders.
        day: that they are shown on.
        policy: how they are shown.
        places: first items of a list that are shown.

    Raises:
        UserError: the lists are of other items than the site's.
    """
    newest = next(((at, runs_of) for at, runs_of in promotions(runs) if at < day and "recommend" in runs_of), None)
    if newest is None:
        return None
    promoted_at, run_ids = newest
    folder = run_folder(runs, run_ids["recommend"])
    available = np.flatnonzero(world.item_birth <= (day - world.settings.start).days)
    lists = np.full((world.num_users, places), -1)
    if (folder / UNKNOWN_USER).exists():
        fallback = _numbers(pq.read_table(folder / UNKNOWN_USER).to_pandas()["item_id"], "i")
        fallback = fallback[np.isin(fallback, available)][:places]
        lists[:, : len(fallback)] = fallback
    ranked = pq.read_table(folder / RECOMMENDATIONS, columns=["user_id", "rank", "item_id"]).to_pandas()
    ranked = ranked.assign(item=_numbers(ranked["item_id"], "i"), user=_numbers(ranked["user_id"], "u"))
    is_shown = ranked["item"].isin(available) & ranked["user"].between(0, world.num_users - 1)
    ranked = ranked[is_shown].sort_values(["user", "rank"])
    if ranked.empty:
        raise UserError(f"the lists of {promoted_at} have no user and item of the generated site: {folder}")
    ranked["place"] = ranked.groupby("user").cumcount()
    lists[ranked["user"].unique()] = -1
    ranked = ranked[ranked["place"] < places]
    lists[ranked["user"], ranked["place"]] = ranked["item"]
    return PublishedLists(promoted_at, policy, lists, assign(world.num_users, policy.share), available)


def assign(num_users: int, share: float) -> NDArray[np.bool_]:
    """(users,) who is in the arm of the published lists: by a hash, so that a user stays, and a larger share adds."""
    hashes = [xxhash.xxh64_intdigest(f"{EXPERIMENT}\0u{user}".encode()) for user in range(num_users)]
    return np.array([value / 2**64 < share for value in hashes], dtype=np.bool_)


def _numbers(ids: "pd.Series[str]", kind: str) -> Ints:
    """Numbers of the site's users or items: 42 of u42; −1 of what is none."""
    digits = ids.str.extract(rf"^{kind}(\d{{1,9}})$", expand=False)
    return np.asarray(pd.to_numeric(digits).fillna(-1), np.int64)
