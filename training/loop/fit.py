"""The one training loop: batches, steps, evaluation, checkpoints. It knows a `Worker` and nothing of launchers.

`fit` is the story, from top to bottom; what it calls is below it, in the order of the calls.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conf import UserError
from training import transfer
from training.diagnose import LossSum, where_not_finite
from training.evaluate import evaluate
from training.inputs.batch import Batch
from training.inputs.device_copy import Step, copy_ahead
from training.inputs.feed import read_epoch
from training.inputs.sampling import apply_sampling
from training.loop.job import Job
from training.loop.save import publish_best, save_epoch, save_step
from training.loop.state import Position, TrainingState, start_or_resume
from training.nn import sharded_embedding
from training.nn.acceleration import autocast
from training.optim.schedules import epochs_without_gain
from training.settings import TrainSettings
from training.tasks.losses import penalty
from training.workers import Worker

TIMINGS = ("started_at", "seconds", "rows_per_s")


def _ignore(_: Any) -> None:
    """The default of every hook."""


@dataclass(frozen=True)
class Hooks:
    """Functions that the loop calls on every rank; what one of them raises ends the training there."""

    on_batches: Callable[[list[Batch]], None] = _ignore
    """Gets the batches of a step before it is taken."""
    before_update: Callable[[Position], None] = _ignore
    """Called when the gradients of a step are there and no weight has changed yet."""


def fit(
    worker: Worker, job: Job, measured: Sequence[str] = ("valid", "test"), hooks: Hooks | None = None
) -> dict[str, float]:
    """Train to the last epoch, from the newest checkpoint in the run folder if there is one.

    Everything random follows from seed, epoch, step and rank: a resumed run ends with the weights of an unbroken one.

    Args:
        worker: this process among those that train together; every rank must call `fit`.
        job: model, data set, settings and run folder.
        measured: splits whose metrics are returned, by the best checkpoint.
        hooks: called on the way, to look into the training or to end it.

    Returns:
        `{split}_{metric}` of the measured splits, on every rank.

    Raises:
        UserError: a metric of `train.metrics` can't be imported (before the first step); a loss is not finite (named
            with its step and layer); a checkpoint can't be written, or it is of other features.
    """
    hooks = hooks or Hooks()
    settings = job.config.get(TrainSettings)
    train_feed = job.feed("train", worker)
    state = start_or_resume(worker, job, steps_per_epoch=math.ceil(train_feed.num_steps() / settings.accumulate))
    position = state.position

    # Steps between looks at the losses: a look waits for the GPU, on a CPU it costs nothing.
    loss_steps = settings.loss_steps or (1 if worker.device.type == "cpu" else 20)
    while position.epoch < settings.epochs:
        # By the losses in the checkpoint, so that a resumed run stops at the same epoch.
        if settings.patience and epochs_without_gain(position.losses) >= settings.patience:
            break
        started, rows_before = time.time(), position.row_sum  # a resumed epoch has rows already
        state.objective.train()
        transfer.thaw(state.objective, job.config, position.epoch)
        loss_sum = LossSum(loss_steps)  # of this rank since the last exchange
        steps_left = train_feed.num_steps(position.epoch, position.done)
        feed = (apply_sampling(batch, settings) for batch in read_epoch(train_feed, position.epoch, position.done))
        for batches in copy_ahead(_chunked(feed, settings.accumulate), worker.device):
            hooks.on_batches(batches.host)
            loss, weight = _accumulate_gradients(state, batches)
            _require_finite(state, loss_sum.add(position.step, loss, weight), batches.host)
            hooks.before_update(position)
            _update_weights(state)
            steps_left -= len(batches.host)
            position.add_batches(worker.world_size, len(batches.host))
            position.step += 1
            # Not after the last step of an epoch: the epoch's own checkpoint follows at once.
            if settings.checkpoint_steps and steps_left and position.step % settings.checkpoint_steps == 0:
                _add_losses(state, loss_sum, batches.host)
                loss_sum = LossSum(loss_steps)
                save_step(state)
        _add_losses(state, loss_sum, [])

        train_loss = position.loss_sum / max(position.row_sum, 1.0)
        seconds, rows = time.time() - started, position.row_sum - rows_before
        # By `objective`, not by `module`: DDP wraps `forward` alone, and predictions have no gradients to average.
        metrics = evaluate(state.objective, job.feed("valid", worker), worker, precision=settings.precision)
        metrics |= {"epoch": float(position.epoch), "train_loss": train_loss}
        metrics |= {"started_at": started, "seconds": seconds, "rows_per_s": rows / max(seconds, 1e-9)}
        position.start_next_epoch(_monitored_loss(metrics, settings.monitor))
        save_epoch(state, metrics)
        worker.report(metrics)

    return publish_best(state, measured)


def _accumulate_gradients(state: TrainingState, batches: Step) -> tuple[Tensor, float]:
    """Backward passes of one step; returns the sum of the rows' losses, on the device, and of their weights.

    A batch's loss is divided by its full size, padding included, so that the average of the ranks' gradients weighs
    every row the same. Nothing in here waits for a GPU.
    """
    settings, position, worker = state.settings, state.position, state.worker
    # Dropout and draws follow from the step, so that a resumed run is the same as an unbroken one.
    torch.manual_seed(hash((settings.seed, position.epoch, position.step, worker.rank)) % 2**63)
    state.rates.set(position.step, position.losses)
    state.optimizer.zero_grad()
    loss_sum = torch.zeros((), device=worker.device)
    for i, batch in enumerate(batches.device):
        is_last = i == len(batches.device) - 1
        # Averaging once a step is enough: gradients of the batches before the last are only added up.
        with nullcontext() if is_last else worker.no_sync(state.module), autocast(settings.precision, worker.device):
            losses = state.module(batch)  # (rows,)
            # Weighted here, not in the objective: padding has weight 0, but takes part in every collective.
            batch_sum = (losses * batch.weight).sum()
            loss = batch_sum / settings.batch_size / settings.accumulate
            if is_last:
                # Once a step, not once a batch: it is of the weights, not of the rows.
                loss = loss + penalty(state.objective.net.parameters(), state.objective.settings)
            (state.scaler.scale(loss) if state.scaler else loss).backward()
        loss_sum += batch_sum.detach()
    # Of the batches as they were read, which are on the CPU.
    return loss_sum, sum(float(batch.weight.numpy().sum(dtype=np.float64)) for batch in batches.host)


def _require_finite(state: TrainingState, failure: tuple[int, float] | None, batches: list[Batch]) -> None:
    """Raises UserError for a step whose loss is not finite, by the newest `batches`.

    With a look at each step that is before its weights change; later, the layer can only be that of the weights.
    """
    if failure is None:
        return
    step, value = failure
    where = where_not_finite(state.objective, batches, state.worker.device)
    if step < state.position.step:
        where += " by now (train.loss_steps=1 looks at each step)"
    raise UserError(
        f"the loss is {value} at step {step} of epoch {state.position.epoch}, {where}: lower train.learning_rate"
    )


def _update_weights(state: TrainingState) -> None:
    """One step of the optimizer: average the gradients where Horovod has not yet, unscale, clip, update."""
    optimizer, scaler, settings = state.optimizer, state.scaler, state.settings
    is_horovod = hasattr(optimizer, "synchronize")  # Horovod averages here; clipping must see the average
    if is_horovod:
        optimizer.synchronize()  # type: ignore[attr-defined]
    if scaler:
        sharded_embedding.share_overflow(state.objective)
        scaler.unscale_(optimizer)
    if settings.clip_norm:
        sharded_embedding.clip_grad_norm(state.objective, settings.clip_norm)
    # After clipping: a frozen layer's gradient is zero by then, and None makes the optimizer skip its decay, too.
    transfer.drop_frozen(state.objective)
    state.ratios.before(state.position.step)
    with optimizer.skip_synchronize() if is_horovod else nullcontext():  # type: ignore[attr-defined]
        if scaler:
            scaler.step(optimizer)  # skipped when a scaled gradient overflowed
            scaler.update()
        else:
            optimizer.step()
    state.ratios.after(state.position.step)


def _add_losses(state: TrainingState, sums: LossSum, batches: list[Batch]) -> None:
    """Add what the ranks have summed up since the last exchange to the epoch's sums; every rank must call it.

    Raises UserError as `_require_finite` does.
    """
    _require_finite(state, sums.read(), batches)
    worker, position = state.worker, state.position
    # Once an epoch or checkpoint, not once a step: each mean is a round trip over the network.
    position.loss_sum += worker.mean(sums.loss) * worker.world_size
    position.row_sum += worker.mean(sums.weight) * worker.world_size


def _monitored_loss(metrics: Mapping[str, float], monitor: str) -> float:
    """What the epochs are compared by, the smaller the better: log_loss, or 1 less another metric.

    Raises UserError when the validation rows have no such metric.
    """
    if monitor not in metrics:
        names = [name for name in metrics if name not in ("rows", "epoch", "train_loss", *TIMINGS)]
        raise UserError(f"train.monitor={monitor} is no metric of the validation rows; choose from {', '.join(names)}")
    return metrics[monitor] if monitor == "log_loss" else 1 - metrics[monitor]


def _chunked(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches; the last may be shorter."""
    chunk: list[Batch] = []
    for batch in batches:
        chunk.append(batch)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
