"""The one training loop: batches, steps, evaluation, checkpoints. It knows a `Worker` and nothing of launchers.

`fit` is the story, from top to bottom; what it calls is below it, in the order of the calls.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from conf import Config, UserError
from features.compatibility import OtherFeaturesError, check_timezone, trained_version
from training import checkpoint, saved, transfer
from training.diagnose import LossSum, UpdateRatios, where_not_finite
from training.evaluate import evaluate, import_metrics
from training.inputs.batch import Batch, Columns
from training.inputs.dataset import ITEMS_FILE, TaskDataset, write_item_catalog
from training.inputs.device_copy import Step, copy_ahead
from training.inputs.feed import FeedSpec, read_epoch
from training.inputs.plan import CompletedSteps
from training.inputs.row_groups import LocalCache
from training.inputs.sampling import apply_sampling
from training.inputs.schema import Inputs
from training.models import model_named
from training.net_settings import NetSettings
from training.nn import sharded_embedding
from training.nn.acceleration import accelerate, autocast
from training.nn.initialise import initialise_weights
from training.nn.layers import use_sparse_gradients
from training.optim.optimizers import make_optimizer, with_embedding_decay
from training.optim.rates import LearningRates
from training.optim.schedules import epochs_without_gain
from training.settings import OptimizerSettings, ScheduleSettings, TrainSettings
from training.tasks.losses import penalty
from training.tasks.objective import Objective
from training.workers import Worker

log = logging.getLogger(__name__)

HISTORY = "history.jsonl"  # one line an epoch, in the run folder
TIMINGS = ("started_at", "seconds", "rows_per_s")


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where its run folder is; plain values, so that it travels to any worker."""

    config: Config
    model: str
    dataset: Path
    run_folder: Path
    inputs: Inputs
    columns: Columns
    version: str = ""
    """Of the features; a checkpoint of another version is refused."""
    start_from: Path | None = None
    """Model folder of the run whose weights training starts from."""
    teacher: Path | None = None
    """Model folder of the run whose predictions are the soft targets of distillation."""

    def without_secrets(self) -> "Job":
        """This job for workers, which need no database: an engine may write to disk what it sends them."""
        return replace(self, config=self.config.without_secrets()[0])

    @classmethod
    def prepared(
        cls,
        config: Config,
        model: str,
        dataset: TaskDataset,
        run_folder: Path,
        *,
        start_from: Path | None = None,
        teacher: Path | None = None,
    ) -> "Job":
        """A job on a data set, in a run folder with all that workers expect there; they may run on other machines.

        Raises UsageError for an unknown model, UserError for another run's model that learned other hours and days.
        """
        for other in (start_from, teacher):
            if other is not None:
                check_timezone(other.parent, dataset.timezone)
        for name in ("model", "checkpoints"):
            (run_folder / name).mkdir(parents=True, exist_ok=True)
        if model_named(model).task.needs_item_catalog:
            write_item_catalog(dataset, run_folder)
        return cls(
            config,
            model,
            dataset.folder,
            run_folder,
            dataset.inputs,
            dataset.columns,
            dataset.version,
            start_from,
            teacher,
        )

    def feed(self, split: str, worker: Worker) -> FeedSpec:
        """How this worker reads a split."""
        s = self.config.get(TrainSettings)
        return FeedSpec(
            self.dataset / split,
            self.columns,
            s.batch_size,
            worker.rank,
            worker.world_size,
            s.shuffle_rows,
            s.seed,
            s.threads,
            s.prefetch,
            LocalCache(s.cache_folder, s.cache_gb) if s.cache_folder else None,
        )


@dataclass
class Position:
    """How far training is: epoch, batches and step, and the losses so far.

    A checkpoint holds it, and everything random follows from it.
    """

    epoch: int = 0
    done: CompletedSteps = ()
    """Steps of this epoch that are done, in batches of the feed."""
    step: int = 0
    """Steps since the start, the unit of schedules."""
    loss_sum: float = 0.0
    """Of this epoch's rows, over all ranks."""
    row_sum: float = 0.0
    """Weights of these rows: 0 for padding and held-out rows, counts for bagging."""
    losses: list[float] = field(default_factory=list)
    """Validation losses of the epochs so far."""

    def add_batches(self, world_size: int, batches: int) -> None:
        """Count batches that each of `world_size` ranks has learned from."""
        earlier = self.done
        if earlier and earlier[-1][0] == world_size:
            earlier, batches = earlier[:-1], earlier[-1][1] + batches
        # The number of ranks can change within an epoch, when training resumes on another cluster.
        self.done = (*earlier, (world_size, batches))

    def start_next_epoch(self, loss: float) -> None:
        """Close the epoch, whose validation loss was `loss`."""
        self.epoch, self.done, self.loss_sum, self.row_sum = self.epoch + 1, (), 0.0, 0.0
        self.losses.append(loss)


def _ignore(_: Any) -> None:
    """The default of every hook."""


@dataclass(frozen=True)
class Hooks:
    """Functions that the loop calls on every rank; what one of them raises ends the training there."""

    on_batches: Callable[[list[Batch]], None] = _ignore
    """Gets the batches of a step before it is taken."""
    before_update: Callable[[Position], None] = _ignore
    """Called when the gradients of a step are there and no weight has changed yet."""


@dataclass
class TrainingState:
    """What changes while a job trains: weights, the optimizer's slots, and the position."""

    job: Job
    worker: Worker
    objective: Objective
    module: nn.Module
    """`objective`, wrapped by the worker so that gradients are averaged over the ranks."""
    optimizer: Optimizer
    rates: LearningRates
    scaler: torch.amp.GradScaler | None
    """For float16 only, whose gradients underflow otherwise."""
    position: Position
    ratios: UpdateRatios
    settings: TrainSettings
    """Read once: each look at the configuration validates it, and every step needs them."""


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
    state = _start_or_resume(worker, job, steps_per_epoch=math.ceil(train_feed.num_steps() / settings.accumulate))
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
                _save_step(state)
        _add_losses(state, loss_sum, [])

        train_loss = position.loss_sum / max(position.row_sum, 1.0)
        seconds, rows = time.time() - started, position.row_sum - rows_before
        # By `objective`, not by `module`: DDP wraps `forward` alone, and predictions have no gradients to average.
        metrics = evaluate(state.objective, job.feed("valid", worker), worker, precision=settings.precision)
        metrics |= {"epoch": float(position.epoch), "train_loss": train_loss}
        metrics |= {"started_at": started, "seconds": seconds, "rows_per_s": rows / max(seconds, 1e-9)}
        position.start_next_epoch(_monitored_loss(metrics, settings.monitor))
        _save_epoch(state, metrics)
        worker.report(metrics)

    return _publish_best(state, measured)


def build_objective(job: Job) -> Objective:
    """The net and its loss, with weights as they start: by the seed, or of another run.

    Raises UserError for an unknown model or metric of `train.metrics`, or when no layer of the other run fits.
    """
    s = job.config.get(TrainSettings)
    torch.manual_seed(s.seed)  # all ranks start with the same weights, also those that no broadcast reaches
    model = model_named(job.model)
    net = model.build(job.config, job.inputs)
    initialise_weights(net, s.initialise)
    catalog = getattr(net, "catalog", None)
    if catalog is not None and (job.run_folder / ITEMS_FILE).exists():
        catalog.load(job.run_folder / ITEMS_FILE)
    if job.start_from is not None:
        transfer.load_body(net, job.start_from, job.inputs)
    objective = Objective(net, model.task, job.inputs, job.config)
    objective.own_metrics = import_metrics(s.metrics)
    if job.teacher is not None:
        objective.teacher.append(_load_teacher(job, job.teacher))
    return objective


def _load_teacher(job: Job, folder: Path) -> nn.Module:
    """The net of another run's model folder. Raises UserError when it can't read the batches of this one."""
    if difference := Inputs.load(folder).feature_difference(job.inputs):
        raise OtherFeaturesError(
            f"the teacher {folder.parent.name} was trained on features {trained_version(folder.parent)}, the data set "
            f"has {job.version}: {difference}; choose another"
        )
    return saved.load_model(folder, job.config).eval()


def _start_or_resume(worker: Worker, job: Job, *, steps_per_epoch: int) -> TrainingState:
    """Model and optimizer as they start, or as the newest whole checkpoint has them."""
    config = job.config
    settings = config.get(TrainSettings)
    objective = build_objective(job)
    if config.get(NetSettings).sparse_gradients:
        use_sparse_gradients(objective)
    if config.get(NetSettings).sharded:
        sharded_embedding.shard_tables(objective)  # before the optimizer, whose state has the shape of the shards
    objective.to(worker.device)
    for teacher in objective.teacher:  # not a submodule, so `objective.to` leaves it where it is
        teacher.to(worker.device)

    saved_state = _load_checkpoint(job)
    if saved_state is not None:
        sharded_embedding.load_full_weights(objective, saved_state["model"])
    groups = with_embedding_decay(transfer.parameter_groups(objective, config), objective, settings.embedding_decay)
    optimizer = make_optimizer(
        groups, settings, config.get(OptimizerSettings), by_rows=config.get(NetSettings).sparse_gradients
    )
    accelerate(objective.net, settings, worker.device)
    module, optimizer = worker.prepare(objective, optimizer, settings.accumulate)
    scaler = torch.amp.GradScaler("cuda") if _is_float16(settings, worker) else None
    position = Position()
    if saved_state is not None:
        slots = sharded_embedding.shard_optimizer_state(objective, saved_state["optimizer"], optimizer)
        # Rate, decay and betas are those of the settings in force: a search may have changed them, and another number
        # of workers has another rate.
        optimizer.load_state_dict({**slots, "param_groups": optimizer.state_dict()["param_groups"]})
        if scaler:
            scaler.load_state_dict(saved_state["scaler"])
        done = tuple(tuple(pair) for pair in saved_state["position"]["done"])
        position = Position(**{**saved_state["position"], "done": done})
        log.info("resuming in epoch %d after %d steps", position.epoch, position.step)
    rates = LearningRates(
        optimizer,
        config.get(ScheduleSettings),
        workers=worker.world_size,
        steps_per_epoch=steps_per_epoch,
        epochs=settings.epochs,
    )
    ratios = UpdateRatios(objective, settings.watch_steps)
    return TrainingState(job, worker, objective, module, optimizer, rates, scaler, position, ratios, settings)


def _load_checkpoint(job: Job) -> dict[str, Any] | None:
    """The newest whole checkpoint, or None. Raises UserError when it is of other features."""
    state = checkpoint.load_newest(job.run_folder / "checkpoints")
    if state is not None and state["version"] != job.version:
        raise UserError(
            f"the checkpoints of {job.run_folder.name} are of features {state['version']}, the data set has "
            f"{job.version}: train anew, without --resume"
        )
    return state


def _is_float16(settings: TrainSettings, worker: Worker) -> bool:
    """Whether losses have to be scaled. Raises UserError for float16 on a CPU."""
    if settings.precision != "float16":
        return False
    if worker.device.type != "cuda":
        raise UserError("train.precision=float16 needs a GPU; bfloat16 and float32 work everywhere")
    return True


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


def _save_step(state: TrainingState) -> None:
    """Write a checkpoint within the epoch, from which a run resumes at this very batch."""
    contents = _checkpoint_state(state)
    if state.worker.rank == 0:
        folder = state.job.run_folder / "checkpoints"
        checkpoint.save_step(folder, state.position.epoch, state.position.step, contents)
    state.worker.broadcast(None)  # no rank goes on before the checkpoint is there


def _save_epoch(state: TrainingState, metrics: dict[str, float]) -> None:
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


def _monitored_loss(metrics: Mapping[str, float], monitor: str) -> float:
    """What the epochs are compared by, the smaller the better: log_loss, or 1 less another metric.

    Raises UserError when the validation rows have no such metric.
    """
    if monitor not in metrics:
        names = [name for name in metrics if name not in ("rows", "epoch", "train_loss", *TIMINGS)]
        raise UserError(f"train.monitor={monitor} is no metric of the validation rows; choose from {', '.join(names)}")
    return metrics[monitor] if monitor == "log_loss" else 1 - metrics[monitor]


def _publish_best(state: TrainingState, measured: Sequence[str]) -> dict[str, float]:
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
