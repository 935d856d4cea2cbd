"""Predict with a trained model: `millrace predict deepfm --date D`; `etl results` loads `predictions.parquet`.

A row of it is one prediction: `key` (an example or an item), `answer` (which label, class or item) and `score`.
"""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from conf import Config, UserError
from conf.runs import PREDICTIONS, start_run
from training.finished.trained import TrainedModel, batches_of, load_newest_model, load_trained_model
from training.inputs.dataset import item_names
from training.models import model_named

SCHEMA = pa.schema([("key", pa.string()), ("answer", pa.string()), ("score", pa.float64())])


def run(config: Config, model: str, day: date, *, run_id: str | None, split: str, k: int) -> dict[str, Any]:
    """Predict every row of a split by the newest run of `model` for the day, or by the run `run_id`.

    Args:
        model: whose newest run predicts, when no `run_id` is given.
        day: the day of the run and of its data set.
        run_id: a finished run.
        split: train, valid or test.
        k: how many items a row gets, for models of items.

    Returns:
        Run ids of the prediction and of the model, and `rows_out`, the number of predictions.

    Raises:
        UserError: there is no such run or split, or the run's model is of other features.
    """
    if ":" in model:
        model_named(model)  # who names code is willing to run it, also for a run that names it
    trained = load_newest_model(config, model, day) if run_id is None else load_trained_model(config, run_id)
    if split not in ("train", "valid", "test"):
        raise UserError(f"no split '{split}'; choose from train, valid, test")
    with start_run(config, f"predict-{trained.model.replace(':', '.')}", day) as run:
        num_predictions = _write(trained, split, k, run.folder / PREDICTIONS)
    return {"run_id": run.run_id, "by": trained.run_id, "rows_out": num_predictions}


def _write(trained: TrainedModel, split: str, k: int, path: Path) -> int:
    """Write the predictions of a split, a batch at a time, and return their number."""
    keys = _keys(trained.data.folder / split, trained.task.row_key)
    names = _item_names(trained) if trained.task.needs_item_catalog else None
    objective = trained.objective
    start = num_predictions = 0
    with pq.ParquetWriter(path, SCHEMA) as out:
        for batch in batches_of(trained, split):
            answers, scores = trained.task.answer(
                trained.net, batch, trained.data.inputs, k, lambda rows: objective.predict(rows).numpy()
            )
            table = _as_table(keys[start : start + len(batch)], answers, scores, names)
            start, num_predictions = start + len(batch), num_predictions + len(table)
            out.write_table(table)
    # Keys and batches are read by different readers, and paired by position alone.
    if start != len(keys):
        raise RuntimeError(f"{start} of {len(keys)} rows have a prediction")
    return num_predictions


def _keys(folder: Path, column: str) -> list[str]:
    """(rows,) the key of each row of a split, in the order of the feed. Raises UserError when it has no such column."""
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    if column not in pq.read_schema(files[0]).names:
        raise UserError(f"the rows of {folder} have no {column} to be told apart by")
    keys: list[str] = ds.dataset(files).to_table(columns=[column])[column].to_pylist()
    return keys


def _as_table(keys: list[str], answers: Any, scores: Any, names: dict[str, str] | None) -> pa.Table:
    """A row for each of the (rows, n) answers; numbers of items become their ids by `names`."""
    flat = list(answers.flatten())
    if names is not None:
        flat = [names.get(answer, answer) for answer in flat]
    columns = [
        pa.array(np.repeat(np.array(keys, object), answers.shape[1])),
        pa.array(flat),
        pa.array(scores.flatten(), pa.float64()),
    ]
    return pa.table(columns, schema=SCHEMA)


def _item_names(trained: TrainedModel) -> dict[str, str]:
    """Item ids by their number; a number can stand for several ids, then for the one that was chosen most."""
    names: dict[int, str] = {}
    for split in ("test", "valid", "train"):  # later ones win: the training rows are most
        names |= item_names(trained.data.folder, split)
    return {str(number): name for number, name in names.items()}
