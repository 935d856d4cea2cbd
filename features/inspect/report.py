"""Is a training set healthy? `millrace features report --date D`, from the published files, without Spark.

Missing values, drift between training and test rows (PSI), collinear columns (correlation, VIF, condition number), and
what each column says about clicks (information value). All numbers go to a run folder; the command prints those beyond
the usual limits.
"""

from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.runs import Run, start_run
from features.catalog import COLUMNS, DENSE, Feature, Sparse
from features.dataset.names import examples_version
from features.inspect.column_statistics import (
    condition_number,
    correlated_pairs,
    information_value,
    population_stability,
    variance_inflation,
)
from features.inspect.dataset_columns import dense_matrix, read_columns

MODEL = "features"
BINS = 10
# The usual alarms; below them, a feature is no worse than most.
MAX_MISSING, MAX_PSI, MAX_CORRELATION, MAX_VIF, MAX_CONDITION = 0.5, 0.2, 0.8, 10.0, 1000.0


def run(config: Config, day: date) -> dict[str, Any]:
    """Measure the training set of `day`.

    Returns:
        missing, drifted, correlated and inflated: {feature (or pair): value} beyond its limit; condition_number,
        ill_conditioned, and run_id of the run folder with all numbers.

    Raises:
        UserError: when there is no training set of `day`.
    """
    folder, _ = examples_version(config, day)
    train, test = read_columns(folder / "train"), read_columns(folder / "test")
    with start_run(config, MODEL, day) as run_folder:
        findings: dict[str, Any] = {"missing": {}, "drifted": {}, "correlated": {}, "inflated": {}}
        for feature in COLUMNS:
            values = _feature_metrics(feature, train[feature.name], test[feature.name], train["label"] > 0)
            metrics = {f"{metric} {feature.name}": value for metric, value in values.items()}
            run_folder.log_metrics("report", "train", metrics, len(train["label"]))
            if values["missing"] > MAX_MISSING:
                findings["missing"][feature.name] = round(values["missing"], 4)
            if values["psi"] > MAX_PSI:
                findings["drifted"][feature.name] = round(values["psi"], 4)
        return findings | _collinearity(run_folder, dense_matrix(train)) | {"run_id": run_folder.run_id}


def bin_edges(feature: Feature, values: NDArray[Any]) -> NDArray[np.float64]:
    """Inner edges of bins: deciles of a number; each of the most frequent ids of a category, others between them."""
    if isinstance(feature, Sparse):
        ids, counts = np.unique(values, return_counts=True)
        # An edge at the id and one after it make a bin of one id.
        frequent = np.sort(ids[np.argsort(-counts, kind="stable")[:BINS]])
        return np.unique(np.concatenate([frequent, frequent + 1]).astype(np.float64))
    return np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))


def bin_counts(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """(edges + 1,) rows in each of the bins that `edges` separate; an edge belongs to the bin above it."""
    bins = np.searchsorted(edges, values, side="right")  # (rows,)
    return np.bincount(bins, minlength=len(edges) + 1).astype(np.float64)


def _feature_metrics(
    feature: Feature, train: NDArray[Any], test: NDArray[Any], is_clicked: NDArray[np.bool_]
) -> dict[str, float]:
    """missing (share of zeros, which is what missing values become), psi and information of a feature."""
    edges = bin_edges(feature, train)  # of the training rows: drift is against them
    counts, clicked = bin_counts(train, edges), bin_counts(train[is_clicked], edges)
    return {
        "missing": float(np.mean(train == 0)),
        "psi": population_stability(counts, bin_counts(test, edges)),
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
