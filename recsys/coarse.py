"""Coarse ranking: gradient-boosted trees (LightGBM) on dense features and small categories."""

from datetime import date
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.runs import start_run
from features.catalog import DENSE, SPARSE
from recsys.dataset import Rows, examples_folder, read_rows
from recsys.settings import CoarseSettings
from training.metrics import auc, log_loss

MODEL = "lightgbm"
# Ids of users and items are for the fine ranker; trees take categories with few values.
CATEGORIES = [i for i, feature in enumerate(SPARSE) if feature.buckets <= 256]
NAMES = [*[feature.name for feature in DENSE], *[SPARSE[i].name for i in CATEGORIES]]


def run(config: Config, day: date) -> dict[str, Any]:
    """Train on the day's training set, stop early by its validation rows, and leave a run folder."""
    folder = examples_folder(config, day)
    with start_run(config, MODEL, day) as found:
        parts = {split: read_rows(folder / split) for split in ("train", "valid", "test")}
        model = train(parts["train"], parts["valid"], config.get(CoarseSettings))
        model.save_model(str(found.model_folder / "model.txt"))
        told: dict[str, Any] = {"run_id": found.run_id, "trees": model.best_iteration}
        for split in ("valid", "test"):
            scores = predict(model, parts[split])
            for metric, value in (
                ("auc", auc(parts[split].label, scores)),
                ("log_loss", log_loss(parts[split].label, scores)),
            ):
                found.metric("coarse", split, metric, value, len(scores))
                told[f"{split}_{metric}"] = value
    return told


def train(rows: Rows, valid: Rows, settings: CoarseSettings) -> lgb.Booster:
    """A booster with the number of trees that suited the validation rows best."""
    categorical = [SPARSE[i].name for i in CATEGORIES]
    data = lgb.Dataset(
        matrix(rows), rows.label, feature_name=NAMES, categorical_feature=categorical, free_raw_data=False
    )
    held_out = lgb.Dataset(matrix(valid), valid.label, reference=data, free_raw_data=False)
    parameters = {
        "objective": "binary",
        "num_leaves": settings.num_leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.min_rows_in_leaf,
        "cat_smooth": 20,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    stop = lgb.early_stopping(settings.patience, verbose=False)
    return lgb.train(parameters, data, settings.rounds, valid_sets=[held_out], callbacks=[stop])


def load(folder: Path) -> lgb.Booster:
    """The booster of a run folder."""
    return lgb.Booster(model_file=str(folder / "model/model.txt"))


def predict(model: lgb.Booster, rows: Rows) -> NDArray[np.float64]:
    """Click probabilities (n,); safe from several threads."""
    scores: NDArray[np.float64] = np.asarray(model.predict(matrix(rows)))
    return scores


def matrix(rows: Rows) -> NDArray[np.float32]:
    """(n, dense + categories) as LightGBM takes it."""
    return np.concatenate([rows.dense, rows.sparse[:, CATEGORIES].astype(np.float32)], axis=1)
