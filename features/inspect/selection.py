"""Which dense features to use: `millrace features select --date D`, from the published files, without Spark.

Three methods (requirement F6): a filter by statistics of the columns, a wrapper around a logistic regression, and the
importance that trees give (embedded).
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.console.cli import one_of
from features.catalog import DENSE
from features.dataset.names import examples_version
from features.inspect.column_statistics import correlated_pairs
from features.inspect.dataset_columns import dense_matrix, read_columns

MAX_ROWS = 50_000  # of training and of validation rows: a wrapper fits hundreds of models
MAX_CORRELATION = 0.8
IMPORTANCE_SHARE = 0.99


class LabelledRows(NamedTuple):
    """Dense features and labels of some rows."""

    x: NDArray[np.floating]
    """(rows, columns)."""
    y: NDArray[np.bool_]
    """(rows,) clicked."""


def run(config: Config, day: date, method: str, num_features: int) -> dict[str, Any]:
    """Select dense features of the training set of `day`.

    Args:
        config: section paths is read.
        day: whose training set is used.
        method: one of METHODS.
        num_features: how many to select at most.

    Returns:
        method, selected (names, best first where the method orders them), and dropped (the other names).

    Raises:
        UsageError: when there is no such method.
        UserError: when there is no training set of `day`.
    """
    one_of("method", method, METHODS)
    folder, _ = examples_version(config, day)
    train, valid = (_read(folder / split) for split in ("train", "valid"))
    selected = METHODS[method](train, valid, num_features)
    names = [feature.name for feature in DENSE]
    return {
        "method": method,
        "selected": [names[i] for i in selected],
        "dropped": [name for i, name in enumerate(names) if i not in selected],
    }


def select_by_filter(train: LabelledRows, _valid: LabelledRows, num_features: int) -> list[int]:
    """Columns that vary, without copies (of correlated ones the first stays), by |correlation| with the label."""
    x, y = train
    # In the order of the catalog: a column that is a copy itself doesn't make others copies.
    copies: set[int] = set()
    for first, second in sorted(correlated_pairs(x, MAX_CORRELATION)):
        if first not in copies:
            copies.add(second)
    deviation = x.std(axis=0) * y.std()
    covariance = ((x - x.mean(axis=0)) * (y - y.mean())[:, None]).mean(axis=0)
    # 0 where a column is constant, instead of a division by 0.
    strength = np.abs(np.divide(covariance, deviation, out=np.zeros(x.shape[1]), where=deviation > 0))
    order = np.argsort(-strength, kind="stable")
    return [int(i) for i in order if i not in copies and x[:, i].std() > 0][:num_features]


def select_by_wrapper(train: LabelledRows, valid: LabelledRows, num_features: int) -> list[int]:
    """Forward selection: add the column that lowers a logistic regression's validation log loss most.

    Fits about columns × `num_features` models; returns the columns in their own order.
    """
    from sklearn.feature_selection import SequentialFeatureSelector
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit

    if num_features >= train.x.shape[1]:
        return list(range(train.x.shape[1]))
    fold = np.repeat([-1, 0], [len(train.y), len(valid.y)])  # −1 is never held out
    selector = SequentialFeatureSelector(
        LogisticRegression(max_iter=200),
        n_features_to_select=num_features,
        scoring="neg_log_loss",
        cv=PredefinedSplit(fold),
    )
    selector.fit(np.concatenate([train.x, valid.x]), np.concatenate([train.y, valid.y]))
    return [int(i) for i in np.flatnonzero(selector.get_support())]


def select_by_importance(train: LabelledRows, _valid: LabelledRows, num_features: int) -> list[int]:
    """The fewest columns that have 99 % of the importance in extremely randomised trees (Geurts et al. 2006)."""
    from sklearn.ensemble import ExtraTreesClassifier

    trees = ExtraTreesClassifier(n_estimators=100, min_samples_leaf=20, random_state=0).fit(train.x, train.y)
    importance = trees.feature_importances_  # sums to 1
    order = np.argsort(-importance, kind="stable")
    # The first position where the cumulated importance reaches the share.
    num_important = int(np.searchsorted(np.cumsum(importance[order]), IMPORTANCE_SHARE)) + 1
    return [int(i) for i in order[: min(num_features, num_important)]]


def _read(folder: Path) -> LabelledRows:
    columns = read_columns(folder, MAX_ROWS)
    return LabelledRows(dense_matrix(columns), columns["label"] > 0)


# (train, valid, num_features) -> column numbers. A new method is added here.
METHODS: dict[str, Callable[[LabelledRows, LabelledRows, int], list[int]]] = {
    "filter": select_by_filter,
    "wrapper": select_by_wrapper,
    "embedded": select_by_importance,
}
