"""Seconds of each recall channel, fit and lists of all users, beside implicit, a NumPy EASE and FAISS on one matrix.

python -m benchmarks.recall             # 20,000 users × 1,700 items
python -m benchmarks.recall --scale 5   # 100,000 × 50,000; --scale 15: 300,000 × 200,000

implicit comes on its own (`pip install implicit`): it is no dependency. Its models have our parameters; ours know when
an item was chosen, and list what a user lacks, as its `recommend` does.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.harness import best_seconds, report, scale_option
from etl.session import run_concurrently
from recsys.recall.channels import Scorer, fit_channel
from recsys.recall.history import SECONDS_PER_DAY, History
from recsys.recall.lists import num_threads
from recsys.recall.merge import ChannelWeights
from recsys.recall.positives import Positives
from recsys.recall.propose import BATCH_USERS, RecallPlan, propose_on_driver
from recsys.recall.proposer import MF
from recsys.settings import RecallSettings

SIZES = {1: (20_000, 1_700), 5: (100_000, 50_000), 15: (300_000, 200_000)}  # scale -> users, items
ITEMS_PER_USER = 30
LENGTH = 60  # of each list: the largest quota
TOPICS, AUTHORS = 50, 500
SAMPLE = 1_000  # users that the indexes' recall is measured on


def main() -> None:
    scale = scale_option(__doc__)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Without the factorisation, which `recsys mf` trains.
    settings = RecallSettings(quota={name: quota for name, quota in RecallSettings().quota.items() if name != MF})
    num_users, num_items = SIZES.get(round(scale), (int(20_000 * scale), int(1_700 * scale)))
    history = make_history(num_users, num_items, settings)
    assert history.all_users is not None
    chosen = history.all_users.chosen
    warm_up(settings)
    repeats = 3 if scale <= 1 else 1
    scorers, seconds = channel_seconds(history, settings, repeats)
    seconds["stage"] = best_seconds(partial(propose_all, history, scorers, settings), repeats)
    seconds |= peer_seconds(chosen, settings, repeats)
    figures = {
        "ratio_als": seconds["als"] / seconds["implicit_als"],
        "ratio_item_cf": seconds["item_cf"] / min(seconds["implicit_cosine"], seconds["implicit_bm25"]),
        "ratio_ease": seconds["ease"] / seconds["numpy_ease"],
    }
    figures["ratio_stage"] = seconds["stage"] / sum(seconds[name] for name in scorers)
    figures |= index_recalls(history, scorers)
    rates = {name: num_users / value for name, value in seconds.items()}
    title = f"Recall, {num_users:,} users × {num_items:,} items, {chosen.nnz:,} positives, {num_threads()} cores"
    report(title, rates, "users/s", {**figures, **{f"seconds_{name}": value for name, value in seconds.items()}})


def make_history(num_users: int, num_items: int, settings: RecallSettings) -> History:
    """Choices by users with three topics each, of items whose popularity falls by Zipf's law; over 30 days."""
    rng = np.random.default_rng(0)
    topic = rng.integers(0, TOPICS, num_items)
    lengths = np.minimum(rng.geometric(1 / ITEMS_PER_USER, num_users), 10 * ITEMS_PER_USER)
    users = np.repeat(np.arange(num_users, dtype=np.int32), lengths)
    tastes = rng.integers(0, TOPICS, (num_users, 3))
    topic_of_row = tastes[users, rng.integers(0, 3, len(users))]
    popularity = 1 / (np.arange(num_items) + 10.0) ** 0.8
    # By topic: positions in the items of the topic, sampled by popularity.
    items = np.empty(len(users), np.int32)
    for number in range(TOPICS):
        rows, members = np.flatnonzero(topic_of_row == number), np.flatnonzero(topic == number)
        share = popularity[members] / popularity[members].sum()
        items[rows] = rng.choice(members, len(rows), p=share)
    at = 30 * SECONDS_PER_DAY * rng.random(len(users))
    user_ids = np.array([f"u{number:07}" for number in range(num_users)], object)
    item_ids = np.array([f"i{number:07}" for number in range(num_items)], object)
    positives = Positives(user_ids, item_ids, users, items, at, np.full(len(users), "train", object))
    frame = pd.DataFrame(
        {
            "item_id": item_ids,
            "title": [f"w{a} w{b} w{c}" for a, b, c in rng.integers(0, 5_000, (num_items, 3))],
            "category": [f"t{number}" for number in topic],
            "author": [f"a{number}" for number in rng.integers(0, AUTHORS, num_items)],
            # A tenth of them is new.
            "published_at": pd.to_datetime(SECONDS_PER_DAY * rng.integers(-40, 30, num_items), unit="s"),
        }
    )
    return History(None, frame, 30 * SECONDS_PER_DAY, settings, collected=positives)


def warm_up(settings: RecallSettings) -> None:
    """Load the compiled loops: a process does it once."""
    history = make_history(200, 300, settings)
    propose_all(history, channel_seconds(history, settings, 1)[0], settings)


def channel_seconds(
    history: History, settings: RecallSettings, repeats: int
) -> tuple[dict[str, Scorer], dict[str, float]]:
    """Each channel's scorer, and its seconds to fit and to list the best items of all users, fastest of `repeats`."""
    scorers: dict[str, Scorer] = {}
    seconds: dict[str, float] = {}
    for name in settings.quota:
        fit = partial(fit_channel, name, history, settings)
        # As in the stage; a single solve for EASE may use all cores, as NumPy's does.
        with threadpool_limits(None if name in ("ease", "user_ease") else 1, "blas"):
            fitted: list[Scorer] = []
            fit_seconds = best_seconds(partial(_append_result, fitted, fit), repeats)
            scorers[name] = fitted[-1]
            list_seconds = best_seconds(partial(list_all, history, scorers[name]), repeats)
        seconds[name] = fit_seconds + list_seconds
        print(f"{name:<10} fit {fit_seconds:7.2f} s, lists {list_seconds:7.2f} s", flush=True)
    return scorers, seconds


def _append_result(results: list[Scorer], work: Callable[[], Scorer]) -> None:
    results.append(work())


def list_all(history: History, scorer: Scorer) -> None:
    """Lists of all users from one channel, in the stage's batches and threads."""
    assert history.all_users is not None
    users = history.all_users

    def list_batch(start: int) -> None:
        rows = np.arange(start, min(start + BATCH_USERS, len(users.users)))
        scorer.top_items(users.take(rows, users.users[rows]), LENGTH)

    with ThreadPoolExecutor(num_threads()) as pool:
        list(pool.map(list_batch, range(0, len(users.users), BATCH_USERS)))


def propose_all(history: History, scorers: dict[str, Scorer], settings: RecallSettings) -> None:
    """The fits of all channels, side by side as in the stage, and all users' merged candidates as Arrow batches."""
    assert history.all_users is not None
    with threadpool_limits(1, "blas"):
        run_concurrently(*[partial(fit_channel, name, history, settings) for name in scorers])
    weights = ChannelWeights(np.full(len(scorers), 0.1), list(scorers).index("hot"))
    ids = history.items["item_id"].to_numpy(object)
    half_life = settings.history_half_life_days
    plan = RecallPlan(scorers, settings.quota, weights, ids, settings.keep, LENGTH, half_life)
    for _ in propose_on_driver(history.all_users, history.all_users.users, plan):
        pass


def peer_seconds(chosen: sparse.csr_matrix, settings: RecallSettings, repeats: int) -> dict[str, float]:
    """The peers on the same matrix: fit and lists of all users; the fastest of `repeats` runs, as ours."""
    from implicit.als import AlternatingLeastSquares
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender

    models: dict[str, Callable[[], Any]] = {
        "implicit_als": lambda: AlternatingLeastSquares(
            factors=settings.als_rank, iterations=settings.als_iterations, regularization=settings.als_l2,
            alpha=settings.als_alpha, random_state=settings.seed,
        ),
        "implicit_cosine": lambda: CosineRecommender(K=settings.neighbours),
        "implicit_bm25": lambda: BM25Recommender(K=settings.neighbours),
    }  # fmt: skip
    everybody = np.arange(chosen.shape[0])

    def fit_and_list(make: Callable[[], Any]) -> None:
        model = make()
        model.fit(chosen, show_progress=False)
        model.recommend(everybody, chosen, N=LENGTH)

    peers = {name: partial(fit_and_list, make) for name, make in models.items()}
    peers["numpy_ease"] = partial(numpy_ease, chosen, settings)
    seconds = {}
    for name, work in peers.items():
        # implicit has threads of its own, and asks that BLAS has none.
        with threadpool_limits(1 if name.startswith("implicit") else None, "blas"):
            seconds[name] = best_seconds(work, repeats)
        print(f"{name:<16} {seconds[name]:6.2f} s", flush=True)
    return seconds


def numpy_ease(chosen: sparse.csr_matrix, settings: RecallSettings) -> None:
    """EASE as its paper has it, on as many items as our channel, and the best items by argpartition."""
    popular = np.sort(np.argsort(-np.diff(chosen.tocsc().indptr), kind="stable")[: settings.ease_items])
    x = chosen[:, popular]
    gram = (x.T @ x).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += settings.ease_l2
    inverse = np.linalg.inv(gram)
    weights = (inverse / -np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0)
    for start in range(0, x.shape[0], BATCH_USERS):
        rows = x[start : start + BATCH_USERS]
        scores = rows @ weights  # (batch, popular)
        scores[rows.nonzero()] = -np.inf
        best = np.argpartition(-scores, LENGTH, axis=1)[:, :LENGTH]
        np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)


def index_recalls(history: History, scorers: dict[str, Scorer]) -> dict[str, float]:
    """Seconds of FAISS's exact search beside the towers' lists, and the share of its items that our indexes have."""
    import faiss

    assert history.all_users is not None
    rows = np.arange(0, len(history.all_users.users), max(1, len(history.all_users.users) // SAMPLE))
    batch = history.all_users.take(rows, history.all_users.users[rows])
    figures = {}
    for name in ("als", "two_tower"):
        index: Any = scorers[name].items  # type: ignore[attr-defined]
        users = user_vectors(scorers[name], batch)
        nothing = sparse.csr_matrix((len(rows), len(index.listed)), dtype=np.float32)
        vectors = np.ascontiguousarray(index.vectors[index.listed])
        started = time.perf_counter()
        exact = faiss.knn(users, vectors, LENGTH, metric=faiss.METRIC_INNER_PRODUCT)[1]
        searched = time.perf_counter()
        ours = index._search(users, nothing, LENGTH)
        figures[f"ratio_search_{name}"] = (time.perf_counter() - searched) / (searched - started)
        hits = [np.isin(mine, other).mean() for mine, other in zip(exact, ours, strict=True)]
        figures[f"index_recall_{name}"] = float(np.mean(hits))
    return figures


def user_vectors(scorer: Any, batch: Any) -> NDArray[np.float32]:
    """(users, dim) what the scorer searches by."""
    from recsys.recall.channels import als, two_tower

    if isinstance(scorer, als.AlsScorer):
        return als.solve_users(scorer.items.vectors, batch.chosen, scorer.alpha, scorer.l2)
    return two_tower.user_vectors(batch, scorer.inputs, scorer.layer)


if __name__ == "__main__":
    main()
