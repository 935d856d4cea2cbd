"""Promotion: a day's lists are published only if the models behind them know more than the click rate, and the fine
model is not surely worse than the champion, the newest promoted one of an earlier day, on the same test rows.
"""

import json
import logging
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.runs import PROMOTED, newest_run, read_jsonl
from features.metrics.bootstrap import bootstrap_means, percentile_interval
from features.metrics.classification import log_loss, row_log_losses
from recsys.blend import rank
from recsys.coarse import train as coarse
from recsys.dataset import examples_folder, read_rows, statistics_of
from recsys.fine import train as fine
from recsys.settings import RecommendSettings

log = logging.getLogger(__name__)


def run(config: Config, day: date) -> dict[str, Any]:
    """Write `runs/promoted/<day>.json`, which `etl results` publishes, or say why not: then the champion's lists stay.

    Raises UserError when a model was not trained at all.
    """
    runs = config.get(Paths).runs
    chosen: dict[str, str] = {}
    for model in (coarse.MODEL, fine.MODEL, rank.MODEL):
        folder = newest_run(config, model, day)
        if folder is None:
            raise UserError(f"nothing to promote: no {model} run for {day}")
        chosen[model] = folder.name
    reasons = _no_better_than_constant(
        config, day, {model: runs / chosen[model] for model in (coarse.MODEL, fine.MODEL)}
    )
    decision: dict[str, Any] = dict(chosen)
    champion = champion_of(runs, day)
    if champion is not None and not reasons:
        change, low, high = compare(config, day, runs / chosen[fine.MODEL], runs / champion)
        decision |= {"champion": champion, "loss_change": change, "loss_change_low": low, "loss_change_high": high}
        if low > config.get(RecommendSettings).max_worse:
            reasons.append(
                f"the fine model is surely worse than the champion {champion}: "
                f"log loss {change:+.2%} ({low:+.2%} to {high:+.2%})"
            )
    path = runs / PROMOTED / f"{day}.json"
    if reasons:
        log.warning("not promoted: %s; the lists of the champion stay", "; ".join(reasons))
        path.unlink(missing_ok=True)
        return {**decision, "promoted": False, "reasons": reasons}
    write_atomically(path, json.dumps(chosen, indent=2))
    return {**decision, "promoted": True}


def champion_of(runs: Path, day: date) -> str | None:
    """Run id of the fine model that was promoted last before `day`."""
    for path in sorted((runs / PROMOTED).glob("*.json"), reverse=True):
        run_id = str(json.loads(path.read_text())[fine.MODEL])
        if date.fromisoformat(path.stem) < day and (runs / run_id / "model").exists():
            return run_id
    return None


def compare(config: Config, day: date, challenger: Path, champion: Path) -> tuple[float, float, float]:
    """Relative change of the log loss on the day's test rows, and its 95 % interval, by bootstrap over users."""
    rows = read_rows(examples_folder(config, day) / "test", fine.KEYS)
    statistics = statistics_of(config, day)
    # The champion as it served: it has learned all that was known when it was promoted.
    losses = [
        row_log_losses(rows.label, fine.load(folder, statistics, state).predict(rows))
        for folder, state in ((challenger, "test"), (champion, "serve"))
    ]
    user = rows.keys["user_id"].factorize()[0]
    change = np.bincount(user, losses[0] - losses[1])
    low, high = percentile_interval(bootstrap_means(change, np.bincount(user, losses[1])))
    return float(change.sum() / losses[1].sum()), low, high


def _no_better_than_constant(config: Config, day: date, folders: dict[str, Path]) -> list[str]:
    """Models whose log loss on the validation rows is no better than that of always saying their click rate."""
    label = read_rows(examples_folder(config, day) / "valid").label
    constant = log_loss(label, np.full(len(label), label.mean()))
    reasons = []
    for model, folder in folders.items():
        loss = _metric(folder, "log_loss")
        if not loss < constant:
            reasons.append(
                f"{model} has log loss {loss:.4f} on the validation rows, the constant click rate {constant:.4f}"
            )
    return reasons


def _metric(folder: Path, metric: str) -> float:
    rows = read_jsonl(folder / "metrics.jsonl")
    return next(float(row["value"]) for row in rows if (row["split"], row["metric"]) == ("valid", metric))
