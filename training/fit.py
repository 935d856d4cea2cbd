"""The one training loop: reads batches, steps, evaluates, checkpoints. It knows a Worker and nothing of launchers."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from conf import Config, UserError
from training import checkpoint
from training.feed import FeedSpec, epoch, whole
from training.metrics import auc, log_loss
from training.models import builder_of
from training.settings import TrainSettings
from training.workers import Worker

log = logging.getLogger(__name__)

HISTORY = "history.jsonl"
NUMBERS = ("auc", "log_loss", "rows")
FINAL_NUMBERS = tuple(f"{split}_{name}" for split in ("valid", "test") for name in NUMBERS)


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where its run folder is; plain values, so that it travels to any worker."""

    config: Config
    model: str
    dataset: Path
    run_folder: Path
    sparse: tuple[str, ...]
    dense: tuple[str, ...]
    buckets: tuple[int, ...]

    def feed(self, split: str, settings: TrainSettings, worker: Worker) -> FeedSpec:
        return FeedSpec(
            self.dataset / split,
            self.sparse,
            self.dense,
            settings.batch_size,
            worker.rank,
            worker.world_size,
            settings.shuffle_rows,
            settings.seed,
        )


def fit(worker: Worker, job: Job) -> dict[str, float]:
    """Train to the last epoch, from the newest checkpoint in the run folder if there is one.

    Returns AUC and log loss of the valid and test rows, by the best checkpoint. Raises UserError on a loss that is not
    finite, naming the step.
    """
    settings = job.config.get(TrainSettings)
    torch.manual_seed(settings.seed)
    model = builder_of(job.model)(job.config, job.buckets, len(job.dense)).to(worker.device)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate * worker.world_size, weight_decay=settings.weight_decay
    )
    done = _resume(job, model, optimizer)
    parallel, stepper = worker.prepare(model, optimizer)
    train = job.feed("train", settings, worker)
    for number in range(done, settings.epochs):
        # Dropout of an epoch follows from its number, so that a resumed run is the same as an unbroken one.
        torch.manual_seed(settings.seed + 1000 * number + worker.rank)
        loss = worker.mean(_train_epoch(worker, parallel, stepper, train, number, settings))
        numbers = _on_first_rank(worker, NUMBERS, lambda: _evaluate(model, job.feed("valid", settings, worker), worker))
        numbers |= {"epoch": float(number), "train_loss": loss}
        if worker.rank == 0:
            _keep(job, settings, number, numbers, model, optimizer)
            log.info(
                "epoch %d: train loss %.4f, valid AUC %.4f, log loss %.4f",
                number,
                loss,
                numbers["auc"],
                numbers["log_loss"],
            )
        worker.report(numbers)
    return _on_first_rank(worker, FINAL_NUMBERS, lambda: _final(job, settings, model, worker))


def _train_epoch(
    worker: Worker,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    spec: FeedSpec,
    number: int,
    settings: TrainSettings,
) -> float:
    """One pass; returns this rank's mean loss a row. A batch's loss is divided by its full size, padding included, so
    that the average of the ranks' gradients weighs every row the same."""
    model.train()
    total, rows = 0.0, 0.0
    for step, batch in enumerate(epoch(spec, number)):
        batch = batch.to(worker.device)
        optimizer.zero_grad()
        logits = model(batch.sparse, batch.dense)
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, batch.label, weight=batch.weight, reduction="sum"
        )
        loss = losses / spec.batch_size
        loss.backward()  # type: ignore[no-untyped-call]
        if hasattr(optimizer, "synchronize"):  # Horovod averages here; clipping must see the average
            optimizer.synchronize()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        with optimizer.skip_synchronize() if hasattr(optimizer, "skip_synchronize") else nullcontext():
            optimizer.step()
        value = float(losses.detach())
        if not math.isfinite(value):
            raise UserError(f"the loss is {value} at step {step} of epoch {number}: lower train.learning_rate")
        total += value
        rows += float(batch.weight.sum())
    return total / max(rows, 1.0)


def predict(model: nn.Module, spec: FeedSpec, device: torch.device) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities and labels of a whole split, (rows,) each, in the order of the files."""
    model.eval()
    scores, labels = [], []
    with torch.no_grad():
        for batch in epoch(whole(spec), 0):
            kept = batch.weight > 0
            batch = batch.to(device)
            scores.append(torch.sigmoid(model(batch.sparse, batch.dense)).cpu()[kept])
            labels.append(batch.label.cpu()[kept])
    return torch.cat(scores).numpy(), torch.cat(labels).numpy()


def _evaluate(model: nn.Module, spec: FeedSpec, worker: Worker) -> dict[str, float]:
    scores, labels = predict(model, spec, worker.device)
    return {"auc": auc(labels, scores), "log_loss": log_loss(labels, scores), "rows": float(len(labels))}


def _final(job: Job, settings: TrainSettings, model: nn.Module, worker: Worker) -> dict[str, float]:
    """Numbers of the best checkpoint on both held-out splits; its weights become the run's model."""
    path = checkpoint.best(job.run_folder / "checkpoints")
    state = checkpoint.load(path) if path else None
    if state is None:
        raise UserError(f"no whole checkpoint in {job.run_folder}")
    model.load_state_dict(state["model"])
    torch.save(model.state_dict(), job.run_folder / "model" / f"{job.model.replace(':', '.')}.pt")
    found = {split: _evaluate(model, job.feed(split, settings, worker), worker) for split in ("valid", "test")}
    return {f"{split}_{name}": value for split, numbers in found.items() for name, value in numbers.items()}


def _on_first_rank(worker: Worker, names: Sequence[str], compute: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Compute numbers called `names` on rank 0 while the others wait; every rank gets them."""
    mine = compute() if worker.rank == 0 else dict.fromkeys(names, 0.0)
    return {name: worker.mean(mine[name]) * worker.world_size for name in names}


def _resume(job: Job, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest whole checkpoint of the run folder; returns how many epochs are done."""
    state = checkpoint.load_newest(job.run_folder / "checkpoints")
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("going on after epoch %d", state["epoch"])
    return int(state["epoch"]) + 1


def _keep(
    job: Job,
    settings: TrainSettings,
    number: int,
    numbers: dict[str, float],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    state: dict[str, Any] = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": number}
    checkpoint.save(job.run_folder / "checkpoints", number, numbers["log_loss"], state, settings.keep_best)
    with (job.run_folder / HISTORY).open("a", encoding="utf-8") as out:
        out.write(json.dumps(numbers) + "\n")
