"""The stack of the rankers, on log odds whose best combination is known."""

import numpy as np
import pytest

from recsys.blend import stack
from recsys.calibration import logit, sigmoid


def clicks(rows: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True log odds, labels and users of impressions."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-2, 1, rows)
    return log_odds, (rng.random(rows) < sigmoid(log_odds)).astype(np.float32), rng.integers(0, 500, rows)


def test_two_rankers_that_know_different_things_share_the_weight():
    rng = np.random.default_rng(1)
    one, other = rng.normal(0, 1, (2, 20_000))
    label = (rng.random(20_000) < sigmoid(one + other - 2)).astype(np.float32)
    user = rng.integers(0, 500, 20_000)
    fitted = stack.fit({"one": sigmoid(one), "other": sigmoid(other)}, label, user)
    assert fitted.weights == pytest.approx({"one": 1, "other": 1}, abs=0.1)
    assert fitted.intercept == pytest.approx(-2, abs=0.1)
    assert fitted.predict({"one": sigmoid(one), "other": sigmoid(other)}).mean() == pytest.approx(
        label.mean(), abs=0.01
    )


def test_a_ranker_that_knows_nothing_more_is_left_out():
    log_odds, label, user = clicks()
    noise = sigmoid(np.random.default_rng(2).normal(0, 1, len(label)))
    fitted = stack.fit({"good": sigmoid(log_odds), "noise": noise}, label, user)
    assert list(fitted.weights) == ["good"] or fitted.weights["noise"] < 0.05


def test_no_weight_is_negative():
    log_odds, label, user = clicks()
    # The difference of two nearly equal rankers is the best predictor here; off what was shown it means nothing.
    shared = np.random.default_rng(3).normal(0, 3, len(label))
    fitted = stack.fit({"a": sigmoid(log_odds + shared), "b": sigmoid(shared)}, label, user)
    assert min(fitted.weights.values()) >= 0


def test_an_uncalibrated_ranker_becomes_a_probability():
    log_odds, label, user = clicks()
    fitted = stack.fit({"loud": sigmoid(3 * log_odds + 2)}, label, user)
    predicted = fitted.predict({"loud": sigmoid(3 * log_odds + 2)})
    assert logit(predicted) == pytest.approx(log_odds, abs=0.3)


def test_too_few_clicks_give_no_stack():
    label = np.zeros(1_000, np.float32)
    label[:10] = 1
    assert stack.fit({"a": np.full(1_000, 0.1)}, label, np.arange(1_000)) is None


def test_rankers_that_are_no_better_than_chance_make_no_stack(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(5)
    log_odds = rng.normal(size=2_000)
    label = (rng.random(2_000) < sigmoid(-log_odds)).astype(float)  # the ranker has it the wrong way round
    assert stack.fit({"wrong": sigmoid(log_odds)}, label, np.arange(2_000)) is None
    assert "no ranker tells the clicks of the 2000 validation impressions apart" in caplog.text
