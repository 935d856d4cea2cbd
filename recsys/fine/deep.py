"""Scores of the day's deep model (`recommend.deep`) for the blend, when it was trained."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from conf import Config
from conf.runs import newest_run
from features.catalog import DENSE, LISTS, SPARSE
from features.compatibility import check_features, check_timezone
from features.dataset.names import HISTORY
from recsys.dataset import Rows, dataset_timezone
from recsys.settings import RecommendSettings
from training.inputs.batch import Batch, IdLists
from training.inputs.dataset import history_column
from training.inputs.schema import Inputs
from training.models import model_named
from training.net_settings import NetSettings
from training.saved import load_model, weights_name
from training.tasks.task import Task

BATCH_SIZE = 65_536
SIZED_FIELDS = [f"{feature.name}[{feature.buckets}]" for feature in SPARSE]
SIZED_LISTS = [f"{one.name}[{one.field.buckets}][{one.length}]" for one in LISTS]


def run_model(config: Config) -> str:
    """Name of the deep model in run folders, where a plug-in's `package.module:Class` can't have its colon."""
    return config.get(RecommendSettings).deep.replace(":", ".")


def list_columns(config: Config) -> tuple[str, ...]:
    """Columns of lists, such as the user's history, that the configured deep model may read."""
    task = model_named(config.get(RecommendSettings).deep).task
    history = history_column(config.get(NetSettings).history)
    of_task = [history if name == HISTORY else name for name in task.lists]
    return tuple(dict.fromkeys([*of_task, *(one.column for one in LISTS)]))


def predictor(config: Config, day: date, split: str) -> Callable[[Rows], NDArray[np.float64]] | None:
    """Click probabilities (rows,) of rows by the newest finished run of the deep model for the day, in batches.

    It learns from training rows only, so it may score every `split`. None when it was not trained for the day.

    Raises:
        UserError: the model is of other features, or one of its files is corrupt.
    """
    model = config.get(RecommendSettings).deep
    run = newest_run(config, run_model(config), day)
    if run is None or not (run / "model" / weights_name(model)).exists():
        return None
    net, task, inputs = load_net(config, run, dataset_timezone(config, day))

    def predict(rows: Rows) -> NDArray[np.float64]:
        scores = []
        with torch.inference_mode():
            for start in range(0, len(rows.sparse), BATCH_SIZE):
                batch = _to_batch(rows, slice(start, start + BATCH_SIZE), inputs.list_columns)
                scores.append(task.predict(net, batch, inputs)[:, 0])  # the click, of a multi-task model's outputs
        return torch.cat(scores).double().numpy() if scores else np.zeros(0)

    return predict


def load_net(config: Config, run: Path, zone: str) -> tuple[nn.Module, Task, Inputs]:
    """Load the net of a run of the configured deep model, its task, and what it reads.

    Args:
        config: `recommend.deep`.
        run: folder of the run.
        zone: time zone of the rows that it will score.

    Raises:
        UserError: the model is of other features or hours, or one of its files is corrupt.
    """
    task, inputs = model_named(config.get(RecommendSettings).deep).task, Inputs.load(run / "model")
    # Rows have the catalog's columns, whatever the net was built for.
    present = [*SIZED_FIELDS, *(feature.name for feature in DENSE), *SIZED_LISTS]
    check_features(run, [*inputs.sized_fields, *inputs.dense, *inputs.sized_sequences], present)
    check_timezone(run, zone)
    return load_model(run / "model", config).eval(), task, inputs


def _to_batch(rows: Rows, part: slice, lists: Sequence[str]) -> Batch:
    sparse, dense = torch.from_numpy(rows.sparse[part].astype(np.int64)), torch.from_numpy(rows.dense[part])
    ones = torch.ones(len(sparse))  # labels and weights, which no prediction reads
    return Batch(sparse, dense, ones, ones, tuple(_id_lists(rows.keys[name][part]) for name in lists))


def _id_lists(lists: Iterable[NDArray[np.int64]]) -> IdLists:
    """Lists of different lengths, concatenated, with their offsets."""
    rows = [np.asarray(ids, np.int64) for ids in lists]
    lengths = torch.tensor([0, *map(len, rows)], dtype=torch.int64)
    ids = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    return IdLists(torch.from_numpy(ids), lengths.cumsum(0))
