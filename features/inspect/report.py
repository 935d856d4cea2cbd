"""Is a training set healthy? `millrace features report --date D`, from the published files, without Spark.

Missing values, drift between training and test rows (PSI), collinear columns (correlation, VIF, condition number), and
what each column says about clicks (information value), all by the rows' weights where they have one. All numbers go to
a run folder; the command prints those beyond the usual limits, and a verdict, which is about drift alone: features that
are missing or say the same are a property of the site.
"""

import logging
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.runs import Run, start_run
from conf.site.features import Feature, Sparse
from features.catalog import COLUMNS, DENSE
from features.dataset.names import WEIGHT, examples_version
from features.inspect.column_statistics import (
    condition_number,
    correlated_pairs,
    information_value,
    population_stability,
    variance_inflation,
)
from features.inspect.dataset_columns import Columns, dense_matrix, read_columns

MODEL = "features"
BINS = 10
# The usual alarms; below them, a feature is no worse than most.
MAX_MISSING, MAX_PSI, MAX_CORRELATION, MAX_VIF, MAX_CONDITION = 0.5, 0.25, 0.8, 10.0, 1000.0
MAX_FLOORS = 3.0  # a drift below so many times what training rows show among themselves is no alarm
DRAWS = 8  # random halves, over which that is averaged

log = logging.getLogger(__name__)


def run(config: Config, day: date) -> dict[str, Any]:
    """Measure the training set of `day`.

    Returns:
        missing, drifted, correlated and inflated: {feature (or pair): value} beyond its limit; condition_number,
        ill_conditioned, run_id of the run folder with all numbers, and verdict: `ok`, or the features that drifted.

    Raises:
        UserError: when there is no training set of `day`.
    """
    folder, _ = examples_version(config, day)
    train, test = read_columns(folder / "train"), read_columns(folder / "test")
    halves = _halves(train, len(test["label"]))
    with start_run(config, MODEL, day) as run_folder:
        findings: dict[str, Any] = {"missing": {}, "drifted": {}, "correlated": {}, "inflated": {}}
        for feature in COLUMNS:
            values = _feature_metrics(feature, train) | _drift(feature, train, test, halves)
            metrics = {f"{metric} {feature.name}": value for metric, value in values.items()}
            run_folder.log_metrics("report", "train", metrics, len(train["label"]))
            if values["missing"] > MAX_MISSING:
                findings["missing"][feature.name] = round(values["missing"], 4)
            if values["psi"] > max(MAX_PSI, MAX_FLOORS * values["psi_floor"]):
                findings["drifted"][feature.name] = round(values["psi"], 4)
        findings |= _collinearity(run_folder, dense_matrix(train)) | {"run_id": run_folder.run_id}
    drifted = findings["drifted"]
    findings["verdict"] = f"{len(drifted)} features to look at: {', '.join(drifted)}" if drifted else "ok"
    log.info("verdict: %s", findings["verdict"])
    return findings


def bin_edges(feature: Feature, values: NDArray[Any]) -> NDArray[np.float64]:
    """Inner edges of bins: deciles of a number; each of the most frequent ids of a category, others between them."""
    if isinstance(feature, Sparse):
        ids, counts = np.unique(values, return_counts=True)
        # An edge at the id and one after it make a bin of one id.
        frequent = np.sort(ids[np.argsort(-counts, kind="stable")[:BINS]])
        return np.unique(np.concatenate([frequent, frequent + 1]).astype(np.float64))
    return np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))


def bin_counts(
    values: NDArray[Any], edges: NDArray[np.float64], weights: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """(edges + 1,) rows, or weights, in each of the bins that `edges` separate; an edge belongs to the bin above it."""
    bins = np.searchsorted(edges, values, side="right")  # (rows,)
    return np.bincount(bins, weights, minlength=len(edges) + 1).astype(np.float64)


def _halves(train: Columns, test_rows: int) -> list[NDArray[np.bool_]]:
    """Ways to halve the newest training rows, twice as many as test rows: (rows,) whether a row is in the second half.

    The first is by time: features counted over all days before a row grow by construction, by which they drift between
    any two days. The others are random, by row and by user: the rows of one user are alike, so that a day of few users
    differs from another by chance.
    """
    rows = max(2 * min(test_rows, len(train["label"]) // 2), 1)
    users = np.unique(train["user_id"][-rows:], return_inverse=True)[1]
    rng = np.random.default_rng(0)
    halves = [np.arange(rows) >= rows // 2]
    for _ in range(DRAWS):
        halves.append(rng.permutation(rows) >= rows // 2)
        halves.append((rng.permutation(users.max() + 1) % 2 > 0)[users])
    return halves


def _drift(feature: Feature, train: Columns, test: Columns, halves: list[NDArray[np.bool_]]) -> dict[str, float]:
    """psi: between the newest training rows and the test rows; psi_floor: what it is without any shift.

    The newest, not all: rows of the window's first days have hardly anything counted before them.
    """
    by_time, *random = halves
    values, weights = (train[name][-len(by_time) :] for name in (feature.name, WEIGHT))
    edges = bin_edges(feature, values[by_time])

    def psi_of(half: NDArray[np.bool_]) -> float:
        first, second = (bin_counts(values[rows], edges, weights[rows]) for rows in (~half, half))
        return population_stability(first, second)

    newest = bin_counts(values[by_time], edges, weights[by_time])
    # A user's id has no user drawn twice, and would be new in every half.
    by_row, by_user = (float(np.mean([psi_of(half) for half in random[kind::2]])) for kind in (0, 1))
    is_of_users = "user_id" in feature.source
    return {
        "psi": population_stability(newest, bin_counts(test[feature.name], edges, test[WEIGHT])),
        "psi_floor": max(psi_of(by_time), by_row, 0.0 if is_of_users else by_user),
    }


def _feature_metrics(feature: Feature, train: Columns) -> dict[str, float]:
    """missing (share of zeros, which is what missing values become) and information of a feature."""
    values, weights, is_clicked = train[feature.name], train[WEIGHT], train["label"] > 0
    edges = bin_edges(feature, values)
    counts, clicked = bin_counts(values, edges, weights), bin_counts(values[is_clicked], edges, weights[is_clicked])
    return {
        "missing": float(np.average(values == 0, weights=weights)),
        "information": information_value(clicked, counts - clicked),
    }


def _collinearity(run_folder: Run, dense: NDArray[np.float32]) -> dict[str, Any]:
    """The findings about columns that say the same."""
    inflation = {feature.name: float(value) for feature, value in zip(DENSE, variance_inflation(dense), strict=True)}
    condition = round(condition_number(dense), 2)  # billions when columns are copies: digits say nothing
    metrics = {f"vif {name}": value for name, value in inflation.items()} | {"condition_number": condition}
    run_folder.log_metrics("report", "train", metrics, len(dense))
    pairs = correlated_pairs(dense, MAX_CORRELATION)
    return {
        "correlated": {f"{DENSE[a].name} ~ {DENSE[b].name}": round(value, 4) for (a, b), value in pairs.items()},
        "inflated": {name: round(value, 2) for name, value in inflation.items() if value > MAX_VIF},
        "condition_number": condition,
        "ill_conditioned": condition > MAX_CONDITION,
    }
