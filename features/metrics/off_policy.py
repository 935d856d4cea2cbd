"""Off-policy evaluation: what other lists would have earned, from the log of a site that showed its own.

A logged slot has a reward (1 for a click), and a weight: how much more often the judged policy would have filled it so
than the site did. Estimators of the reward a slot:

    direct   mean of v                       v: what a click model expects of the judged policy; as biased as the model
    ips      mean of w·r                     inverse propensity scoring (Horvitz and Thompson 1952)
    snips    Σ w·r / Σ w · E[w]              self-normalised (Swaminathan and Joachims 2015)
    dr       mean of v + w·(r − q)           doubly robust (Dudík et al. 2011): right if the model or the weights are
    sndr     mean of v + the second part     self-normalised: of use where few slots carry the weight
             of dr, self-normalised

Intervals are of a bootstrap over users, whose slots are not independent. `list_slots` makes slots of ranked lists under
the position-based click model (Craswell et al. 2008): a click needs that the place was looked at and that the item
attracts, so a list is judged item by item, wherever the site showed each.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ESTIMATORS = ("direct", "ips", "snips", "dr", "sndr")
MIN_EFFECTIVE_SLOTS = 100.0  # below, the log hardly ever showed what the judged policy would
DRAWS = 500  # of the bootstrap
LIFT_STRENGTH = 10.0  # impressions that no lift at all weighs as much as in a user's lift of a category
LIFT_POWERS = np.linspace(0, 3, 31)


@dataclass(frozen=True)
class Slots:
    """Logged slots, as they are for one judged policy; all (slots,).

    Attributes:
        user: codes from 0; intervals resample users.
        reward: 1 for a click.
        weight: probability of what was shown under the judged policy, over that under the logging one.
        predicted: q, reward that the click model expects of what was shown.
        direct: v, reward that the click model expects of the judged policy in the slot's place.
        expected_weight: mean weight to expect of a right model of propensities.
    """

    user: NDArray[np.int64]
    reward: Floats
    weight: Floats
    predicted: Floats
    direct: Floats
    expected_weight: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """Reward a slot, with a 95 % interval."""

    value: float
    low: float
    high: float


def estimate(slots: Slots, *, clip: float = np.inf, seed: int = 0) -> dict[str, Estimate]:
    """Estimate the reward a slot of the judged policy by every one of ESTIMATORS.

    Args:
        slots: of the judged policy.
        clip: larger weights count as this: less variance, and a bias towards 0 that `dr` does not have.
        seed: of the bootstrap.

    Raises:
        ValueError: there is no slot.
    """
    values = _resampled(slots, clip, seed)
    return {
        name: Estimate(float(series[0]), *(float(bound) for bound in np.quantile(series[1:], [0.025, 0.975])))
        for name, series in values.items()
    }


def difference(better: Slots, worse: Slots, *, clip: float = np.inf, seed: int = 0) -> dict[str, Estimate]:
    """Estimate by how much one policy is better than another in the same log, resampling the same users for both."""
    one, other = _resampled(better, clip, seed), _resampled(worse, clip, seed)
    gains = {name: one[name] - other[name] for name in ESTIMATORS}
    return {
        name: Estimate(float(series[0]), *(float(bound) for bound in np.quantile(series[1:], [0.025, 0.975])))
        for name, series in gains.items()
    }


def _resampled(slots: Slots, clip: float, seed: int) -> dict[str, Floats]:
    """Each of ESTIMATORS on all users, and then on DRAWS samples of them with replacement: (1 + DRAWS,)."""
    if not len(slots.reward):
        raise ValueError("off-policy estimates need logged slots")
    weight = np.minimum(slots.weight, clip)
    columns = [weight * slots.reward, weight, slots.direct, weight * (slots.reward - slots.predicted)]
    columns.append(np.ones(len(weight)))
    sums = np.stack([np.bincount(slots.user, column) for column in columns])  # (columns, users)
    users = sums.shape[1]
    draws = np.random.default_rng(seed).multinomial(users, np.full(users, 1 / users), DRAWS) @ sums.T
    rewarded, weights, direct, residual, count = np.vstack([sums.sum(axis=1), draws]).T
    # A draw without any weight says nothing of a ratio to it: 0.
    scale = np.divide(slots.expected_weight, weights, out=np.zeros(len(weights)), where=weights > 0)
    return {
        "direct": direct / count,
        "ips": rewarded / count,
        "snips": rewarded * scale,
        "dr": (direct + residual) / count,
        "sndr": direct / count + residual * scale,
    }


def effective_slots(slots: Slots, clip: float = np.inf) -> float:
    """Kish's effective sample size: as many slots of weight 1 would say as much as these."""
    weight = np.minimum(slots.weight, clip)
    return float(weight.sum() ** 2 / max((weight**2).sum(), 1e-12))


@dataclass(frozen=True)
class ListLog:
    """The log of lists that a site showed; all (slots,), a slot being one item in one list.

    Attributes:
        user, item: codes from 0.
        position: from 1.
        click: 1 for a click.
        predicted: probability of a click by the click model, at the slot's own place.
        exposure: expected times that the site shows this item to this user in one list, weighted by how much its places
            are looked at; logged, or of `estimated_exposure`.
        examination: (places,) how much each place is looked at, relative to the first.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    position: NDArray[np.int64]
    click: Floats
    predicted: Floats
    exposure: Floats
    examination: Floats

    @cached_property
    def num_items(self) -> int:
        """One more than the largest code of an item."""
        return int(self.item.max(initial=-1)) + 1

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """user · num_items + item of every slot, sorted, each once."""
        return np.unique(self.user * self.num_items + self.item)


@dataclass(frozen=True)
class ListMatches:
    """What a log says of one list a user.

    Attributes:
        logged: user, item and rank of the listed items that the log has for the user.
        earned: clicks to expect of a list, by user.
    """

    logged: pd.DataFrame
    earned: "pd.Series[float]"


def match_lists(log: ListLog, ranked: pd.DataFrame, length: int) -> ListMatches:
    """Match lists of some users with the log; arguments as in `list_slots`."""
    top = ranked[ranked["rank"] <= length]
    at = _places(log, length)[top["rank"].to_numpy() - 1]
    earned = (top["attraction"] * log.examination[at]).groupby(top["user"]).sum()  # a list of the user
    # One number a pair, which takes a tenth of the time of an index of two columns.
    item = top["item"].to_numpy(np.int64)
    pair = top["user"].to_numpy(np.int64) * log.num_items + item
    place = np.minimum(np.searchsorted(log.pairs, pair), len(log.pairs) - 1)
    is_logged = (item >= 0) & (item < log.num_items) & (log.pairs[place] == pair)
    return ListMatches(top.loc[is_logged, ["user", "item", "rank"]], earned)


def list_slots(log: ListLog, ranked: pd.DataFrame, length: int) -> Slots:
    """Slots for judging one list a user under the position-based click model; rewards are clicks a list.

    Args:
        log: of requests of the users.
        ranked: user and item (codes), rank (from 1) and attraction (probability of a click at the first place).
        length: of the list.

    Returns:
        One slot a logged list: sums over its items. Lists of users that `ranked` lacks earn nothing.
    """
    return matched_slots(log, match_lists(log, ranked, length), length)


def matched_slots(log: ListLog, matches: ListMatches, length: int) -> Slots:
    """The slots of `list_slots`, of matches of all users."""
    places, logged, earned = _places(log, length), matches.logged, matches.earned
    pair = logged["user"].to_numpy(np.int64) * log.num_items + logged["item"].to_numpy(np.int64)
    looked_at = pd.Series(log.examination[places[logged["rank"].to_numpy() - 1]], index=pair)
    keys = log.user * log.num_items + log.item
    weight = looked_at.reindex(keys).fillna(0.0).to_numpy(np.float64) / log.exposure
    request = list_numbers(log.user, log.position)
    first = np.unique(request, return_index=True)[1]
    user = log.user[first]
    # Sums of w·r and w·q over a list's items: as ratios of them, weights and rewards of one slot a list.
    total: Floats = np.bincount(request, weight).astype(np.float64)
    safe = np.maximum(total, 1e-12)
    # A list of L places gives each item of a judged one L / (its places' attention) on average; 0 without such a one.
    attention = np.bincount(request, log.examination[log.position - 1])
    expected = np.bincount(request) / np.maximum(attention, 1e-12) * np.isin(user, earned.index)
    return Slots(
        user=user,
        reward=np.bincount(request, weight * log.click) / safe,
        weight=total,
        predicted=np.bincount(request, weight * log.predicted) / safe,
        direct=earned.reindex(user).fillna(0.0).to_numpy(),
        expected_weight=float(expected.mean() * log.examination[places].sum()),
    )


def _places(log: ListLog, length: int) -> NDArray[np.int64]:
    """(length,) each rank's place, from 0, as far as the log knows how much places are looked at."""
    return np.minimum(np.arange(length), len(log.examination) - 1)


def list_numbers(user: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.int64]:
    """(slots,) number of each slot's list, from 0, for slots in the order of their lists: each begins at position 1."""
    is_first = position == 1
    is_first[1:] |= user[1:] != user[:-1]
    is_first[0] = True
    return np.asarray(np.cumsum(is_first) - 1)


def examination_of(position: NDArray[np.int64], click: Floats, attraction: Floats) -> Floats:
    """(places,) how much each place is looked at, relative to the first: clicks over those expected at the first place.

    Args:
        position: (rows,) from 1.
        click: (rows,).
        attraction: (rows,) probability of a click at the first place, by a model that removes the place.
    """
    clicks = np.bincount(position - 1, click)
    expected = np.bincount(position - 1, attraction)
    rate = np.divide(clicks + 1, expected + 1)  # one of each more: a place that was shown once has no rate
    return np.asarray(rate / rate[0])


def logged_exposure(propensity: Floats, attention: Floats) -> Floats:
    """Expected exposures a list of what was shown, in places of full examination, by the propensity at its place alone.

    Each place that an item may be shown at counts with its share of the list's attention, and is weighted by its own
    propensity: unbiased, whatever the propensities at the other places, as long as none of them is 0.

    Args:
        propensity: (slots,) probability that the site shows this user this item at the slot's place.
        attention: (slots,) how much all places of the slot's list are looked at together, in places of full attention.

    Raises:
        ValueError: a row has no probability at all of what it was shown.
    """
    if not (propensity > 0).all():
        raise ValueError("what a site showed had a propensity above 0")
    return np.asarray(propensity * attention)


def estimated_exposure(shown: pd.DataFrame, earlier: pd.DataFrame, places: float | Floats) -> Floats:
    """Estimate how often a site shows an item to a user in a list: the item's share, times the user's lift.

    The lift is that of the item's category in what the user was shown before, to the power that predicts best what they
    are shown now: a lift of few impressions is pulled to 1, and would make likers of a category count too often.

    Args:
        shown: user, item and category (codes) of the impressions that are judged by.
        earlier: user and category of impressions before them.
        places: of a list, each counted by how much it is looked at; of all, or (rows of `shown`,) of each one's list.

    Returns:
        (rows of `shown`,) expected exposures a list, in places of full examination.
    """
    users, categories = int(shown["user"].max()) + 1, int(max(shown["category"].max(), earlier["category"].max())) + 1
    before = _counts(earlier[earlier["user"].between(0, users - 1)], users, categories)
    now = _counts(shown, users, categories)
    usual_before, usual = (counts.sum(axis=0) / max(counts.sum(), 1) for counts in (before, now))
    pulled = (before + LIFT_STRENGTH * usual_before) / (before.sum(axis=1, keepdims=True) + LIFT_STRENGTH)
    lift = np.divide(pulled, usual_before, out=np.ones_like(pulled), where=usual_before > 0)

    def shares(power: float) -> Floats:
        weights = usual * lift**power
        return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12))

    # Log likelihood of what is shown now, up to a constant.
    best = max(LIFT_POWERS, key=lambda power: float((now * np.log(np.maximum(shares(power), 1e-12))).sum()))
    user, category = shown["user"].to_numpy(), shown["category"].to_numpy()
    item_share = (np.bincount(shown["item"]) / len(shown))[shown["item"]]
    return np.asarray(item_share * (shares(best)[user, category] / usual[category]) * places)


def _counts(rows: pd.DataFrame, users: int, categories: int) -> Floats:
    """(users, categories) impressions."""
    cells = rows["user"].to_numpy(np.int64) * categories + rows["category"].to_numpy(np.int64)
    return np.bincount(cells, minlength=users * categories).reshape(users, categories).astype(np.float64)
