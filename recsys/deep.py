"""Scores of the day's deep model for ranking, when there is one."""

from datetime import date

import numpy as np
import torch
from numpy.typing import NDArray

from conf import Config
from conf.runs import newest_run
from features.catalog import DENSE, SPARSE
from recsys.dataset import Rows
from training.models import builder_of

BATCH = 65_536


def predict(config: Config, model: str, day: date, rows: Rows) -> NDArray[np.float64] | None:
    """Click probabilities (n,) of the newest finished run of `model` for the day; None without one."""
    name = model.replace(":", ".")
    folder = newest_run(config, name, day)
    weights = folder / "model" / f"{name}.pt" if folder else None
    if weights is None or not weights.exists():
        return None
    net = builder_of(model)(config, tuple(feature.buckets for feature in SPARSE), len(DENSE))
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    net.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(rows.sparse), BATCH):
            part = slice(start, start + BATCH)
            found.append(torch.sigmoid(net(torch.from_numpy(rows.sparse[part]), torch.from_numpy(rows.dense[part]))))
    return torch.cat(found).double().numpy() if found else np.zeros(0)
