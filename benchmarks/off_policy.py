"""Off-policy estimates of twelve lists against the simulator's truth: `python -m benchmarks.off_policy [--scale S]`.

20 sites (times the scale) of 3,000 users and seven days, generated from seeds 0, 1, …; the factorisation learns six
days, and the seventh day's log judges lists that were never shown. Printed: how well each estimator orders the lists
(Kendall's τ), and how often its 95 % interval has the true clicks a list; with estimated propensities, and with those
that the site logs.
"""

import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from benchmarks.harness import report, scale_option
from etl.simulator.propensity import block_propensities
from etl.simulator.settings import SimulatorSettings
from etl.simulator.traffic import LIST_LENGTH, request_blocks
from etl.simulator.world import World
from features.catalog import DENSE, SPARSE
from features.metrics import off_policy
from features.metrics.off_policy import ESTIMATORS, Estimate
from recsys.blend.judge import CATEGORY, CLIP, ListJudge, at_first_place, has_support, position_id
from recsys.calibration import logit
from recsys.dataset import Rows, concatenate
from recsys.mf import train as mf
from recsys.mf.encode import AGE, SPARSE_NAMES
from recsys.settings import MFSettings

DAYS = 7
SITES = 20

Floats = NDArray[np.float64]


def main() -> None:
    """Measure the sites, and print the table and one JSON line."""
    scale = scale_option(__doc__)
    started = time.perf_counter()
    figures: dict[str, float] = {}
    worlds = [World(SimulatorSettings(), 1, seed) for seed in range(max(1, round(SITES * scale)))]
    measured = [measure_site(world) for world in worlds]
    for suffix, propensity in (("", "estimated"), ("_logged", "logged")):
        sites = [site[propensity] for site in measured]
        for estimator in ESTIMATORS:
            order, coverage = zip(*(agreement(site, estimator) for site in sites), strict=True)
            figures[f"tau_{estimator}{suffix}"] = float(np.mean(order))
            figures[f"coverage_{estimator}{suffix}"] = float(np.mean(coverage))
        figures[f"judged{suffix}"] = float(np.mean([len(site) for site in sites]))
    rate = 24 * len(worlds) / (time.perf_counter() - started)
    report("Off-policy estimates", {"lists": rate}, "a second", figures)


def agreement(site: Mapping[str, tuple[float, dict[str, Estimate]]], estimator: str) -> tuple[float, float]:
    """Kendall's τ between estimates and truth, and the share of the lists whose interval has the truth."""
    truth = [clicks for clicks, _ in site.values()]
    estimates = [estimated[estimator] for _, estimated in site.values()]
    covered = [estimate.low <= clicks <= estimate.high for clicks, estimate in zip(truth, estimates, strict=True)]
    return float(kendalltau(truth, [estimate.value for estimate in estimates])[0]), float(np.mean(covered))


def measure_site(world: World) -> dict[str, dict[str, tuple[float, dict[str, Estimate]]]]:
    """True clicks a list, and their estimates, of each list that the last day's log can judge.

    By whether propensities are `estimated`, or those of the site, as if they were `logged`.
    """
    day = DAYS - 1
    earlier = concatenate(*(impressions(world, index) for index in range(day)))
    ranker = mf.train(earlier, MFSettings())
    test = impressions(world, day)
    predicted, at_first = ranker.predict(test), ranker.predict(at_first_place(test))
    before = pd.DataFrame({"user_id": earlier.keys["user_id"], "category": earlier.sparse[:, CATEGORY]})
    judges = {
        "estimated": ListJudge(test, before, predicted, at_first),
        "logged": ListJudge(test, before, predicted, at_first, propensities(world, day)),
    }
    user_ids, requests = np.unique(test.keys["user_id"].to_numpy(str), return_counts=True)
    users = np.char.replace(user_ids, "u", "").astype(np.int64)
    published = np.flatnonzero(world.item_birth <= day)
    pairs = np.repeat(users, len(published)), np.tile(published, len(users))
    first = np.ones(len(pairs[0]), np.int64)
    attraction = ranker.predict(rows(world, *pairs, first, day)).reshape(len(users), -1)
    results: dict[str, dict[str, tuple[float, dict[str, Estimate]]]] = {kind: {} for kind in judges}
    for name, scores in policies(world, users, published, day, attraction).items():
        top = np.argsort(-scores, axis=1, kind="stable")[:, :LIST_LENGTH]
        lists = published[top]  # (users, length)
        ranked = pd.DataFrame(
            {
                "user_id": np.repeat(user_ids, LIST_LENGTH),
                "item_id": np.char.add("i", lists.ravel().astype(str)),
                "rank": np.tile(np.arange(1, LIST_LENGTH + 1), len(users)),
                "attraction": np.take_along_axis(attraction, top, axis=1).ravel(),
            }
        )
        places = np.broadcast_to(np.arange(1, LIST_LENGTH + 1), lists.shape)
        clicks = float(np.average(world.click_probability(users, lists, places, day).sum(axis=1), weights=requests))
        for kind, judge in judges.items():
            slots = judge.match(ranked, LIST_LENGTH)
            if has_support(slots):
                results[kind][name] = clicks, off_policy.estimate(slots, clip=CLIP)
    return results


def propensities(world: World, day: int) -> Floats:
    """What the site logs of a day: (rows,) probability that it shows each impression's item at its place."""
    return np.concatenate([block_propensities(world, block, day).ravel() for block in request_blocks(world, day)])


def policies(
    world: World, users: NDArray[np.int64], items: NDArray[np.int64], day: int, attraction: Floats
) -> dict[str, Floats]:
    """Scores (users, items) of twelve lists, from the worst to the best that there are."""
    rng = np.random.default_rng(world.seed)
    shape = attraction.shape
    truth = logit(world.click_probability(users, np.broadcast_to(items, shape), np.ones((1, 1), np.int64), day))
    model, popularity = logit(attraction), np.log(world.item_popularity[items])
    return {
        "random": rng.random(shape),
        "popular": popularity + rng.normal(0, 1e-3, shape),
        "best for all": model.mean(axis=0) + np.zeros(shape),
        "model": model,
        "model and popular": model + popularity,
        "truth": truth,
        "worst": -truth,
        **{f"model, noise {noise}": model + rng.normal(0, noise, shape) for noise in (0.5, 1, 2)},
        **{f"truth, noise {noise}": truth + rng.normal(0, noise, shape) for noise in (1, 2)},
    }


def impressions(world: World, day: int) -> Rows:
    """A day's impressions with the features that the factorisation reads."""
    parts = []
    for block in request_blocks(world, day):
        user, place = np.repeat(block.users, LIST_LENGTH), np.tile(np.arange(1, LIST_LENGTH + 1), len(block.users))
        part = rows(world, user, block.items.ravel(), place, day)
        part.keys["at_s"] = pd.Series(day * 86_400 + np.repeat(block.at_ms, LIST_LENGTH) / 1000)
        parts.append(Rows(part.sparse, part.dense, block.is_clicked.ravel().astype(np.float32), part.keys))
    return concatenate(*parts)


def rows(world: World, user: NDArray[np.int64], item: NDArray[np.int64], position: NDArray[np.int64], day: int) -> Rows:
    """Feature rows of impressions without labels; all (rows,)."""
    sparse, dense = np.zeros((len(user), len(SPARSE)), np.int64), np.zeros((len(user), len(DENSE)), np.float32)
    ids = np.array([0, *map(position_id, range(1, LIST_LENGTH + 1))])
    values = {"category": world.item_topic[item] + 1, "position": ids[position], "device": world.user_device[user] + 1}
    values |= {"gender": world.user_gender[user] + 1, "age_group": world.user_age[user] + 1}
    for name, column in values.items():
        sparse[:, SPARSE_NAMES.index(name)] = column
    dense[:, AGE] = np.log1p(np.maximum(day - world.item_birth[item], 0))
    user_ids, item_ids = np.char.add("u", user.astype(str)), np.char.add("i", item.astype(str))
    keys = {"user_id": pd.Series(user_ids), "item_id": pd.Series(item_ids)}
    return Rows(sparse, dense, np.zeros(len(user), np.float32), keys)


if __name__ == "__main__":
    main()
