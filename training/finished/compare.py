"""Which model to take, and what is wrong with it (T17): one number to be best, others only to be good enough."""

from datetime import date
from typing import Any

from conf import Config, Paths, UserError
from conf.runs import finished_runs, read_jsonl
from training.finished.limits import Limit, sign_of
from training.finished.trained import Trained, batches_of, latency_ms, open_trained, size_mb
from training.inputs.batch import Batch
from training.inputs.sampling import is_train_dev
from training.saved import NET
from training.settings import TrainSettings


def choose(config: Config, day: date, best: str, limits: list[str]) -> dict[str, Any]:
    """Of the day's finished deep models that keep all limits (`latency_ms<=5`), the one with the best valid metric."""
    bounds = [Limit.parse(text) for text in limits]
    runs = [run for run in finished_runs(config.get(Paths).runs) if _is_of(run, day)]
    rows = [_numbers(config, run["run_id"], run["folder"]) for run in runs]
    fitting = [row for row in rows if best in row and all(bound.is_kept(row) for bound in bounds)]
    if not fitting:
        constraints = ", ".join(limits) or "no limit"
        raise UserError(f"none of {len(rows)} deep models of {day} has {best} and keeps {constraints}")
    winner = max(fitting, key=lambda row: sign_of(best) * row[best])
    return {"best": winner["run_id"], best: winner[best], "models": rows, "kept_limits": len(fitting)}


def gap(config: Config, run_id: str, best_possible: float = 0.0) -> dict[str, Any]:
    """Loss on rows learned from, rows of the same days kept aside (`train.train_dev`), and later rows.

    bias: learned rows − best possible; variance: kept aside − learned; mismatch: valid − kept aside; all in log loss.
    """
    trained = open_trained(config, run_id)
    settings = config.get(TrainSettings)
    if not settings.train_dev:
        raise UserError("set train.train_dev to the share that the run was trained with, and train with one")
    learned, aside = (_loss(trained, "train", settings, is_held_out) for is_held_out in (False, True))
    valid, test = (trained.measure(split)["log_loss"] for split in ("valid", "test"))
    losses = {"train": learned, "train_dev": aside, "valid": valid, "test": test}
    parts = {"bias": learned - best_possible, "variance": aside - learned, "mismatch": valid - aside}
    return {"run_id": run_id, "log_loss": losses, **parts, "largest": max(parts, key=lambda name: parts[name])}


def _loss(trained: Trained, split: str, settings: TrainSettings, is_held_out: bool) -> float:
    """Mean log loss of the rows of a split that are (or are not) kept aside."""
    total, rows = 0.0, 0
    for batch in batches_of(trained, split):
        chosen = is_train_dev(batch, settings) == is_held_out
        part: Batch = batch[chosen.nonzero().flatten().numpy()]
        if len(part):
            numbers = trained.task.measure(trained.objective.predict(part).numpy(), part.label.numpy())
            total, rows = total + numbers["log_loss"] * len(part), rows + len(part)
    if not rows:
        raise UserError(f"no rows of {split} are {'kept aside' if is_held_out else 'learned from'}")
    return total / rows


def _is_of(run: dict[str, Any], day: date) -> bool:
    return bool(run["dt"] == day.isoformat() and (run["folder"] / "model" / NET).exists())


def _numbers(config: Config, run_id: str, folder: Any) -> dict[str, Any]:
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if row["split"] == "valid"]
    metrics = {row["metric"] if row["k"] is None else f"{row['metric']}@{row['k']}": row["value"] for row in rows}
    trained = open_trained(config, run_id)
    return {"run_id": run_id, **metrics, "latency_ms": latency_ms(trained), "size_mb": size_mb(trained.net)}
