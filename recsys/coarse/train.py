"""Coarse ranking: gradient-boosted trees (LightGBM) on dense features and small categories."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.runs import start_run
from conf.versions import describe_version
from features.catalog import DENSE, SPARSE
from features.dataset.names import WEIGHT
from recsys import calibration
from recsys.dataset import Rows, examples_folder, read_rows
from recsys.settings import CoarseSettings

MODEL = "lightgbm"
KEYS = ["user_id", "at_s"]  # a list: what one user was shown at one moment
# Ids of users and items are for the fine ranker; trees take categories with few values.
CATEGORIES = [i for i, feature in enumerate(SPARSE) if feature.buckets <= 256]
NAMES = [*[feature.name for feature in DENSE], *[SPARSE[i].name for i in CATEGORIES]]
CURVE = "curve.npz"


def run(config: Config, day: date) -> dict[str, Any]:
    """Train on the day's training set, stop early by its validation rows, and leave a run folder."""
    folder = examples_folder(config, day)
    with start_run(config, MODEL, day) as run:
        run.log_dataset(describe_version(folder))
        parts = {split: read_rows(folder / split, KEYS) for split in ("train", "valid", "test")}
        model = train(parts["train"], parts["valid"], config.get(CoarseSettings))
        model.save_model(str(run.model_folder / "model.txt"))
        _save_curve(run.model_folder, model, parts["valid"])
        ranker = load(run.folder)
        report: dict[str, Any] = {"run_id": run.run_id, "trees": model.best_iteration}
        for name, gain in zip(NAMES, model.feature_importance("gain"), strict=True):
            run.log_metric("coarse", "train", f"importance {name}", float(gain), len(parts["train"].label))
        for split in ("valid", "test"):
            rows = parts[split]
            report |= calibration.log_clicks(run, "coarse", split, rows, ranker.predict(rows))
    return report


def train(
    rows: Rows, valid: Rows, settings: CoarseSettings, callbacks: Sequence[Callable[[Any], None]] = ()
) -> lgb.Booster:
    """A booster with the number of trees that suited the validation rows best; `callbacks` are LightGBM's, by tree."""
    ranking = settings.objective == "lambdarank"
    categorical = [SPARSE[i].name for i in CATEGORIES]
    about = {"feature_name": NAMES, "categorical_feature": categorical, "free_raw_data": False}
    groups = [lists_of(part) if ranking else None for part in (rows, valid)]
    data = lgb.Dataset(matrix(rows), rows.label, weight=rows.keys.get(WEIGHT), group=groups[0], **about)
    held_out = lgb.Dataset(matrix(valid), valid.label, group=groups[1], reference=data, **about)
    parameters = {
        "objective": settings.objective,
        "num_leaves": settings.num_leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.min_rows_in_leaf,
        "cat_smooth": 20,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_share,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    } | ({"metric": "ndcg", "eval_at": [10]} if ranking else {})
    stop = lgb.early_stopping(settings.patience, verbose=False)
    return lgb.train(parameters, data, settings.rounds, valid_sets=[held_out], callbacks=[*callbacks, stop])


def lists_of(rows: Rows) -> NDArray[np.int64]:
    """Lengths of the lists, as LightGBM groups rows; those of a list stand together."""
    user, at = rows.keys["user_id"].to_numpy(), rows.keys["at_s"].to_numpy()
    starts = np.flatnonzero(np.append(True, (user[1:] != user[:-1]) | (at[1:] != at[:-1])))
    return np.diff(np.append(starts, len(user)))


class Coarse:
    """A booster and, for one that was trained to order, the curve that makes its scores probabilities."""

    def __init__(self, booster: lgb.Booster, curve: calibration.Calibrator | None) -> None:
        self.booster = booster
        self.curve = curve

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Click probabilities (n,); safe from several threads."""
        scores: NDArray[np.float64] = np.asarray(self.booster.predict(matrix(rows)))
        return scores if self.curve is None else self.curve(1 / (1 + np.exp(-scores)))


def load(folder: Path) -> Coarse:
    """The ranker of a run folder."""
    booster = lgb.Booster(model_file=str(folder / "model/model.txt"))
    path = folder / "model" / CURVE
    if not path.exists():
        return Coarse(booster, None)
    with np.load(path) as saved:
        return Coarse(booster, calibration.Calibrator(saved["x"], saved["y"]))


def _save_curve(folder: Path, model: lgb.Booster, valid: Rows) -> None:
    if model.params.get("objective") != "lambdarank":
        return
    scores = np.asarray(model.predict(matrix(valid)))
    curve = calibration.fit("platt", valid.label, 1 / (1 + np.exp(-scores)))
    np.savez(folder / CURVE, x=curve.x, y=curve.y)


def matrix(rows: Rows) -> NDArray[np.float32]:
    """(n, dense + categories) as LightGBM takes it."""
    return np.concatenate([rows.dense, rows.sparse[:, CATEGORIES].astype(np.float32)], axis=1)
