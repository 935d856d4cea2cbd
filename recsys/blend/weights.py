"""The blend: how much recall and each ranker count in the order of a list, fitted on validation candidates."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.calibration import logit
from recsys.coordinate_ascent import fit_weights

log = logging.getLogger(__name__)

BLEND_FILE = "blend.json"  # kind (stack or blend), order (the score that lists follow), weights, intercept of a stack
MERGED = "merged"  # the score of recall; all other scores are probabilities


@dataclass(frozen=True)
class Blend:
    """A weighted sum of scores, each standardised among a user's candidates; `weights` by the scores' columns."""

    weights: dict[str, float]

    def predict(self, candidates: pd.DataFrame) -> NDArray[np.float64]:
        """Score candidates (user_id and a column per weight); (n,), comparable only within a user."""
        names = list(self.weights)
        weights = np.array([self.weights[name] for name in names])
        return np.asarray(standardize_within_users(candidates, names) @ weights)


def fit(candidates: pd.DataFrame, scores: Sequence[str], k: int) -> Blend:
    """Fit the weights for the best nDCG at k.

    Args:
        candidates: user_id, label (1: the user chose the item) and the columns `scores`.
        scores: names of the columns to blend.
        k: length of the list.

    Returns:
        The blend; with equal weights, and a warning, when there are too few positives.
    """
    label = candidates["label"].to_numpy()
    user = candidates["user_id"].factorize()[0]
    weights = fit_weights(standardize_within_users(candidates, scores), label, user, k)
    if weights is None:
        log.warning("blend: only %d positives among the candidates: all scores have equal weights", int(label.sum()))
        return Blend(dict.fromkeys(scores, 1.0))
    return Blend({name: float(weight) for name, weight in zip(scores, weights, strict=True)})


def standardize_within_users(candidates: pd.DataFrame, scores: Sequence[str]) -> NDArray[np.float64]:
    """Standardise scores among each user's candidates, so that a user's level does not matter; (n, scores).

    Probabilities are standardised as logits: near 0 and 1 they hardly differ.
    """
    _, user = np.unique(candidates["user_id"].to_numpy(dtype=str), return_inverse=True)
    counts = np.maximum(np.bincount(user), 1)  # (users,)
    columns = []
    for name in scores:
        x = candidates[name].to_numpy(np.float64)
        if name != MERGED:
            x = logit(x)
        centred = x - (np.bincount(user, x) / counts)[user]
        deviation = np.sqrt(np.bincount(user, centred**2) / counts)
        columns.append(centred / np.maximum(deviation, 1e-9)[user])
    return np.stack(columns, axis=1)
