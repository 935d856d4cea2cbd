import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from training.tasks.metrics import (
    auc,
    average_precision,
    bootstrap_means,
    calibration_curve,
    calibration_error,
    click_metrics,
    confusion,
    cost_curve,
    f1_of_classes,
    gauc,
    interval,
    log_loss,
    mae,
    rates,
    rmse,
    roc_points,
    top_k_error,
)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        ([1, 1, 1, 1, 0, 1, 0, 0, 0, 0], list(range(10, 0, -1)), 0.96),
        ([1, 1, 1, 0, 1, 0, 1, 0, 0, 0], list(range(10, 0, -1)), 0.88),
        ([0, 1], [0.5, 0.5], 0.5),
    ],
)
def test_auc_of_known_vectors(labels: list[int], scores: list[float], expected: float) -> None:
    assert auc(labels, scores) == pytest.approx(expected)


def test_auc_of_one_class_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="needs positives and negatives"):
        auc([1, 1], [0.1, 0.2])
    assert set(click_metrics([0, 0], [0.1, 0.2], ["u", "u"])) == {"log_loss", "ece"}


def test_nan_is_refused_not_measured() -> None:
    for measure in (auc, log_loss, average_precision):
        with pytest.raises(ValueError, match="1 of 2 predictions are NaN"):
            measure([0, 1], [0.5, float("nan")])


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=2, max_size=60))
def test_metrics_of_scores_agree_with_another_implementation(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([row[0] for row in rows], int), np.array([row[1] / 10 for row in rows])
    if 0 < labels.sum() < len(labels):
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
        assert log_loss(labels, scores) == pytest.approx(sklearn_log_loss(labels, scores))
        assert average_precision(labels, scores) == pytest.approx(sklearn.average_precision_score(labels, scores))
    counts = rates(confusion(labels, scores >= 0.5))
    predicted = (scores >= 0.5).astype(int)
    assert counts["precision"] == pytest.approx(sklearn.precision_score(labels, predicted, zero_division=0))
    assert counts["recall"] == pytest.approx(sklearn.recall_score(labels, predicted, zero_division=0))
    assert counts["f1"] == pytest.approx(sklearn.f1_score(labels, predicted, zero_division=0))
    assert counts["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, predicted))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(1, 4)), min_size=1, max_size=60))
def test_gauc_is_the_weighted_mean_of_users(rows: list[tuple[int, bool, int]]) -> None:
    user, label, score = (np.array(column, float) for column in zip(*rows, strict=True))
    each = [
        (roc_auc_score(label[user == u], score[user == u]), (user == u).sum())
        for u in np.unique(user)
        if 0 < label[user == u].sum() < (user == u).sum()
    ]
    if not each:
        with pytest.raises(ValueError, match="needs a group"):
            gauc(label, score, user)
        return
    values, weights = zip(*each, strict=True)
    assert gauc(label, score, user) == pytest.approx(np.average(values, weights=weights))


def test_roc_points_of_the_known_vector() -> None:
    found = roc_points([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    assert found == [(0.1, 1.0, 1.0), (0.35, 1.0, 0.5), (0.4, 0.5, 0.5), (0.8, 0.5, 0.0)]


def test_the_fish_pond() -> None:
    """1400 carp, 300 shrimp, 300 turtles; carp are wanted."""
    net = rates({"tp": 700, "fp": 300, "fn": 700, "tn": 300})
    assert (net["precision"], net["recall"]) == pytest.approx((0.7, 0.5))
    assert net["f1"] == pytest.approx(0.583, abs=5e-4)
    everything = rates({"tp": 1400, "fp": 600, "fn": 0, "tn": 0})
    assert (everything["precision"], everything["recall"]) == pytest.approx((0.7, 1.0))
    assert everything["f1"] == pytest.approx(0.8235, abs=5e-5)


def test_the_earthquake() -> None:
    """1000 predictions, one event: never alarm, or alarm five times."""
    never = rates({"tp": 0, "fp": 0, "fn": 1, "tn": 999})
    assert (never["accuracy"], never["recall"], never["e"]) == pytest.approx((0.999, 0, 1))
    five = rates({"tp": 1, "fp": 4, "fn": 0, "tn": 995})
    assert (five["accuracy"], five["recall"], five["specificity"]) == pytest.approx((0.996, 1, 995 / 999))
    assert five["error"] == pytest.approx(0.004)


def test_a_larger_b_weighs_precision_more() -> None:
    counts = {"tp": 9, "fp": 1, "fn": 91, "tn": 0}  # precise, with little recall
    assert rates(counts, beta=2)["e"] < rates(counts, beta=1)["e"] < rates(counts, beta=0.5)["e"]
    assert rates(counts)["e"] == pytest.approx(1 - rates(counts)["f1"])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_f1_of_classes_agrees_with_another_implementation(rows: list[tuple[int, int]]) -> None:
    labels, predicted = (list(column) for column in zip(*rows, strict=True))
    found = f1_of_classes(labels, predicted)
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro", zero_division=0))
    assert found["micro_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="micro"))


def test_top_5_error_and_errors_of_values() -> None:
    scores = np.eye(8)[[0, 1, 2]] + np.linspace(0, 0.1, 8)
    assert top_k_error([0, 1, 7], scores, k=1) == pytest.approx(1 / 3)
    assert top_k_error([0, 1, 7], scores, k=5) == 0
    assert rmse([1, 2], [2, 4]) == pytest.approx(np.sqrt(2.5))
    assert mae([1, 2], [2, 4]) == pytest.approx(1.5)


def test_a_cost_curve_is_zero_for_a_perfect_order_and_never_above_the_trivial_ones() -> None:
    perfect = cost_curve([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 1, 1)
    assert perfect[:, 1] == pytest.approx(0)
    useless = cost_curve([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 2, 1)
    np.testing.assert_allclose(useless[:, 1], np.minimum(useless[:, 0], 1 - useless[:, 0]))


def test_calibration_compares_deciles() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(50_000)
    label = rng.random(50_000) < p
    curve = calibration_curve(label, p)
    assert curve.shape == (10, 3)
    assert (np.diff(curve[:, 0]) > 0).all()
    assert calibration_error(label, p) < 0.01
    assert calibration_error(label, np.minimum(p * 0.5, 1)) == pytest.approx(0.25, abs=0.01)


def test_a_bootstrap_over_users_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for trial in range(200):
        users = rng.normal(0.3, 0.1, 60)
        low, high = interval(bootstrap_means(users, np.ones(60), draws=300, seed=trial))
        covered += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.99
