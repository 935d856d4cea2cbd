"""Whether the stack's probabilities are right at every place and for items that were shown little: `ads_model_metric`.

A model can be right on average and wrong for what the old site hid: new lists show just that.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from conf.runs import Run
from features.dataset.names import WEIGHT
from features.metrics.classification import calibration_curve
from recsys.blend.judge import positions
from recsys.dataset import Rows

# First place, and least number of impressions, of each bucket: a metric's k.
STARTS: Mapping[str, tuple[int, ...]] = {
    "position": (1, 2, 3, 5, 8, 12, 20, 50),
    "exposure": (0, 1, 10, 30, 100, 300, 1000, 3000, 10000, 100000),
}

Floats = NDArray[np.float64]


def buckets(rows: Rows, exposure: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """(rows,) bucket of each row by its place in the list, and by the impressions of its item before, by its start."""
    values = {"position": np.maximum(positions(rows), 1), "exposure": exposure}
    starts = {name: np.array(bounds) for name, bounds in STARTS.items()}
    return {name: starts[name][np.searchsorted(starts[name], each, side="right") - 1] for name, each in values.items()}


def exposures(folder: Path, rows: Rows, *, is_sampled: bool) -> NDArray[np.int64]:
    """(rows,) impressions of each row's item in the training and validation rows of a training set.

    Args:
        folder: of the training set.
        rows: with `item_id`.
        is_sampled: whether training rows were drawn, so that each stands for as many as it weighs.
    """
    counts: Counter[str] = Counter()
    for split in ("train", "valid"):
        is_weighted = is_sampled and split == "train"
        columns = ["item_id", WEIGHT] if is_weighted else ["item_id"]
        table = ds.dataset([str(path) for path in (folder / split).glob("*.parquet")]).to_table(columns=columns)
        summed = table.group_by("item_id").aggregate([(WEIGHT, "sum") if is_weighted else ("item_id", "count")])
        counts.update(dict(zip(summed["item_id"].to_pylist(), summed.columns[-1].to_pylist(), strict=True)))
    shown: Floats = rows.keys["item_id"].map(counts).fillna(0).to_numpy(np.float64)
    return np.rint(shown).astype(np.int64)


def group_error(label: Floats, predicted: Floats, group: NDArray[np.int64]) -> float:
    """Mean |prediction − click rate| over the groups, each of them as one bin, weighted by its rows."""
    _, code = np.unique(group, return_inverse=True)
    rows = np.bincount(code)
    return float(np.abs(np.bincount(code, predicted) - np.bincount(code, label)).sum() / rows.sum())


def noise_floor(predicted: Floats, group: NDArray[np.int64]) -> float:
    """`group_error` to expect of right probabilities: E|N(0, Σ p(1 − p))| over each group's rows, by chance alone."""
    _, code = np.unique(group, return_inverse=True)
    return float(np.sqrt(2 / np.pi * np.bincount(code, predicted * (1 - predicted))).sum() / len(code))


def log_reliability(
    run: Run, model: str, label: NDArray[np.floating], predicted: Floats, groups: Mapping[str, NDArray[np.int64]]
) -> dict[str, float]:
    """Log the reliability curve of all rows, and by each kind of bucket the error and what it is made of.

    Args:
        run: of the day.
        model: whose predictions they are.
        label: (rows,) clicks.
        predicted: (rows,).
        groups: of `buckets`.

    Returns:
        `ece_by_position` and `ece_by_exposure`; what chance alone would give is logged beside each, as `_floor`.
    """
    clicks = np.asarray(label, np.float64)
    for k, (mean, clicked, count) in enumerate(calibration_curve(clicks, predicted), 1):
        run.log_metric("evaluate", "test", "calibration_predicted", mean, int(count), k=k, model=model)
        run.log_metric("evaluate", "test", "calibration_clicked", clicked, int(count), k=k, model=model)
    errors = {}
    for name, group in groups.items():
        errors[f"ece_by_{name}"] = error = group_error(clicks, predicted, group)
        run.log_metric("evaluate", "test", f"ece_by_{name}", error, len(clicks), model=model)
        floor = noise_floor(predicted, group)
        run.log_metric("evaluate", "test", f"ece_by_{name}_floor", floor, len(clicks), model=model)
        for start in np.unique(group).tolist():
            chosen = group == start
            for suffix, values in (("predicted", predicted), ("clicked", clicks)):
                metric, value = f"{name}_{suffix}", float(values[chosen].mean())
                run.log_metric("evaluate", "test", metric, value, int(chosen.sum()), k=start, model=model)
    return errors
