"""Every channel's lists against scores of all items that NumPy computes densely, on small random histories."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from data.factors import factors_of
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from conf import UserError
from recsys.recall.channels import CHANNELS, Scorer, als, channel_named, ease, fit_channel, item_cf, two_tower
from recsys.recall.channels.new_items import NewItemsScorer
from recsys.recall.channels.products import top_products
from recsys.recall.history import SECONDS_PER_DAY, HiddenItems, History, UserBatch
from recsys.recall.positives import Positives
from recsys.recall.vectors import build_vectors, exact_search
from recsys.settings import RecallSettings

START, NOW = 1_774_000_000.0, 1_774_000_000.0 + 20 * SECONDS_PER_DAY
SETTINGS = RecallSettings(
    als_rank=4, als_iterations=3, tower_dim=4, tower_epochs=1, ease_l2=2.0, user_ease_l2=3.0, shrink=0.5,
    user_cf_neighbours=5,
)  # fmt: skip
NUM_USERS, NUM_ITEMS = 25, 14


def positives_of(matrix: NDArray[np.bool_], seed: int = 0) -> Positives:
    users, items = np.nonzero(matrix)
    at = START + np.random.default_rng(seed).integers(0, 20, len(users)) * SECONDS_PER_DAY  # many at the same moment
    ids = (
        np.array([f"{name}{n:02}" for n in range(size)], object) for name, size in zip("ui", matrix.shape, strict=True)
    )
    split = np.full(len(users), "train", object)
    return Positives(*ids, users.astype(np.int32), items.astype(np.int32), at, split)


def items_of(number: int) -> pd.DataFrame:
    """Items of three topics; some without topic, title, author or date, some new."""
    numbers = np.arange(number)
    published = pd.Series(pd.to_datetime(NOW - (numbers % 10) * SECONDS_PER_DAY, unit="s"))
    return pd.DataFrame(
        {
            "item_id": [f"i{n:02}" for n in numbers],
            "title": [None if n % 7 == 3 else f"word{n % 4} word{n % 3}" for n in numbers],
            "category": [None if n % 6 == 5 else f"topic{n % 3}" for n in numbers],
            "author": [np.nan if n % 5 == 4 else f"a{n % 2}" for n in numbers],
            "published_at": published.where(numbers % 4 != 1),
        }
    )


def history_of(matrix: NDArray[np.bool_], settings: RecallSettings = SETTINGS) -> History:
    users, items = ([f"{name}{n:02}" for n in range(size)] for name, size in zip("ui", matrix.shape, strict=True))
    factors = factors_of(users, items)
    return History(None, items_of(len(items)), NOW, settings, collected=positives_of(matrix), factors=factors)


def choices(seed: int) -> NDArray[np.bool_]:
    """User 0 chose everything, user 1 nothing, and nobody the last item but user 0; item 3 has a twin of the same users."""
    matrix = np.random.default_rng(seed).random((NUM_USERS, NUM_ITEMS)) < 0.3
    matrix[0], matrix[1], matrix[2:, -1] = True, False, False
    matrix[:, 4] = matrix[:, 3]
    return matrix


def batch_of(history: History, users: list[str]) -> UserBatch:
    assert history.all_users is not None
    return history.all_users.take(pd.Index(history.all_users.users).get_indexer(users), np.array(users, object))


USERS = [f"u{n:02}" for n in (2, 0, 1, 5, 24)]  # the second chose everything, the third is cold

Dense = NDArray[np.float64]


def dense_ease(history: History, chosen: Dense, recent: Dense, rows: Dense) -> Dense:
    lengths = np.maximum(chosen.sum(1), 1)
    counts = chosen.sum(0)
    used = counts > 0
    gram = ((chosen * lengths[:, None] ** -0.5).T @ chosen)[np.ix_(used, used)]
    item_scale = (counts[used] / counts[used].mean()) ** -0.25
    gram = gram * counts[used].sum() / np.trace(gram) * np.outer(item_scale, item_scale) + 2.0 * np.eye(used.sum())
    inverse = np.linalg.inv(gram)
    weights = (np.eye(used.sum()) - inverse / np.diag(inverse)) * item_scale[:, None] / item_scale
    scores = np.full(rows.shape, -np.inf)
    scores[:, used] = (rows[:, used] @ weights) * np.maximum(rows.sum(1), 1)[:, None] ** -0.25
    return scores


def dense_user_ease(history: History, chosen: Dense, recent: Dense, rows: Dense) -> Dense:
    scores = np.full(rows.shape, -np.inf)
    for row, mine in enumerate(rows):
        is_other = np.ones(len(chosen), bool)
        is_other[np.flatnonzero((chosen == mine).all(1))[:1]] = False  # one's own row
        others = chosen[is_other]
        weights = np.linalg.solve(others @ others.T + 3.0 * np.eye(len(others)), others @ mine)
        scores[row] = weights @ others
    scores[:, chosen.sum(0) == 0] = -np.inf
    return scores


def dense_item_cf(history: History, chosen: Dense, recent: Dense, rows: Dense) -> Dense:
    together = (chosen / np.log1p(np.maximum(chosen.sum(1), 1))[:, None]).T @ chosen
    counts = chosen.sum(0)
    similarity = together / (np.sqrt(np.outer(counts, counts)) + 0.5)
    np.fill_diagonal(similarity, 0)
    return recent @ similarity


def dense_user_cf(history: History, chosen: Dense, recent: Dense, rows: Dense) -> Dense:
    assert history.all_users is not None
    common = (rows / np.log(2 + chosen.sum(0))) @ chosen.T
    similarity = common / (np.sqrt(np.outer(rows.sum(1), chosen.sum(1))) + 1)
    for row, mine in enumerate(rows):
        similarity[row, np.flatnonzero((chosen == mine).all(1))[:1]] = 0
    least = np.sort(similarity, axis=1)[:, [-5]]
    return (
        np.where(similarity >= np.maximum(least, 1e-12) * (1 - 1e-6), similarity, 0)
        @ history.all_users.recent.toarray()
    )


def dense_tags(history: History, chosen: Dense, recent: Dense, rows: Dense) -> Dense:
    codes, names = pd.factorize(history.items["category"], sort=True)
    topics = codes[:, None] == np.arange(len(names))
    by_topic = history.heat @ topics
    share = by_topic / by_topic.sum()
    heat = np.where(codes >= 0, np.sqrt(history.heat / np.maximum(topics @ by_topic, 1e-12)), 0)
    counts = recent @ topics
    interest = (counts + 5.0 * share) / (counts.sum(1, keepdims=True) + 5.0) / np.maximum(share, 1e-9)
    return np.where(heat > 0, interest @ topics.T * heat, -np.inf)


def dense_content(history: History, chosen: Dense, recent: Dense, rows: Dense) -> Dense:
    frame = history.items
    texts = frame["title"].fillna("")
    for name in ("category", "author"):
        texts = texts + (" " + name + "=" + frame[name].astype(str)).where(frame[name].notna(), " ")
    words = TfidfVectorizer(token_pattern=r"(?u)[\w=&-]+").fit_transform(texts).toarray()
    scores = recent @ words @ words.T
    return np.where(scores > 0, scores, -np.inf)


def dense_hot(history: History, chosen: Dense, recent: Dense, rows: Dense) -> Dense:
    return np.repeat(np.where(history.heat > 0, history.heat, -np.inf)[None], len(rows), axis=0)


DENSE: dict[str, Callable[[History, Dense, Dense, Dense], Dense]] = {
    "ease": dense_ease, "user_ease": dense_user_ease, "item_cf": dense_item_cf, "user_cf": dense_user_cf,
    "tags": dense_tags, "content": dense_content, "hot": dense_hot,
}  # fmt: skip
ZEROS_ARE_LISTED = ("ease", "user_ease", "hot", "tags", "als", "two_tower")


def expected_lists(scores: Dense, chosen: Dense, k: int, zeros: bool) -> tuple[NDArray[np.int32], Dense]:
    """Best first, ties by item; and the scores without those of chosen items."""
    scores = np.where(chosen > 0, -np.inf, scores)
    items = np.full((len(scores), k), -1, np.int32)
    for row, values in enumerate(np.asarray(scores, np.float32)):
        order = np.argsort(-values, kind="stable")
        best = order[np.isfinite(values[order]) & ((values[order] > 0) | zeros)][:k]
        items[row, : len(best)] = best
    return items, scores


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("k", [3, NUM_ITEMS + 5])
@pytest.mark.parametrize("name", DENSE)
def test_lists_are_those_of_a_dense_matrix_of_scores(name: str, k: int, seed: int) -> None:
    history = history_of(choices(seed))
    assert history.all_users is not None
    batch = batch_of(history, USERS)
    top = fit_channel(name, history, SETTINGS).top_items(batch, k)
    rows = batch.chosen.toarray().astype(float)
    dense = DENSE[name](history, history.all_users.chosen.toarray().astype(float), batch.recent.toarray(), rows)
    if name != "hot":
        dense[batch.is_cold] = -np.inf
    items, scores = expected_lists(dense, rows, k, name in ZEROS_ARE_LISTED)
    pairs = np.tile(np.arange(NUM_ITEMS, dtype=np.int32), (len(USERS), 1))
    is_open = rows == 0
    np.testing.assert_allclose(top.score_pairs(pairs)[is_open], scores[is_open], rtol=2e-4, atol=1e-6)
    # Equal but for items whose scores differ by rounding alone.
    listed = np.where(items >= 0, np.take_along_axis(scores, np.maximum(items, 0), 1), -np.inf)
    np.testing.assert_allclose(top.scores, listed, rtol=2e-4, atol=1e-6)
    assert (np.sort(top.items, 1) == np.sort(items, 1)).mean() > 0.97
    assert (top.items[1] == -1).all()  # who chose everything gets nothing
    for row, values in enumerate(scores):
        finite = values[np.isfinite(values)]
        assert top.is_scored[row] == (len(finite) > 0)
        if len(finite):
            assert top.mean[row] == pytest.approx(finite.mean(), rel=1e-4, abs=1e-7)
            assert top.deviation[row] == pytest.approx(finite.std(), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", DENSE)
def test_lists_leave_out_what_is_hidden_and_nothing_else(name: str, seed: int) -> None:
    """Items 0 and 5 are hidden from everybody, chosen or not, and clicked ones may come again."""
    history = history_of(choices(seed))
    assert history.all_users is not None
    rows = np.zeros((len(USERS), NUM_ITEMS))
    rows[:, [0, 5]] = 1
    batch = replace(batch_of(history, USERS), hidden=sparse.csr_matrix(rows.astype(np.float32)))
    top = fit_channel(name, history, SETTINGS).top_items(batch, NUM_ITEMS)
    chosen = history.all_users.chosen.toarray().astype(float)
    dense = DENSE[name](history, chosen, batch.recent.toarray(), batch.chosen.toarray().astype(float))
    if name != "hot":
        dense[batch.is_cold] = -np.inf
    items, scores = expected_lists(dense, rows, NUM_ITEMS, name in ZEROS_ARE_LISTED)
    assert np.isin(items[0], batch.chosen[0].indices).any()
    assert (np.sort(top.items, 1) == np.sort(items, 1)).mean() > 0.97
    for row, values in enumerate(scores):
        finite = values[np.isfinite(values)]
        if len(finite):
            assert top.mean[row] == pytest.approx(finite.mean(), rel=1e-4, abs=1e-7)
            assert top.deviation[row] == pytest.approx(finite.std(), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel_may_list_what_was_chosen(name: str) -> None:
    """A hidden item is in no list, and where nothing else is hidden, who chose everything has a list, too."""
    history = history_of(choices(3))
    rows = np.zeros((len(USERS), NUM_ITEMS), np.float32)
    rows[:, 1] = 1
    batch = replace(batch_of(history, USERS), hidden=sparse.csr_matrix(rows))
    top = fit_channel(name, history, SETTINGS).top_items(batch, NUM_ITEMS)
    assert (top.items[1] >= 0).any()
    assert not (top.items == 1).any()


def test_hidden_items_are_those_of_their_users() -> None:
    pairs = pd.DataFrame({"user_id": ["b", "a", "b", "a"], "item_id": ["i0", "i2", "i1", "gone"]})
    hidden = HiddenItems.of(pairs, pd.DataFrame({"item_id": ["i0", "i1", "i2"]}))
    rows = hidden.take(np.array(["a", "nobody", "b"], object)).toarray()
    assert rows.tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 0]]
    nothing = HiddenItems.of(pairs[:0], pd.DataFrame({"item_id": ["i0"]}))
    assert nothing.take(np.array(["a", "b"], object)).toarray().tolist() == [[0], [0]]


@pytest.mark.parametrize("name", CHANNELS)
def test_what_every_channel_promises(name: str) -> None:
    """R2: lists of items that a user lacks, best first, the same again and in any company; scores agree with pairs."""
    history = history_of(choices(3))
    scorer = fit_channel(name, history, SETTINGS)
    assert_promises(scorer, history, serves_cold=name in ("hot", "new", "mf"))
    again = fit_channel(name, history, SETTINGS).top_items(batch_of(history, USERS), 5)
    np.testing.assert_array_equal(again.items, scorer.top_items(batch_of(history, USERS), 5).items)


def assert_promises(scorer: Scorer, history: History, *, serves_cold: bool) -> None:
    batch = batch_of(history, USERS)
    top = scorer.top_items(batch, 5)
    assert top.items.shape == top.scores.shape == (5, 5)
    assert (top.items[0] >= 0).any()
    is_listed = top.items >= 0
    assert np.isfinite(top.scores[is_listed]).all()
    assert (top.scores[~is_listed] == -np.inf).all()
    scores = np.where(is_listed, top.scores, -1e9)
    assert (np.diff(scores, axis=1) <= 0).all()
    for row in range(5):
        mine = batch.chosen.indices[batch.chosen.indptr[row] : batch.chosen.indptr[row + 1]]
        listed = top.items[row][is_listed[row]]
        assert not np.isin(listed, mine).any()
        assert len(np.unique(listed)) == len(listed)
    np.testing.assert_allclose(top.score_pairs(top.items)[is_listed], top.scores[is_listed], rtol=1e-5, atol=1e-6)
    assert (top.items[2] >= 0).any() == serves_cold
    assert top.is_scored[2] == serves_cold
    for row, user in enumerate(USERS):
        alone = scorer.top_items(batch_of(history, [user]), 5)
        np.testing.assert_array_equal(alone.items[0], top.items[row])
        np.testing.assert_array_equal(alone.scores[0], top.scores[row])
    assert scorer.top_items(batch_of(history, []), 5).items.shape == (0, 5)


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("shape", [(3, 0), (0, 4)], ids=["no items", "no users"])
def test_no_items_or_no_users_are_empty_lists(name: str, shape: tuple[int, int]) -> None:
    history = history_of(np.zeros(shape, bool))
    batch = UserBatch(np.array(["u"], object), *[sparse.csr_matrix((1, shape[1]), dtype=np.float32) for _ in range(2)])
    top = fit_channel(name, history, SETTINGS).top_items(batch, 3)
    expected = 3 if name in ("new", "mf") and shape[1] else 0  # they need no history
    assert (top.items >= 0).sum() == expected


CHECKERBOARD = np.array([[u % 2 == i % 2 and i != u for i in range(10)] for u in range(10)])


@pytest.mark.parametrize("name", ["ease", "user_ease", "item_cf", "user_cf", "als", "tags", "content", "two_tower"])
def test_every_personal_channel_recommends_the_missing_square(name: str) -> None:
    """Even users chose even items, odd users odd ones; each lacks one of theirs."""
    settings = SETTINGS.model_copy(update={"tower_epochs": 30, "tower_batch": 16})
    positives = positives_of(CHECKERBOARD)
    numbers = range(10)
    items = pd.DataFrame({"item_id": [f"i{n:02}" for n in numbers], "title": [f"word{n % 2}" for n in numbers]})
    items = items.assign(category=[f"topic{n % 2}" for n in numbers], author="a", published_at=pd.Timestamp(2026, 2, 1))
    history = History(None, items, NOW, settings, collected=positives)
    users = [f"u{u:02}" for u in range(10)]
    best = fit_channel(name, history, settings).top_items(batch_of(history, users), 1).items[:, 0]
    share = np.mean([item % 2 == u % 2 for u, item in enumerate(best)])
    assert share == 1 if name != "two_tower" else share >= 0.9


def test_new_items_reach_people_who_differ() -> None:
    """Item 0 is not new, item 5 hardly."""
    log_weight = np.log(np.array([1e-300, 1, 1, 1, 1, 0.01]))
    log_weight[0] = -np.inf
    new = NewItemsScorer(log_weight, np.arange(1, 6, dtype=np.int32), np.arange(6, dtype=np.uint64) * 7919, 1)
    empty = sparse.csr_matrix((200, 6), dtype=np.float32)
    first = new.top_items(UserBatch(np.array([f"u{i}" for i in range(200)], object), empty, empty), 2).items[:, 0]
    counts = np.bincount(first, minlength=6)
    assert counts[0] == 0
    assert counts[1:5].min() > 20
    assert counts[5] < 10


def test_lists_of_new_items_are_the_best_of_all_scores() -> None:
    """Bounds save logarithms and change nothing; the moments to expect are about those of many items."""
    log_weight = -np.random.default_rng(7).random(2000)
    new = NewItemsScorer(log_weight, np.arange(2000, dtype=np.int32), np.arange(2000, dtype=np.uint64) * 7919, 1)
    chosen = sparse.csr_matrix(np.random.default_rng(8).random((3, 2000)) < 0.1, dtype=np.float32)
    top = new.top_items(UserBatch(np.array(["a", "b", "c"], object), chosen, chosen), 50)
    pairs = np.tile(np.arange(2000, dtype=np.int32), (3, 1))
    scores = np.asarray(top.score_pairs(pairs), float)
    np.testing.assert_array_equal(top.items, expected_lists(scores, chosen.toarray(), 50, zeros=True)[0])
    for row, mine in enumerate(np.where(chosen.toarray() > 0, np.nan, scores)):
        assert top.mean[row] == pytest.approx(np.nanmean(mine), abs=0.15)
        assert top.deviation[row] == pytest.approx(np.nanstd(mine), abs=0.15)


@pytest.mark.parametrize("kind", ["cosine", "jaccard"])
def test_item_similarities_are_those_of_matrices(kind: str) -> None:
    matrix = choices(1).astype(float)
    settings = RecallSettings(neighbours=100, shrink=2.0, similarity=kind)
    together = (matrix / np.log1p(np.maximum(matrix.sum(1), 1))[:, None]).T @ matrix
    counts = matrix.sum(0)
    damped = together.diagonal()  # the union of Jaccard is weighted as the intersection is
    norm = np.sqrt(np.outer(counts, counts)) if kind == "cosine" else damped[:, None] + damped[None] - together
    expected = together / (norm + settings.shrink)
    np.fill_diagonal(expected, 0)
    chosen = sparse.csr_matrix(matrix, dtype=np.float32)
    np.testing.assert_allclose(item_cf.similar_items(chosen, settings).toarray(), expected, rtol=1e-6)
    nearest = item_cf.similar_items(chosen, settings.model_copy(update={"neighbours": 2}))
    assert np.diff(nearest.indptr).max() == 2
    for row in range(NUM_ITEMS):
        best = np.argsort(-expected[row], kind="stable")[:2]
        assert set(nearest[row].indices) == set(best[expected[row, best] > 0])


def test_ease_agrees_with_the_closed_form() -> None:
    """Steck 2019, equation 8: B = I − P · diag(1 / diag(P))."""
    matrix = choices(1).astype(float)
    settings = RecallSettings(ease_l2=3.0, ease_user_power=0.0, ease_item_power=0.0)
    inverse = np.linalg.inv(matrix.T @ matrix + 3.0 * np.eye(NUM_ITEMS))
    weights = np.eye(NUM_ITEMS) - inverse / np.diag(inverse)[None]
    np.testing.assert_allclose(ease.fit(history_of(matrix > 0, settings), settings).model.weights, weights, atol=1e-5)


def test_the_linear_models_leave_out_unpopular_items_beyond_their_limit(caplog: pytest.LogCaptureFixture) -> None:
    matrix = choices(1)
    settings = SETTINGS.model_copy(update={"ease_items": 5})
    history = history_of(matrix, settings)
    popular = np.sort(np.argsort(-matrix.sum(0), kind="stable")[:5])
    with caplog.at_level("INFO"):
        for name in ("ease", "user_ease"):
            items = fit_channel(name, history, settings).top_items(batch_of(history, USERS), 10).items
            assert set(np.unique(items)) - {-1} <= set(popular)
            assert f"{name}: " in caplog.text


def test_als_gives_a_user_the_best_factor_for_the_items() -> None:
    """A user's factor minimises Σ c (p − u·y)² + λ (n + items / α) |u|²: no direction is better."""
    history = history_of(choices(1))
    scorer = als.fit(history, SETTINGS)
    y, alpha = scorer.items.vectors.astype(float), scorer.alpha
    chosen = batch_of(history, USERS).chosen
    for p, user in zip(chosen.toarray(), als.solve_users(scorer.items.vectors, chosen, alpha, scorer.l2), strict=True):
        ridge = scorer.l2 * (p.sum() + len(y) / alpha)
        gradient = -2 * ((1 + alpha * p) * (p - y @ user)) @ y + 2 * ridge * user
        assert np.abs(gradient).max() < 1e-3 * max(1.0, float(np.abs(ridge * user).max()))


def test_als_factors_come_near_the_exact_alternation() -> None:
    """The objective of Hu et al., with λ scaled by counts, is at most a little above that of exact solutions."""
    matrix = np.random.default_rng(5).random((60, 30)) < 0.2
    settings = RecallSettings(als_rank=5, als_iterations=8)
    x = matrix.astype(float)

    def exact(rows: Dense, fixed: Dense) -> Dense:
        solved = np.zeros((len(rows), 5))
        for row, p in enumerate(rows):
            weights = fixed.T @ np.diag(1 + 10.0 * p) @ fixed + 0.5 * p.sum() * np.eye(5)
            solved[row] = np.linalg.solve(weights + 1e-9 * np.eye(5), fixed.T @ (11.0 * p))
        return solved

    def loss(users: Dense, items: Dense) -> float:
        error = ((1 + 10.0 * x) * (x - users @ items.T) ** 2).sum()
        return float(error + 0.5 * (x.sum(1) @ (users**2).sum(1) + x.sum(0) @ (items**2).sum(1)))

    items = np.random.default_rng(1).standard_normal((30, 5)) / np.sqrt(5)
    for _ in range(8):
        users = exact(x, items)
        items = exact(x.T, users)
    ours = als.fit_factors(sparse.csr_matrix(x, dtype=np.float32), settings).astype(float)
    assert loss(exact(x, ours), ours) < 1.03 * loss(exact(x, items), items)


def test_many_items_are_searched_by_inverted_lists_with_nearly_all_of_the_nearest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((20, 8))
    vectors = (centres[rng.integers(0, 20, 3000)] + 0.5 * rng.standard_normal((3000, 8))).astype(np.float32)
    queries = (centres[rng.integers(0, 20, 200)] + 0.5 * rng.standard_normal((200, 8))).astype(np.float32)
    chosen = sparse.csr_matrix(rng.random((200, 3000)) < 0.01, dtype=np.float32)
    batch = UserBatch(np.array([f"u{n}" for n in range(200)], object), chosen, chosen)
    with caplog.at_level("INFO"):
        index = build_vectors("als", vectors, np.arange(3000), queries, 1000)
    assert "als: 3000 items are more than recall.exact_items=1000" in caplog.text
    items = index.top(queries, batch, 50).items
    exact = exact_search(vectors, queries, chosen, 50)
    assert np.mean([np.isin(*pair).mean() for pair in zip(exact, items, strict=True)]) > 0.97
    assert not chosen[np.arange(200)[:, None], items].toarray().any()


@dataclass(frozen=True)
class SameAuthor:
    """A channel of one's own, as docs/extending.md has it: items by the authors that the user chose."""

    similar: sparse.csr_matrix

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        return batch.mask_cold((batch.recent @ self.similar).toarray())


def same_author(history: History, settings: RecallSettings) -> SameAuthor:
    author = history.items["author"].factorize()[0]
    same = sparse.csr_matrix(author[:, None] == author[None])
    return SameAuthor(same.multiply(author[:, None] >= 0).tocsr())


def test_a_channel_of_ones_own_may_score_every_item(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__}:same_author"
    assert channel_named(name) is same_author
    history = history_of(choices(3))
    monkeypatch.setattr("recsys.recall.channels.dense.MAX_CELLS", 2 * NUM_ITEMS)  # two users at a time
    scorer = fit_channel(name, history, SETTINGS)
    assert_promises(scorer, history, serves_cold=False)
    batch = batch_of(history, USERS)
    dense, rows = same_author(history, SETTINGS).score(batch), batch.chosen.toarray()
    np.testing.assert_array_equal(scorer.top_items(batch, 6).items, expected_lists(dense, rows, 6, zeros=True)[0])
    # Or list them itself.
    lists = top_products(batch.recent, scorer.scorer.similar, batch, 6, zeros_count=False)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(lists.items, expected_lists(dense, rows, 6, zeros=False)[0])
    for wrong in ("nothing.here:fit", f"{__name__}:nothing", "unknown"):
        with pytest.raises(UserError, match=r"recall\.quota"):
            channel_named(wrong)


def test_gradients_of_the_towers_are_those_of_finite_differences() -> None:
    """Of the mean cross-entropy over cosines, an item that is in the batch twice being no negative of itself."""
    rng = np.random.default_rng(6)
    hidden, summed = rng.standard_normal((2, 6, 3))
    targets, log_share = np.array([0, 1, 2, 1, 3, 4]), np.log(rng.random(5))
    summed[3] = summed[1]

    def loss(hidden: Dense, summed: Dense) -> float:
        users, items = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (hidden, summed))
        logits = users @ items.T / 0.5 - log_share[targets]
        logits[1, 3] = logits[3, 1] = -np.inf
        return float(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)))

    gradients = two_tower._gradients(hidden, summed, targets, log_share, 0.5)  # type: ignore[arg-type]
    for which, gradient in enumerate(gradients):
        for cell in np.ndindex(6, 3):
            step = np.zeros((2, 6, 3))
            step[(which, *cell)] = 1e-5
            difference = loss(hidden + step[0], summed + step[1]) - loss(hidden - step[0], summed - step[1])
            assert gradient[cell] == pytest.approx(difference / 2e-5, rel=1e-3, abs=1e-6)


def test_a_channel_that_takes_some_users_only_says_so(caplog: pytest.LogCaptureFixture) -> None:
    settings = SETTINGS.model_copy(
        update={"user_cf_users": 4, "user_ease_users": 5, "tower_users": 6, "tower_pairs": 8}
    )
    history = history_of(choices(1), settings)
    with caplog.at_level("INFO"):
        others = fit_channel("user_cf", history, settings).others  # type: ignore[attr-defined]
        fit_channel("user_ease", history, settings)
        fit_channel("two_tower", history, settings)
    assert len(others.users) == 4
    assert "two_tower: 8 of " in caplog.text
    for limit, name in ((4, "user_cf"), (5, "user_ease"), (6, "two_tower")):
        assert f"{name} (recall." in caplog.text
        assert f"of 24 users, the {limit} who were active last" in caplog.text
