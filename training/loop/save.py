"""What a job leaves in its run folder: checkpoints within and after an epoch, the history, and the best model."""

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from conf import UserError
from training import saved
from training.evaluate import evaluate
from training.loop import checkpoint, shards
from training.loop.job import HISTORY
from training.loop.state import TrainingState
from training.nn.sharded_embedding import sharded_modules

log = logging.getLogger(__name__)


def _write(state: TrainingState, path: Path, write: Callable[[dict[str, Any]], None]) -> None:
    """Rank 0 writes all that resuming needs, after every rank has written its rows of sharded tables."""
    contents: dict[str, Any] = {
        "model": state.objective.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "position": vars(state.position),
        "version": state.job.version,
        "scaler": state.scaler.state_dict() if state.scaler else {},
        "rng": torch.get_rng_state(),
    }
    if sharded_modules(state.objective):
        with checkpoint.disk_errors(path):
            files = shards.write_rows(path, contents, state.objective, state.optimizer)
        files_of_ranks: list[list[shards.RowFile]] = state.worker.gather(files)
        contents["rows"] = list(chain.from_iterable(files_of_ranks))
    if state.worker.rank == 0:
        write(contents)
    state.worker.broadcast(None)  # no rank goes on before the checkpoint is there


def save_step(state: TrainingState) -> None:
    """Write a checkpoint within the epoch, from which a run resumes at this very batch."""
    path = checkpoint.step_path(state.job.run_folder / "checkpoints", state.position.epoch, state.position.step)
    _write(state, path, partial(checkpoint.save_step, path))


def save_epoch(state: TrainingState, metrics: dict[str, float]) -> None:
    """Write the checkpoint of an epoch, add its metrics to the history and log them."""
    loss = state.worker.broadcast(state.position.losses[-1])  # it is in the name, which all ranks have to know
    path = checkpoint.epoch_path(state.job.run_folder / "checkpoints", int(metrics["epoch"]), loss)

    def write(contents: dict[str, Any]) -> None:
        checkpoint.save(path, contents, state.settings.keep_best)
        ratios = {f"update_ratio {layer}": ratio for layer, ratio in state.ratios.newest.items()}
        with (state.job.run_folder / HISTORY).open("a", encoding="utf-8") as out:
            out.write(json.dumps({**metrics, **ratios}) + "\n")
        shown = {name: value for name, value in metrics.items() if name not in ("epoch", "rows", "started_at")}
        log.info("epoch %d: %s", metrics["epoch"], ", ".join(f"{name} {value:.4f}" for name, value in shown.items()))

    _write(state, path, write)


def publish_best(state: TrainingState, measured: Sequence[str]) -> dict[str, float]:
    """Metrics of the best checkpoint on the `measured` splits; its weights become the run's model.

    Raises UserError when no checkpoint is whole.
    """
    job, worker, objective = state.job, state.worker, state.objective
    best = checkpoint.load_best(job.run_folder / "checkpoints")
    if best is None:
        raise UserError(f"no whole checkpoint in {job.run_folder}")
    contents, rows = best
    shards.load_weights(objective, contents["model"], rows)
    folder = job.run_folder / "model"
    # The net alone: teacher, centers and other parts of the objective are of no use after training.
    if worker.rank == 0:
        checkpoints = job.run_folder / "checkpoints"
        with checkpoint.disk_errors(folder), shards.whole_tables(contents["model"], rows, checkpoints) as whole:
            weights = {n.removeprefix("net."): v for n, v in whole.items() if n.startswith("net.")}
            saved.save_model(folder, job.model, weights, job.inputs, job.config)
    metrics: dict[str, float] = {}
    for split in measured:
        split_metrics = evaluate(objective, job.feed(split, worker), worker, precision=state.settings.precision)
        metrics |= {f"{split}_{name}": value for name, value in split_metrics.items()}
    return metrics
