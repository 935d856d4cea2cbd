"""The Bayesian matrix factorisation, on clicks whose true probabilities are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.catalog import DENSE, SPARSE
from features.metrics.classification import auc, log_loss
from recsys.dataset import Rows, concatenate
from recsys.mf import kernels
from recsys.mf import train as mf
from recsys.mf.encode import AGE, SPARSE_NAMES, Encoder
from recsys.settings import MFSettings

TOPICS, USERS, ITEMS = 4, 120, 40
SETTINGS = MFSettings(factors=4)


def site(rows: int, seed: int, users: int = USERS) -> tuple[Rows, np.ndarray]:
    """Impressions of a site whose users like one topic each, and their true click probabilities."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, users, rows), rng.integers(0, ITEMS, rows)
    position = rng.integers(1, 11, rows)
    topic, favourite = item % TOPICS, user % TOPICS
    quality = np.random.default_rng(1).normal(0, 0.7, ITEMS)
    logit = -2.5 + 2.5 * (topic == favourite) + quality[item] - 0.2 * (position - 1)
    probability = 1 / (1 + np.exp(-logit))
    sparse = np.zeros((rows, len(SPARSE)), np.int64)
    for name, values in (("category", topic + 1), ("position", position), ("gender", favourite % 2 + 1)):
        sparse[:, SPARSE_NAMES.index(name)] = values
    keys = {"user_id": pd.Series([f"u{u}" for u in user]), "item_id": pd.Series([f"i{i}" for i in item])}
    label = (rng.random(rows) < probability).astype(np.float32)
    return Rows(sparse, np.zeros((rows, len(DENSE)), np.float32), label, keys), probability


def test_it_predicts_clicks_nearly_as_well_as_the_truth():
    rows, _ = site(12_000, seed=2)
    held_out, truth = site(6_000, seed=3)
    predicted = mf.train(rows, SETTINGS).predict(held_out)
    assert auc(held_out.label, predicted) > auc(held_out.label, truth) - 0.03
    rate = np.full(len(truth), rows.label.mean())
    without, with_truth = log_loss(held_out.label, rate), log_loss(held_out.label, truth)
    assert without - log_loss(held_out.label, predicted) > 0.75 * (without - with_truth)


def test_a_user_with_few_impressions_is_not_predicted_with_certainty():
    rows, _ = site(12_000, seed=2)
    few = pd.Series(["newcomer"] * 2)
    newcomer = Rows(rows.sparse[:2], rows.dense[:2], np.ones(2, np.float32), {**rows.keys, "user_id": few})
    newcomer = replace(
        newcomer, keys={name: values[:2].reset_index(drop=True) for name, values in newcomer.keys.items()}
    )
    ranker = mf.train(concatenate(rows, newcomer), SETTINGS)
    assert ranker.predict(newcomer).max() < 0.9  # who clicked everything they saw, which was two items


def test_unknown_users_and_items_get_what_their_columns_say():
    rows, _ = site(12_000, seed=2)
    ranker = mf.train(rows, SETTINGS)
    strangers = {"user_id": pd.Series(["nobody"] * 8), "item_id": pd.Series(["nothing"] * 8)}
    sparse = np.zeros((8, len(SPARSE)), np.int64)
    sparse[:, SPARSE_NAMES.index("gender")] = np.repeat([1, 2], 4)
    sparse[:, SPARSE_NAMES.index("category")] = np.tile([1, 2, 3, 4], 2)
    sparse[:, SPARSE_NAMES.index("position")] = 1
    predicted = ranker.predict(Rows(sparse, np.zeros((8, len(DENSE)), np.float32), np.zeros(8, np.float32), strangers))
    # Gender 1 likes topics 1 and 3 (favourites 0 and 2), gender 2 likes 2 and 4.
    by_gender = predicted.reshape(2, 4)
    assert by_gender[0, [0, 2]].min() > by_gender[0, [1, 3]].max()
    assert by_gender[1, [1, 3]].min() > by_gender[1, [0, 2]].max()


def test_the_place_in_the_list_is_removed():
    """Items that were only ever shown last are not worse for it."""
    rows, _ = site(20_000, seed=4)
    is_first = rows.keys["item_id"].str[1:].astype(int).to_numpy() < ITEMS // 2
    position = np.where(is_first, 1, 10)
    logit = -2.0 - 0.2 * (position - 1)
    rng = np.random.default_rng(5)
    sparse = rows.sparse.copy()
    sparse[:, SPARSE_NAMES.index("position")] = np.where(rng.random(len(position)) < 0.9, position, 5)
    logit = -2.0 - 0.2 * (sparse[:, SPARSE_NAMES.index("position")] - 1)
    label = (rng.random(len(logit)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    biased = Rows(sparse, rows.dense, label, rows.keys)
    assert label[is_first].mean() > 3 * label[~is_first].mean()
    ranker = mf.train(biased, SETTINGS)
    same_place = sparse.copy()
    same_place[:, SPARSE_NAMES.index("position")] = 1
    predicted = ranker.predict(Rows(same_place, rows.dense, label, rows.keys))
    assert predicted[is_first].mean() < 1.4 * predicted[~is_first].mean()


def test_the_same_rows_in_any_number_of_threads_give_the_same_model():
    import numba

    rows, _ = site(3_000, seed=6)
    first = mf.train(rows, SETTINGS).predict(rows)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert np.array_equal(first, mf.train(rows, SETTINGS).predict(rows))
    finally:
        numba.set_num_threads(threads)


def test_a_saved_model_predicts_the_same(tmp_path):
    rows, _ = site(3_000, seed=7)
    ranker = mf.train(rows, SETTINGS)
    mf.save(ranker, tmp_path / "mf.npz")
    others, _ = site(500, seed=8, users=USERS + 50)  # some of them unknown
    assert np.array_equal(ranker.predict(others), mf.load(tmp_path / "mf.npz").predict(others))


def test_weights_count_as_repeated_rows():
    rows, _ = site(2_000, seed=9)
    twice = Rows(rows.sparse, rows.dense, rows.label, {**rows.keys, "weight": pd.Series(np.full(2_000, 2.0))})
    expected = mf.train(concatenate(rows, rows), SETTINGS).predict(rows)
    assert mf.train(twice, SETTINGS).predict(rows) == pytest.approx(expected, abs=0.02)


def test_shares_of_sampled_negatives_say_nothing_of_a_user():
    rows, _ = site(500, seed=10)
    assert len(Encoder.fit(rows).shares) == TOPICS
    sparse = rows.sparse.copy()
    sparse[:, SPARSE_NAMES.index("position")] = 0
    assert len(Encoder.fit(Rows(sparse, rows.dense, rows.label, rows.keys)).shares) == 0


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows_are_learned_from(rows):
    few, _ = site(rows, seed=11)
    others, _ = site(5, seed=12)
    predicted = mf.train(few, SETTINGS).predict(others)
    assert np.isfinite(predicted).all()
    assert ((predicted > 0) & (predicted < 1)).all()


def test_age_bins_follow_the_quantiles_of_the_training_rows():
    rows, _ = site(1_000, seed=13)
    dense = rows.dense.copy()
    dense[:, AGE] = np.linspace(-1, 3, 1_000)
    encoder = Encoder.fit(Rows(rows.sparse, dense, rows.label, rows.keys))
    contexts = encoder.contexts(Rows(rows.sparse, dense, rows.label, rows.keys))
    ages = contexts[:, -(len(encoder.age_edges) + 1) :].sum(axis=0)
    assert ages.min() > 1_000 / 12 - 5


def test_packed_moments_have_the_inner_products_of_their_matrices_and_predictions_their_variance():
    rng = np.random.default_rng(5)
    sides = []
    for entities in (3, 4):
        root = rng.normal(size=(entities, 5, 5))
        covariance = (root @ root.transpose(0, 2, 1)).astype(np.float32)
        sides.append((rng.normal(size=(entities, 5)), covariance, covariance[0] / 2))
    packed, second = [], []
    for mean, covariance, _ in sides:
        packed.append(np.empty((len(mean), 15), np.float32))
        kernels.pack_second_moments(mean, covariance, packed[-1])
        second.append(mean[:, :, None] * mean[:, None] + covariance)
    assert packed[0] @ packed[1].T == pytest.approx(np.einsum("ukl,ikl->ui", *second), rel=1e-5)

    codes, offset = np.array([[0, 2, -1], [3, -1, 1]], np.int32), np.array([0.5, -1.0, 0.0])
    (mean_u, cov_u, prior_u), (mean_i, cov_i, prior_i) = sides
    u, v = mean_u[:3], mean_i[:3]
    probabilities = np.empty(3)
    kernels.predict(u, codes[0], cov_u, prior_u, v, codes[1], cov_i, prior_i, offset, probabilities)
    of_u, of_v = np.stack([cov_u[0], cov_u[2], prior_u]), np.stack([cov_i[3], prior_i, cov_i[1]])
    # Var(uᵀv) of independent u and v.
    variance = [a @ c @ a + b @ d @ b + (c * d).sum() for a, b, c, d in zip(v, u, of_u, of_v, strict=True)]
    logit = (offset + (u * v).sum(axis=1)) / np.sqrt(1 + np.pi * np.array(variance) / 8)
    assert probabilities == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)
