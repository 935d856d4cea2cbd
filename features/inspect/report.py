"""Is a training set healthy? `millrace features report --date D`, from the published files, without Spark.

Missing values, drift between training and test rows (PSI), columns that say the same (correlation, VIF, condition
number), and what each says about clicks (information value). All numbers go to the run folder, what is wrong to stdout.
"""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from conf import Config, Paths
from conf.runs import start_run
from conf.versions import current_version
from features.catalog import COLUMNS, DENSE, Feature, Sparse

MODEL = "features"
ROWS = 500_000  # of a split that are looked at: the newest
BINS = 10
DRIFTED, CORRELATED, INFLATED, ILL_CONDITIONED = 0.2, 0.8, 10.0, 1000.0


def run(config: Config, day: date) -> dict[str, Any]:
    """Measure the training set of `day`; returns what is beyond the usual limits."""
    folder = current_version(
        config.get(Paths).datasets("examples", day), command=f"millrace features build --date {day}"
    )[0]
    train, test = _read(folder / "train"), _read(folder / "test")
    dense = np.stack([train[feature.name] for feature in DENSE], axis=1)
    told: dict[str, Any] = {"missing": {}, "drifted": {}, "correlated": {}, "inflated": {}}
    with start_run(config, MODEL, day) as found:
        rows = len(train["label"])
        for feature in COLUMNS:
            values = train[feature.name]
            missing = float(np.mean(values == 0))
            edges = bins_of(feature, values)
            counts, clicked = counted(values, edges), counted(values, edges, train["label"] > 0)
            drift = psi(counts, counted(test[feature.name], edges))
            worth = information(clicked, counts - clicked)
            for metric, value in (("missing", missing), ("psi", drift), ("information", worth)):
                found.log_metric("report", "train", f"{metric} {feature.name}", value, rows)
            if missing > 0.5:
                told["missing"][feature.name] = round(missing, 4)
            if drift > DRIFTED:
                told["drifted"][feature.name] = round(drift, 4)
        for (a, b), value in correlated(dense).items():
            told["correlated"][f"{DENSE[a].name} ~ {DENSE[b].name}"] = round(value, 4)
        for place, value in enumerate(vif(dense)):
            found.log_metric("report", "train", f"vif {DENSE[place].name}", value, rows)
            if value > INFLATED:
                told["inflated"][DENSE[place].name] = round(float(value), 2)
        told["condition_number"] = round(condition_number(dense), 2)
        found.log_metric("report", "train", "condition_number", told["condition_number"], rows)
        told |= {"ill_conditioned": told["condition_number"] > ILL_CONDITIONED, "run_id": found.run_id}
    return told


def bins_of(feature: Feature, values: NDArray[Any]) -> NDArray[np.float64]:
    """Edges of bins: deciles of a number; each of the most frequent ids of a category, others between them."""
    if isinstance(feature, Sparse):
        ids, counts = np.unique(values, return_counts=True)
        often = np.sort(ids[np.argsort(-counts, kind="stable")[:BINS]])
        return np.unique(np.concatenate([often, often + 1]).astype(np.float64))
    return np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))


def counted(
    values: NDArray[Any], edges: NDArray[np.float64], which: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Rows in each of the bins that `edges` part."""
    chosen = values if which is None else values[which]
    return np.bincount(np.searchsorted(edges, chosen, side="right"), minlength=len(edges) + 1).astype(np.float64)


def psi(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Population stability index of two rows of counts: Σ (a − e) ln(a / e) over shares; under 0.1 is calm."""
    e, a = _shares(expected), _shares(actual)
    return float(np.sum((a - e) * np.log(a / e)))


def information(clicked: NDArray[np.float64], passed: NDArray[np.float64]) -> float:
    """Information value: how far the shares of clicked and of other rows lie apart; under 0.02 says little."""
    return psi(passed, clicked)


def correlated(x: NDArray[np.floating], over: float = CORRELATED) -> dict[tuple[int, int], float]:
    """{(i, j): correlation} of the columns of x (n, columns) with |correlation| > `over`."""
    matrix = np.triu(_correlation(x), 1)
    return {(int(i), int(j)): float(matrix[i, j]) for i, j in zip(*np.nonzero(np.abs(matrix) > over), strict=True)}


def vif(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Variance inflation of each column: 1 / (1 − R²) of it against the others; constant columns have 0."""
    matrix, varies = _correlation(x), x.std(axis=0) > 0
    found = np.zeros(x.shape[1])
    # A tiny ridge keeps copies of one another finite: very large, as they should be.
    kept = matrix[np.ix_(varies, varies)] + 1e-9 * np.eye(int(varies.sum()))
    found[varies] = np.diag(np.linalg.inv(kept))
    return found


def condition_number(x: NDArray[np.floating]) -> float:
    """Largest over smallest singular value of the standardised columns that vary (Belsley et al. 1980)."""
    varies = x.std(axis=0) > 0
    if not varies.any():
        return 1.0
    values = np.linalg.eigvalsh(_correlation(x)[np.ix_(varies, varies)])
    return float(np.sqrt(values[-1] / max(values[0], 1e-18)))


def _correlation(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """(columns, columns); 0 beside constant columns, 1 on the diagonal."""
    deviation = x.std(axis=0, dtype=np.float64)
    z = (x - x.mean(axis=0, dtype=np.float64)) / np.where(deviation > 0, deviation, 1)
    matrix = z.T @ z / max(len(x), 1)
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(matrix)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    # Half a row more in each bin: an empty one is rare, not impossible.
    padded = counts + 0.5
    return np.asarray(padded / padded.sum())


def _read(folder: Path) -> dict[str, NDArray[Any]]:
    names = [f"f_{feature.name}" for feature in COLUMNS]
    data = ds.dataset(sorted(str(path) for path in folder.glob("*.parquet")))
    rows = data.count_rows()
    table = data.to_table(columns=[*names, "label"]).slice(max(rows - ROWS, 0))
    return {name.removeprefix("f_"): table[name].to_numpy() for name in table.column_names}
