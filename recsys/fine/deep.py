"""Scores of the day's deep model for ranking, when there is one."""

from datetime import date

import numpy as np
import torch
from numpy.typing import NDArray

from conf import Config
from conf.runs import newest_run
from recsys.dataset import Rows
from recsys.settings import RecommendSettings
from training.inputs.batch import Batch, IdLists
from training.inputs.schema import Inputs
from training.models import model_named
from training.saved import load_model, weights_name

BATCH = 65_536


def lists(config: Config) -> tuple[str, ...]:
    """Columns of lists that the configured deep model reads, besides what all rankers do."""
    return model_named(config.get(RecommendSettings).deep).task.lists


def predict(config: Config, model: str, day: date, rows: Rows) -> NDArray[np.float64] | None:
    """Click probabilities (n,) of the newest finished run of `model` for the day; None without one."""
    run = newest_run(config, model.replace(":", "."), day)
    if run is None or not (run / "model" / weights_name(model)).exists():
        return None
    task, inputs = model_named(model).task, Inputs.load(run / "model")
    net = load_model(run / "model", config).eval()
    scores = []
    with torch.no_grad():
        for start in range(0, len(rows.sparse), BATCH):
            batch = _batch(rows, slice(start, start + BATCH), bool(task.lists))
            scores.append(task.predict(net, batch, inputs)[:, 0])
    return torch.cat(scores).double().numpy() if scores else np.zeros(0)


def _batch(rows: Rows, part: slice, has_lists: bool) -> Batch:
    sparse, dense = torch.from_numpy(rows.sparse[part]), torch.from_numpy(rows.dense[part])
    ones = torch.ones(len(sparse))
    return Batch(sparse, dense, ones, ones, (_history(rows, part),) if has_lists else ())


def _history(rows: Rows, part: slice) -> IdLists:
    lists = [np.asarray(ids, np.int64) for ids in rows.keys["history"][part]]
    lengths = torch.tensor([0, *map(len, lists)], dtype=torch.int64)
    ids = np.concatenate(lists) if lists else np.zeros(0, np.int64)
    return IdLists(torch.from_numpy(ids), lengths.cumsum(0))
