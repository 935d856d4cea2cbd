"""Coarse ranking: gradient-boosted trees (LightGBM, Ke et al. 2017) on dense features and small categories.

`millrace recsys coarse --date D` trains on the day's training set and leaves a run folder.
"""

import io
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.model_files import verify_model_file, write_model_file
from conf.runs import start_run
from conf.versions import describe_version
from features.catalog import DENSE, SPARSE
from features.compatibility import check_features, check_timezone
from features.dataset.names import WEIGHT
from recsys import calibration
from recsys.calibration import Calibrator
from recsys.coarse.model_text import read_trees
from recsys.dataset import Rows, dataset_timezone, examples_folder, num_rows, read_rows, trained_run
from recsys.settings import CoarseSettings

MODEL = "lightgbm"
KEYS = ["user_id", "at_s"]  # what one user was shown at one moment is a list
MAX_CATEGORY_SIZE = 256  # ids of users and items are left to the fine ranker: trees would memorise them
CATEGORIES = [i for i, feature in enumerate(SPARSE) if feature.buckets <= MAX_CATEGORY_SIZE]
NAMES = [*[feature.name for feature in DENSE], *[SPARSE[i].name for i in CATEGORIES]]
MODEL_FILE = "model.txt"
CURVE = "curve.npz"


def run(config: Config, day: date) -> dict[str, Any]:
    """Train on the day's training rows, stop early by its validation rows, measure on both and on the test rows.

    Returns:
        Run id, number of trees, and `valid_<metric>` and `test_<metric>`.

    Raises:
        UserError: there is no training set for the day.
    """
    folder = examples_folder(config, day)
    with start_run(config, MODEL, day) as run:
        run.log_dataset(describe_version(folder))
        rows, num_train = read_rows(folder / "valid", KEYS), num_rows(folder / "train")
        # The training rows are no variable: they are gone when the trees are there.
        booster = train(read_rows(folder / "train", KEYS), rows, config.get(CoarseSettings))
        write_model_file(run.model_folder / MODEL_FILE, booster.model_to_string())
        _save_curve(run.model_folder, booster, rows)
        ranker = load(run.folder)  # from its files, as it will be used
        report: dict[str, Any] = {"run_id": run.run_id, "trees": booster.best_iteration}
        for name, gain in zip(NAMES, booster.feature_importance("gain"), strict=True):
            run.log_metric("coarse", "train", f"importance {name}", float(gain), num_train)
        for split in ("valid", "test"):
            rows = rows if split == "valid" else read_rows(folder / split, KEYS)
            report |= calibration.log_click_metrics(run, "coarse", split, rows, ranker.predict(rows))
    return report


def predictor(config: Config, day: date, split: str) -> Callable[[Rows], NDArray[np.float64]]:
    """Click probabilities (rows,) of rows by the day's newest coarse ranker, for the blend.

    It learns from training rows only, so it may score every `split`.

    Raises:
        UserError: it was not trained for the day, or by another time zone's hours.
    """
    folder = trained_run(config, MODEL, day)
    check_timezone(folder, dataset_timezone(config, day))
    return load(folder).predict


def train(
    train_rows: Rows, valid_rows: Rows, settings: CoarseSettings, callbacks: Sequence[Callable[[Any], None]] = ()
) -> lgb.Booster:
    """Train a booster whose number of trees is the best for the validation rows.

    Args:
        train_rows: with KEYS when the objective is lambdarank.
        valid_rows: the same for early stopping.
        settings: the section `coarse`.
        callbacks: LightGBM's, called after each tree.
    """
    ranking = settings.objective == "lambdarank"
    if ranking:
        train_rows, valid_rows = by_list(train_rows), by_list(valid_rows)
    categorical = [SPARSE[i].name for i in CATEGORIES]
    columns = {"feature_name": NAMES, "categorical_feature": categorical}
    groups = [list_lengths(rows) if ranking else None for rows in (train_rows, valid_rows)]
    train_set = lgb.Dataset(
        feature_matrix(train_rows), train_rows.label, weight=train_rows.keys.get(WEIGHT), group=groups[0], **columns
    )
    valid_set = lgb.Dataset(
        feature_matrix(valid_rows), valid_rows.label, group=groups[1], reference=train_set, **columns
    )
    parameters = {
        "objective": settings.objective,
        "num_leaves": settings.num_leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.min_rows_in_leaf,
        "cat_smooth": 20,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_share,
        "seed": settings.seed,
        # The same trees on any number of cores.
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    } | ({"metric": "ndcg", "eval_at": [10]} if ranking else {})
    stop = lgb.early_stopping(settings.patience, verbose=False)
    return lgb.train(parameters, train_set, settings.rounds, valid_sets=[valid_set], callbacks=[*callbacks, stop])


def by_list(rows: Rows) -> Rows:
    """Rows in the order of time, those of a list (user_id, at_s) beside each other."""
    return rows[np.lexsort((rows.keys["user_id"].factorize()[0], rows.keys["at_s"].to_numpy()))]


def list_lengths(rows: Rows) -> NDArray[np.int64]:
    """Lengths of the lists (user_id, at_s), as LightGBM's `group`; the rows of a list are adjacent."""
    user, at = rows.keys["user_id"].to_numpy(), rows.keys["at_s"].to_numpy()
    starts = np.flatnonzero(np.append(True, (user[1:] != user[:-1]) | (at[1:] != at[:-1])))
    return np.diff(np.append(starts, len(user)))


def feature_matrix(rows: Rows) -> NDArray[np.float32]:
    """Features as LightGBM takes them: (rows, dense features + small categories), columns as in NAMES."""
    # One matrix has one type: float32 holds every whole number up to 2²⁴, and these categories are far below it.
    categories = rows.sparse[:, CATEGORIES].astype(np.float32)
    return np.concatenate([rows.dense, categories], axis=1)


class CoarseRanker:
    """A booster and, for the objective lambdarank, the calibrator that makes probabilities of its scores."""

    def __init__(self, booster: lgb.Booster, calibrator: Calibrator | None) -> None:
        self.booster = booster
        self.calibrator = calibrator

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Predict click probabilities (rows,); threads may share the ranker."""
        scores: NDArray[np.float64] = np.asarray(self.booster.predict(feature_matrix(rows)))
        return scores if self.calibrator is None else self.calibrator(calibration.sigmoid(scores))


def load(folder: Path) -> CoarseRanker:
    """Load the ranker of a run folder.

    Raises:
        UserError: its file is corrupt, or it was trained on other features.
    """
    path = folder / "model" / MODEL_FILE
    # Only a text that is surely whole: LightGBM's own parser does not survive a damaged one.
    text = path.read_text() if verify_model_file(path) else read_trees(path)
    booster = lgb.Booster(model_str=text)
    check_features(folder, booster.feature_name(), NAMES)
    path = folder / "model" / CURVE
    if not path.exists():
        return CoarseRanker(booster, None)
    verify_model_file(path)
    with np.load(path) as curve:
        return CoarseRanker(booster, Calibrator(curve["x"], curve["y"]))


def _save_curve(folder: Path, booster: lgb.Booster, valid_rows: Rows) -> None:
    """Calibrate the scores of lambdarank, which mean nothing but an order."""
    if booster.params.get("objective") != "lambdarank":
        return
    scores = np.asarray(booster.predict(feature_matrix(valid_rows)))
    calibrator = calibration.fit("platt", valid_rows.label, calibration.sigmoid(scores))
    buffer = io.BytesIO()
    np.savez(buffer, x=calibrator.x, y=calibrator.y)
    write_model_file(folder / CURVE, buffer.getvalue())
