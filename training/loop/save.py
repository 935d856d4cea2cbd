"""What a job leaves in its run folder: checkpoints within and after an epoch, the history, and the best model."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import torch

from conf import UserError
from training import saved
from training.evaluate import evaluate
from training.loop import checkpoint
from training.loop.job import HISTORY
from training.loop.state import TrainingState
from training.nn import sharded_embedding

log = logging.getLogger(__name__)


def _checkpoint_state(state: TrainingState) -> dict[str, Any]:
    """All that resuming needs; every rank must call it, for tables may be spread over them."""
    return {
        "model": sharded_embedding.gather_weights(state.objective),
        "optimizer": sharded_embedding.gather_optimizer_state(state.objective, state.optimizer),
        "position": vars(state.position),
        "version": state.job.version,
        "scaler": state.scaler.state_dict() if state.scaler else {},
        "rng": torch.get_rng_state(),
    }


def save_step(state: TrainingState) -> None:
    """Write a checkpoint within the epoch, from which a run resumes at this very batch."""
    contents = _checkpoint_state(state)
    if state.worker.rank == 0:
        folder = state.job.run_folder / "checkpoints"
        checkpoint.save_step(folder, state.position.epoch, state.position.step, contents)
    state.worker.broadcast(None)  # no rank goes on before the checkpoint is there


def save_epoch(state: TrainingState, metrics: dict[str, float]) -> None:
    """Write the checkpoint of an epoch, add its metrics to the history and log them."""
    contents = _checkpoint_state(state)
    if state.worker.rank == 0:
        number, run_folder = int(metrics["epoch"]), state.job.run_folder
        folder = run_folder / "checkpoints"
        checkpoint.save(folder, number, state.position.losses[-1], contents, state.settings.keep_best)
        ratios = {f"update_ratio {layer}": ratio for layer, ratio in state.ratios.newest.items()}
        with (run_folder / HISTORY).open("a", encoding="utf-8") as out:
            out.write(json.dumps({**metrics, **ratios}) + "\n")
        shown = {name: value for name, value in metrics.items() if name not in ("epoch", "rows", "started_at")}
        log.info("epoch %d: %s", number, ", ".join(f"{name} {value:.4f}" for name, value in shown.items()))
    state.worker.broadcast(None)  # no rank goes on before the checkpoint is there


def publish_best(state: TrainingState, measured: Sequence[str]) -> dict[str, float]:
    """Metrics of the best checkpoint on the `measured` splits; its weights become the run's model.

    Raises UserError when no checkpoint is whole.
    """
    job, worker, objective = state.job, state.worker, state.objective
    best = checkpoint.load_best(job.run_folder / "checkpoints")
    if best is None:
        raise UserError(f"no whole checkpoint in {job.run_folder}")
    sharded_embedding.load_full_weights(objective, best["model"])
    # The net alone: teacher, centers and other parts of the objective are of no use after training.
    if worker.rank == 0:
        weights = {n.removeprefix("net."): v for n, v in best["model"].items() if n.startswith("net.")}
        saved.save_model(job.run_folder / "model", job.model, weights, job.inputs, job.config)
    metrics: dict[str, float] = {}
    for split in measured:
        split_metrics = evaluate(objective, job.feed(split, worker), worker, precision=state.settings.precision)
        metrics |= {f"{split}_{name}": value for name, value in split_metrics.items()}
    return metrics
