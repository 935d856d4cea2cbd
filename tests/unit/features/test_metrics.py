import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from features.metrics import METRICS
from features.metrics.bootstrap import bootstrap_means, percentile_interval
from features.metrics.classification import (
    auc,
    average_precision,
    binary_metrics,
    calibration_curve,
    calibration_error,
    class_f1,
    click_metrics,
    cost_curve,
    cost_curve_area,
    gauc,
    log_loss,
    row_log_losses,
    top_k_error,
)
from features.metrics.regression import mae, rmse


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


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=60))
def test_metrics_of_scores_agree_with_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([row[0] for row in rows], int), np.array([row[1] / 10 for row in rows])
    if 0 < labels.sum() < len(labels):
        assert auc(labels, scores) == pytest.approx(sklearn.roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(labels, scores) == pytest.approx(sklearn.average_precision_score(labels, scores))
    clipped = scores.clip(1e-7, 1 - 1e-7)
    assert log_loss(labels, scores) == pytest.approx(sklearn.log_loss(labels, clipped, labels=[0, 1]), abs=1e-12)
    metrics = binary_metrics(labels, scores)
    predicted = (scores >= 0.5).astype(int)
    assert metrics["precision"] == pytest.approx(sklearn.precision_score(labels, predicted, zero_division=0))
    assert metrics["recall"] == pytest.approx(sklearn.recall_score(labels, predicted, zero_division=0))
    assert metrics["f1"] == pytest.approx(sklearn.f1_score(labels, predicted, zero_division=0))
    assert metrics["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, predicted))


def test_log_losses_of_rows_are_what_each_row_adds_to_the_mean() -> None:
    assert row_log_losses([1, 0, 1], [0.25, 0.25, 0.0]) == pytest.approx(-np.log([0.25, 0.75, 1e-7]))
    assert row_log_losses([True, False], [0.25, 0.25]) == pytest.approx(-np.log([0.25, 0.75]))
    assert log_loss([1, 0], [0.25, 0.25]) == pytest.approx(-(np.log(0.25) + np.log(0.75)) / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(1, 4)), min_size=1, max_size=60))
def test_gauc_is_the_weighted_mean_of_users(rows: list[tuple[int, bool, int]]) -> None:
    user, label, score = (np.array(column, float) for column in zip(*rows, strict=True))
    each = [
        (sklearn.roc_auc_score(label[user == u], score[user == u]), (user == u).sum())
        for u in np.unique(user)
        if 0 < label[user == u].sum() < (user == u).sum()
    ]
    if not each:
        with pytest.raises(ValueError, match="needs a group"):
            gauc(label, score, user)
        return
    values, weights = zip(*each, strict=True)
    assert gauc(label, score, user) == pytest.approx(np.average(values, weights=weights))


def decisions(tp: int, fp: int, fn: int, tn: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and decisions with these counts."""
    return np.repeat([1, 0, 1, 0], [tp, fp, fn, tn]), np.repeat([1.0, 1.0, 0.0, 0.0], [tp, fp, fn, tn])


def test_the_fish_pond() -> None:
    """1400 carp, 300 shrimp, 300 turtles; carp are what the net is for."""
    net = binary_metrics(*decisions(tp=700, fp=300, fn=700, tn=300))
    assert (net["precision"], net["recall"]) == pytest.approx((0.7, 0.5))
    assert net["f1"] == pytest.approx(0.583, abs=5e-4)
    everything = binary_metrics(*decisions(tp=1400, fp=600, fn=0, tn=0))
    assert (everything["precision"], everything["recall"]) == pytest.approx((0.7, 1.0))
    assert everything["f1"] == pytest.approx(0.8235, abs=5e-5)


def test_the_earthquake() -> None:
    """1000 predictions, one event: never alarm, or alarm five times."""
    never = binary_metrics(*decisions(tp=0, fp=0, fn=1, tn=999))
    assert (never["accuracy"], never["recall"], never["e_measure"]) == pytest.approx((0.999, 0, 1))
    five = binary_metrics(*decisions(tp=1, fp=4, fn=0, tn=995))
    assert (five["accuracy"], five["recall"], five["specificity"]) == pytest.approx((0.996, 1, 995 / 999))
    assert five["error"] == pytest.approx(0.004)


def test_a_larger_b_weighs_precision_more() -> None:
    labels, scores = decisions(tp=9, fp=1, fn=91, tn=0)  # precise, with little recall
    values = [binary_metrics(labels, scores, beta=b)["e_measure"] for b in (2, 1, 0.5)]
    assert values == pytest.approx([1 - (1 + b**2) / (b**2 / 0.9 + 1 / 0.09) for b in (2, 1, 0.5)])
    assert values == sorted(values)


def test_a_decision_is_positive_from_the_threshold_on() -> None:
    assert binary_metrics([0, 1], [0.5, 0.7], threshold=0.7)["accuracy"] == 1
    assert binary_metrics([0, 1], [0.5, 0.7])["accuracy"] == 0.5


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_f1_of_classes_is_of_the_class_with_the_best_score(rows: list[tuple[int, int]]) -> None:
    labels, predicted = (list(column) for column in zip(*rows, strict=True))
    metrics = class_f1(labels, np.eye(4)[predicted])
    assert metrics["macro_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro", zero_division=0))
    assert metrics["micro_f1"] == pytest.approx(np.mean(np.equal(labels, predicted)))


def test_top_5_error_and_errors_of_numbers() -> None:
    scores = np.eye(8)[[0, 1, 2]] + np.linspace(0, 0.1, 8)
    assert top_k_error([0, 1, 7], scores, k=1) == pytest.approx(1 / 3)
    assert top_k_error([0, 1, 7], scores, k=5) == 0
    assert top_k_error([0, 1, 7], scores, k=8) == 0
    assert rmse([1, 2], [2, 4]) == pytest.approx(np.sqrt(2.5))
    assert mae([1, 2], [2, 4]) == pytest.approx(1.5)


def test_a_cost_curve_has_the_best_threshold_for_each_class_balance() -> None:
    # (FNR, FPR) at the thresholds of this vector: (1, 0), (0.5, 0), (0.5, 0.5), (0, 0.5), (0, 1).
    x, y = cost_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 1, 1, points=5).T
    assert x == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert y == pytest.approx([0, 0.125, 0.25, 0.125, 0])
    perfect = cost_curve([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 1, 1)
    assert perfect[:, 1] == pytest.approx(0)
    useless = cost_curve([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 2, 1)
    np.testing.assert_allclose(useless[:, 1], np.minimum(useless[:, 0], 1 - useless[:, 0]))
    assert cost_curve_area([0, 1], [0.5, 0.5]) == pytest.approx(0.25)


def test_every_named_metric_takes_the_outputs_of_a_model() -> None:
    labels, one_output = np.array([0, 1, 1], np.float32), np.array([[0.1], [0.8], [0.3]], np.float32)
    of_classes = {"macro_f1", "micro_f1", "top_5_error"}
    for name in METRICS.keys() - of_classes:
        result = METRICS[name](labels, one_output)
        assert np.isfinite(result[name] if isinstance(result, dict) else result), name
    f1 = {"micro_f1": pytest.approx(2 / 3), "macro_f1": pytest.approx((1 + 2 / 3 + 0) / 3)}
    assert METRICS["micro_f1"](labels, np.eye(3)[[0, 1, 2]]) == f1
    assert METRICS["macro_f1"](labels, np.eye(3)[[0, 1, 2]]) == f1
    assert METRICS["top_5_error"](labels, np.eye(6)[[0, 1, 2]]) == 0
    with pytest.raises(ValueError, match="one score a row, not 3"):
        METRICS["f1"](labels, np.eye(3))


def test_bins_of_calibration_have_equally_many_rows_in_the_order_of_the_predictions() -> None:
    labels, p = [1, 0, 1, 0, 0], [0.9, 0.2, 0.4, 0.1, 0.6]
    assert calibration_curve(labels, p, bins=2) == pytest.approx(np.array([[0.7 / 3, 1 / 3, 3], [0.75, 0.5, 2]]))
    assert calibration_error(labels, p, bins=2) == pytest.approx((3 * 0.1 + 2 * 0.25) / 5)
    assert calibration_curve(labels, p)[:, 2].tolist() == [1] * 5  # fewer rows than bins: none is empty
    # Ties stay in order: of each of two predictions the later half is positive.
    ties, later = np.tile([0.5, 0.25], 2000), np.arange(4000) >= 2000
    assert calibration_curve(later, ties, bins=4).tolist() == [[q, n, 1000] for q in (0.25, 0.5) for n in (0, 1)]
    rows = np.arange(200)
    assert calibration_error(rows >= 95, rows / 400) == pytest.approx(
        np.mean([abs(n / 20 + 9.5 / 400 - share) for n, share in enumerate([0] * 4 + [0.25] + [1] * 5)])
    )


def test_click_metrics_are_those_of_the_same_names() -> None:
    labels, p, users = [1, 0, 1, 0, 0, 1], [0.9, 0.2, 0.4, 0.1, 0.6, 0.7], list("uuuvvv")
    assert click_metrics(labels, p, users) == {
        "auc": auc(labels, p),
        "log_loss": log_loss(labels, p),
        "ece": calibration_error(labels, p),
        "gauc": gauc(labels, p, users),
    }


def test_grades_over_0_are_positive() -> None:
    grades, scores = [0, 0.5, 3, 0], [0.1, 0.4, 0.3, 0.35]
    assert auc(grades, scores) == gauc(grades, scores, ["u"] * 4) == 0.75
    assert average_precision(grades, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert binary_metrics(grades, scores, threshold=0.33)["recall"] == 0.5
    assert cost_curve(grades, scores, 1, 1, points=3)[1].tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="average precision needs positives"):
        average_precision([0, 0], [0.1, 0.2])


@pytest.mark.filterwarnings("error")
def test_what_is_0_by_0_is_0_without_a_warning() -> None:
    nothing = binary_metrics([0, 0], [0.1, 0.2])
    assert (nothing["precision"], nothing["recall"], nothing["f1"], nothing["e_measure"]) == (0, 0, 0, 1)
    assert binary_metrics([1, 1], [0.1, 0.2])["specificity"] == 0
    assert class_f1([0, 0], np.eye(3)[[0, 1]]) == pytest.approx({"macro_f1": 1 / 3, "micro_f1": 0.5})
    assert top_k_error([0, 1], np.eye(5)[[0, 2]]) == 0


def test_by_default_the_e_measure_is_what_f1_lacks_and_top_5_is_of_five() -> None:
    labels, scores = decisions(tp=9, fp=1, fn=91, tn=0)
    metrics = binary_metrics(labels, scores)
    assert metrics["e_measure"] == pytest.approx(1 - metrics["f1"])
    order = np.arange(7, 0, -1)[None, :]
    assert [top_k_error([place], order) for place in range(7)] == [0, 0, 0, 0, 0, 1, 1]


def test_unequal_costs_move_a_cost_curve_along_its_axis() -> None:
    x, y = cost_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 4, 1, points=3).T
    assert x == pytest.approx([0, 0.8, 1])
    assert y == pytest.approx([0, 0.1, 0])
    assert len(cost_curve([0, 1], [0.1, 0.4], 4, 1)) == 11
    assert cost_curve_area([0, 1, 0], [0.1, 0.2, 0.3]) == pytest.approx(1 / 6, abs=1e-4)  # its kink is at 1/3


def test_calibration_compares_deciles() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(50_000)
    label = rng.random(50_000) < p
    curve = calibration_curve(label, p)
    assert curve.shape == (10, 3)
    assert (np.diff(curve[:, 0]) > 0).all()
    assert calibration_error(label, p) < 0.01
    assert calibration_error(label, np.minimum(p * 0.5, 1)) == pytest.approx(0.25, abs=0.01)


def test_an_interval_is_the_middle_of_the_values() -> None:
    assert percentile_interval(np.arange(1001)) == pytest.approx((25, 975))
    assert percentile_interval(np.arange(1001), 0.5) == pytest.approx((250, 750))


def test_a_bootstrap_weighs_each_user_by_a_poisson_count() -> None:
    means = bootstrap_means([3], [0.5], num_samples=2000)
    assert set(means) == {0.0, 6.0}  # 0: the one user was not drawn
    assert (means == 0).mean() == pytest.approx(np.exp(-1), abs=0.04)
    assert np.array_equal(means, bootstrap_means([3], [0.5], num_samples=2000))
    assert not np.array_equal(means, bootstrap_means([3], [0.5], num_samples=2000, seed=1))
    # A user with three rows weighs three times.
    assert bootstrap_means([9, 1] * 50, [3, 1] * 50).mean() == pytest.approx(2.5, abs=0.02)
    assert set(bootstrap_means([], [], num_samples=3)) == {0.0}


def test_a_bootstrap_of_many_users_goes_block_by_block() -> None:
    users = 1_200_000  # four samples a block
    means = bootstrap_means(np.arange(users) % 2, np.ones(users), num_samples=10)
    assert len(means) == len(set(means)) == 10
    assert np.abs(means - 0.5).max() < 4 * 0.5 / np.sqrt(users)


def test_a_bootstrap_over_users_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for trial in range(200):
        users = rng.normal(0.3, 0.1, 60)
        low, high = percentile_interval(bootstrap_means(users, np.ones(60), num_samples=300, seed=trial))
        covered += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.99
