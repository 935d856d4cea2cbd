"""The blend: how much recall and each ranker count in the order of a list, learned on validation candidates."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.blend import ascent

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blend:
    """Weights of the steps, by name; an order is a sum of their scores, each standardised among a user's candidates."""

    weights: dict[str, float]

    def score(self, candidates: pd.DataFrame) -> NDArray[np.float64]:
        """(n,) larger is better within a user."""
        names = list(self.weights)
        weights = np.array([self.weights[name] for name in names])
        return np.asarray(within_users(candidates, names) @ weights)


def fit(candidates: pd.DataFrame, steps: Sequence[str], k: int) -> Blend:
    """From candidates with `label`, for lists of k. With few positives all steps count the same."""
    label = candidates["label"].to_numpy()
    weights = ascent.learn(within_users(candidates, steps), label, candidates["user_id"].factorize()[0], k)
    if weights is None:
        log.warning("blend: only %d positives among the candidates: all steps count the same", int(label.sum()))
        return Blend(dict.fromkeys(steps, 1.0))
    return Blend({name: float(weight) for name, weight in zip(steps, weights, strict=True)})


def within_users(candidates: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """(n, names) scores less their user's mean, over their user's deviation; probabilities as logits."""
    _, user = np.unique(candidates["user_id"].to_numpy(dtype=str), return_inverse=True)
    rows = np.maximum(np.bincount(user), 1)
    columns = []
    for name in names:
        x = candidates[name].to_numpy(np.float64)
        if name != "merged":
            p = np.clip(x, 1e-7, 1 - 1e-7)
            x = np.log(p / (1 - p))
        centred = x - (np.bincount(user, x) / rows)[user]
        deviation = np.sqrt(np.bincount(user, centred**2) / rows)
        columns.append(centred / np.maximum(deviation, 1e-9)[user])
    return np.stack(columns, axis=1)
