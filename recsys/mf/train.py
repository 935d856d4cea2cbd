"""Bayesian matrix factorisation: train on the training set of a day: `millrace recsys mf --date D`.

Three models, as of the fine ranker: of the training rows, measured on the validation rows; of these, too, measured on
the test rows; and of all, which ranks the lists to serve.
"""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from conf import Config
from conf.atomic import read_with_checksum, write_with_checksum
from conf.runs import INPUTS, newest_run, read_jsonl, start_run
from conf.versions import describe_version
from features.compatibility import check_timezone
from features.dataset.names import WEIGHT
from recsys import calibration
from recsys.dataset import Rows, concatenate, dataset_timezone, examples_folder, read_rows
from recsys.mf import inference
from recsys.mf.encode import Encoder, OneHot
from recsys.mf.inference import Posterior, Side
from recsys.settings import MFSettings

log = logging.getLogger(__name__)

MODEL = "mf"
KEYS = ["user_id", "item_id", "at_s"]
# The model that may score a split: one that has not learned its rows. "serve" has learned all.
MODEL_FILES = {"valid": "mf_valid.npz", "test": "mf_test.npz", "serve": "mf_serve.npz"}
VERSION = 1  # of the file's layout
BLOCK_ROWS = 50_000  # that are predicted at a time


@dataclass(frozen=True)
class MFRanker:
    """A posterior with the vocabularies that it was fitted with."""

    encoder: Encoder
    posterior: Posterior

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Predict click probabilities (rows,), a block of rows at a time.

        Args:
            rows: with the keys user_id and item_id; users and items may be new.
        """
        encoder, posterior = self.encoder, self.posterior
        user, item = encoder.user_codes(rows), encoder.item_codes(rows)
        offset = posterior.intercept + encoder.context_offsets(rows, posterior.context)
        probabilities = np.empty(len(user))
        for start in range(0, len(user), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            ids, of_user, of_item = rows.sparse[block], user[block], item[block]
            probabilities[block] = inference.predict(
                posterior.users, of_user, _means(posterior.users, of_user, ids, encoder.user_side_of),
                posterior.items, of_item, _means(posterior.items, of_item, ids, encoder.item_side.transform),
                offset[block],
            )  # fmt: skip
        return probabilities


def train(rows: Rows, settings: MFSettings) -> MFRanker:
    """Train on rows with the keys user_id and item_id, and `weight` of a sampled training set."""
    encoder = Encoder.fit(rows)
    weight = rows.keys[WEIGHT].to_numpy(np.float32) if WEIGHT in rows.keys else np.ones(len(rows.label), np.float32)
    feedback = encoder.feedback(rows, weight)
    users, items = encoder.user_features(rows, weight), encoder.item_features(rows)
    return MFRanker(encoder, inference.fit(feedback, users, items, settings))


def run(config: Config, day: date) -> dict[str, Any]:
    """Train on the day's training set, and leave a run folder with the models of MODEL_FILES.

    Returns:
        Run id, `valid_<metric>` and `test_<metric>`.

    Raises:
        UserError: there is no training set for the day.
    """
    folder, settings = examples_folder(config, day), config.get(MFSettings)
    with start_run(config, MODEL, day) as run:
        run.log_dataset(describe_version(folder))
        report: dict[str, Any] = {"run_id": run.run_id}
        rows = read_rows(folder / "train", KEYS)
        for split in ("valid", "test"):
            ranker, held_out = train(rows, settings), read_rows(folder / split, KEYS)
            save(ranker, run.model_folder / MODEL_FILES[split])
            report |= calibration.log_click_metrics(run, "mf", split, held_out, ranker.predict(held_out))
            rows = concatenate(rows, held_out)
        save(train(rows, settings), run.model_folder / MODEL_FILES["serve"])
    return report


def predictor(config: Config, day: date, split: str) -> Callable[[Rows], NDArray[np.float64]] | None:
    """Click probabilities (rows,) of rows by the day's newest factorisation that has not learned from `split`.

    None when it was not trained for the day.

    Raises:
        UserError: its file is corrupt, or it knows the hours of another time zone.
    """
    ranker = load_for(config, day, split)
    return None if ranker is None else ranker.predict


def load_for(config: Config, day: date, split: str) -> MFRanker | None:
    """Load the day's newest factorisation that has not learned from `split`; None when it was not trained.

    One that was trained on another version of the training set counts as none: its splits may be others.

    Raises:
        UserError: its file is corrupt, or it knows the hours of another time zone.
    """
    folder = newest_run(config, MODEL, day)
    if folder is None:
        return None
    present = examples_folder(config, day).name
    if present not in {row.get("version") for row in read_jsonl(folder / INPUTS)}:
        log.warning(
            "%s was trained on another training set than %s: run `recsys mf --date %s`", folder.name, present, day
        )
        return None
    check_timezone(folder, dataset_timezone(config, day))
    return load(folder / "model" / MODEL_FILES[split])


def save(ranker: MFRanker, path: Path) -> None:
    """Save to one file, whole or not at all."""
    encoder, posterior = ranker.encoder, ranker.posterior
    arrays: dict[str, Any] = {
        "version": np.array(VERSION),
        "age_edges": encoder.age_edges,
        "shares": encoder.shares,
        "intercept": np.array(posterior.intercept),
        "context_effects": posterior.context,
    }
    for name in ("user_side", "item_side", "context"):
        columns: OneHot = getattr(encoder, name)
        arrays |= {f"{name}_field": columns.field, f"{name}_value": columns.value}
    for name, ids, side in (("users", encoder.users, posterior.users), ("items", encoder.items, posterior.items)):
        arrays |= {name: ids, f"{name}_mean": side.mean, f"{name}_covariance": side.covariance}
        arrays |= {f"{name}_weights": side.weights, f"{name}_prior": side.prior, f"{name}_one": np.array(side.one)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_with_checksum(path, buffer.getvalue())


def load(path: Path) -> MFRanker:
    """Load what `save` wrote.

    Raises:
        UserError: the file is corrupt.
    """
    with np.load(io.BytesIO(read_with_checksum(path)), allow_pickle=False) as file:
        arrays = dict(file)
    one_hot = {
        name: OneHot(arrays[f"{name}_field"], arrays[f"{name}_value"]) for name in ("user_side", "item_side", "context")
    }
    encoder = Encoder(
        arrays["users"], arrays["items"], **one_hot, age_edges=arrays["age_edges"], shares=arrays["shares"]
    )
    users, items = (_side(arrays, name) for name in ("users", "items"))
    return MFRanker(encoder, Posterior(users, items, float(arrays["intercept"]), arrays["context_effects"]))


def _side(arrays: dict[str, NDArray[Any]], name: str) -> Side:
    mean, one = arrays[f"{name}_mean"], int(arrays[f"{name}_one"])
    features = sparse.csr_matrix((len(mean), len(arrays[f"{name}_weights"])))  # its effect is in the means already
    return Side(mean, arrays[f"{name}_covariance"], features, arrays[f"{name}_weights"], arrays[f"{name}_prior"], one)


def _means(
    side: Side,
    codes: NDArray[np.int32],
    ids: NDArray[np.integer],
    features_of: Callable[[NDArray[np.integer]], sparse.csr_matrix],
) -> NDArray[np.float64]:
    """Means (rows, size) of the vectors of some rows; the prior's for code −1."""
    if (codes >= 0).all():
        return side.mean[codes]
    is_known = codes >= 0
    mean = side.prior_mean(features_of(ids))
    mean[is_known] = side.mean[codes[is_known]]
    return mean
