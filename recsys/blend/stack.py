"""The stack: the log odds of a click from those of all rankers, fitted on what was shown (Wolpert 1992).

Whoever ranks by what was clicked among the candidates learns what the old site liked to show: items that it did not
show can't be clicked. Among the impressions of the validation rows a click depends on the user, the item and the place
alone, and the place is a feature of the rankers; so their log odds are combined there, for all candidates alike.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from features.metrics.classification import log_loss
from recsys.calibration import logit, sigmoid

log = logging.getLogger(__name__)

L2 = 1e-3  # of the weights, to the mean log loss: rankers that say the same share their weight
MIN_CLICKS = 50  # below, the weights would follow noise

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """A weighted sum of the rankers' log odds; `weights` by the scores' columns."""

    weights: dict[str, float]
    intercept: float

    def predict(self, candidates: "pd.DataFrame | Mapping[str, Floats]") -> Floats:
        """Click probabilities (n,) at the first place, comparable between users, from a column per weight."""
        log_odds = [weight * logit(candidates[name]) for name, weight in self.weights.items()]
        return sigmoid(np.sum(log_odds, axis=0) + self.intercept)


def fit(predictions: Mapping[str, Floats], label: NDArray[np.floating], user: NDArray[np.integer]) -> Stack | None:
    """Fit the weights, none of them negative, for the least log loss.

    A stack is a promise that the rankers are better together. It is kept on halves of the users that it was not fitted
    on; where the best ranker alone does better there, that one is returned.

    Args:
        predictions: ranker -> (rows,) click probabilities of impressions that no ranker learned from.
        label: (rows,) 1 for a click.
        user: (rows,) codes of the users.

    Returns:
        The stack, of one ranker where that is better; None with too few clicks, or when no ranker has a weight: lists
        by such a stack would be in the order of the items' names.
    """
    if min(label.sum(), len(label) - label.sum()) < MIN_CLICKS:
        return None
    log_odds = {name: logit(values) for name, values in predictions.items()}
    names = list(log_odds)
    is_first = np.random.default_rng(0).random(int(user.max()) + 1)[user] < 0.5
    losses = {
        tried: np.mean([_held_out_loss(log_odds, tried, label, rows) for rows in (is_first, ~is_first)])
        for tried in (tuple(names), *((name,) for name in names))
    }
    fitted = _fit(log_odds, min(losses, key=lambda tried: losses[tried]), label)
    if not any(fitted.weights.values()):
        log.warning("no ranker tells the clicks of the %d validation impressions apart: scores are blended", len(label))
        return None
    return fitted


def _held_out_loss(
    log_odds: Mapping[str, Floats], names: tuple[str, ...], label: NDArray[np.floating], rows: NDArray[np.bool_]
) -> float:
    """Log loss on the rows that the weights of `names` were not fitted on."""
    stack = _fit({name: log_odds[name][rows] for name in names}, names, label[rows])
    weighted = [stack.weights[name] * log_odds[name][~rows] for name in names]
    return log_loss(label[~rows], sigmoid(np.sum(weighted, axis=0) + stack.intercept))


def _fit(log_odds: Mapping[str, Floats], names: tuple[str, ...], label: NDArray[np.floating]) -> Stack:
    inputs = np.stack([log_odds[name] for name in names] + [np.ones(len(label))], axis=1)  # (rows, rankers + 1)

    def objective(weights: Floats) -> tuple[float, Floats]:
        scores = inputs @ weights
        penalty = L2 * (weights[:-1] @ weights[:-1])
        loss = np.logaddexp(0, scores).mean() - (label * scores).mean() + penalty
        gradient = inputs.T @ (sigmoid(scores) - label) / len(label)
        gradient[:-1] += 2 * L2 * weights[:-1]
        return float(loss), gradient

    start = np.append(np.full(len(names), 1 / len(names)), 0.0)
    # A negative weight would trust the difference of two rankers that agree on what was shown, and not elsewhere.
    bounds = [(0.0, None)] * len(names) + [(None, None)]
    weights = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Stack(dict(zip(names, map(float, weights[:-1]), strict=True)), float(weights[-1]))
