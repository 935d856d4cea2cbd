"""Promotion: the newest lists of a day are published only if the models behind them know more than the click rate."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.runs import newest_run, read_jsonl
from recsys import coarse, rank
from recsys.fine import train as fine

MIN_AUC = 0.5


def run(config: Config, day: date) -> dict[str, Any]:
    """Write `runs/promoted/<day>.json`, which `etl results` publishes. Raises UserError when a model is no good."""
    chosen: dict[str, str] = {}
    for model in (coarse.MODEL, fine.MODEL, rank.MODEL):
        folder = newest_run(config, model, day)
        if folder is None:
            raise UserError(f"nothing to promote: no {model} run for {day}")
        chosen[model] = folder.name
        if model != rank.MODEL and (auc := _auc(folder)) <= MIN_AUC:
            raise UserError(
                f"not promoted: {model} has a validation AUC of {auc:.4f}; the lists of the day before stay"
            )
    write_atomically(config.get(Paths).runs / "promoted" / f"{day}.json", json.dumps(chosen, indent=2))
    return dict(chosen)


def _auc(folder: Path) -> float:
    rows = read_jsonl(folder / "metrics.jsonl")
    return next(float(row["value"]) for row in rows if (row["split"], row["metric"]) == ("valid", "auc"))
