"""Predict with a trained model: `millrace predict deepfm --date D`; `etl results` loads its answers.

A row of `predictions.parquet` is one answer: `key` (an example or an item), `answer` (which label, topic or item) and
`score`.
"""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch

from conf import Config, UserError
from conf.runs import start_run
from training.finished.trained import Trained, in_batches, newest_trained, open_trained
from training.inputs.data import item_names
from training.tasks.tasks import Classes, NextItem

SCHEMA = pa.schema([("key", pa.string()), ("answer", pa.string()), ("score", pa.float64())])


def run(config: Config, model: str, day: date, *, run_id: str | None, split: str, k: int) -> dict[str, Any]:
    """Answer every row of a split by the newest run of `model` for the day, or by the run `run_id`."""
    trained = newest_trained(config, model, day) if run_id is None else open_trained(config, run_id)
    if split not in ("train", "valid", "test"):
        raise UserError(f"no split '{split}'; choose from train, valid, test")
    with start_run(config, f"predict-{trained.model.replace(':', '.')}", day) as run:
        rows = _write(trained, split, k, run.predictions)
    return {"run_id": run.run_id, "by": trained.run_id, "rows_out": rows}


def _write(trained: Trained, split: str, k: int, path: Path) -> int:
    name = "item_id" if isinstance(trained.task, Classes) else "example_id"
    keys = _keys(trained.data.folder / split, name)
    start = rows = 0
    with pq.ParquetWriter(path, SCHEMA) as out:
        for batch in in_batches(trained, split):
            table = _answers(trained, batch, keys[start : start + len(batch)], k)
            start, rows = start + len(batch), rows + len(table)
            out.write_table(table)
    if start != len(keys):
        raise RuntimeError(f"{start} of {len(keys)} rows answered")
    return rows


def _keys(folder: Path, name: str) -> list[str]:
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    if name not in pq.read_schema(files[0]).names:
        raise UserError(f"the rows of {folder} have no {name} to be told apart by")
    keys: list[str] = ds.dataset(files).to_table(columns=[name])[name].to_pylist()
    return keys


def _answers(trained: Trained, batch: Any, keys: list[str], k: int) -> pa.Table:
    """Long: for each row one line a label, the best class, or the k best items."""
    if isinstance(trained.task, NextItem):
        names = _names(trained)
        with torch.no_grad():
            scores, best = trained.task.scores(trained.net, batch, trained.data.inputs).topk(k, dim=1)
        answer = np.array([names.get(int(i), str(int(i))) for i in best.flatten()], object)
        return _table(np.repeat(keys, best.shape[1]), answer, scores.flatten().numpy())
    answers = trained.objective.answers(batch).numpy()
    if isinstance(trained.task, Classes):
        best_class = answers.argmax(1)
        names_of = np.array(trained.data.inputs.classes, object)
        return _table(np.array(keys), names_of[best_class], answers[np.arange(len(answers)), best_class])
    labels = np.array(trained.task.labels[: answers.shape[1]], object)
    return _table(np.repeat(keys, len(labels)), np.tile(labels, len(answers)), answers.flatten())


def _table(keys: Any, answers: Any, scores: Any) -> pa.Table:
    return pa.table([pa.array(list(keys)), pa.array(list(answers)), pa.array(scores, pa.float64())], schema=SCHEMA)


def _names(trained: Trained) -> dict[int, str]:
    names: dict[int, str] = {}
    for split in ("test", "valid", "train"):
        names |= item_names(trained.data.folder, split)
    return names
