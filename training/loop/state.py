"""What changes while a job trains: weights, optimizer and position; as they start, or as a checkpoint has them."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from conf import UserError
from features.compatibility import OtherFeaturesError, trained_version
from training import saved, transfer
from training.diagnose import UpdateRatios
from training.evaluate import import_metrics
from training.inputs.dataset import ITEMS_FILE
from training.inputs.plan import CompletedSteps
from training.inputs.schema import Inputs
from training.loop import checkpoint, shards
from training.loop.job import Job
from training.models import model_named
from training.net_settings import NetSettings
from training.nn.acceleration import accelerate
from training.nn.initialise import initialise_weights
from training.nn.layers import use_sparse_gradients
from training.nn.sharded_embedding import sharded_modules, sharded_tables
from training.optim.optimizers import make_optimizer, with_embedding_decay
from training.optim.rates import LearningRates
from training.settings import OptimizerSettings, ScheduleSettings, TrainSettings
from training.tasks.objective import Objective
from training.workers import Worker

log = logging.getLogger(__name__)


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


def start_or_resume(worker: Worker, job: Job, *, steps_per_epoch: int) -> TrainingState:
    """Model and optimizer as they start, or as the newest whole checkpoint has them."""
    config = job.config
    settings = config.get(TrainSettings)
    net = config.get(NetSettings)
    with sharded_tables(net.sharded):
        objective = build_objective(job)
    if net.sharded and not sharded_modules(objective):
        raise UserError(f"net.sharded: {job.model} has no table that can be sharded; leave it out")
    if net.sparse_gradients:
        use_sparse_gradients(objective)
    objective.to(worker.device)
    for teacher in objective.teacher:  # not a submodule, so `objective.to` leaves it where it is
        teacher.to(worker.device)

    newest = _load_checkpoint(job)
    if newest is not None:
        saved_state, rows = newest
        shards.load_weights(objective, saved_state["model"], rows)
    groups = with_embedding_decay(transfer.parameter_groups(objective, config), objective, settings.embedding_decay)
    optimizer = make_optimizer(groups, settings, config.get(OptimizerSettings), by_rows=net.sparse_gradients)
    accelerate(objective.net, settings, worker.device)
    module, optimizer = worker.prepare(objective, optimizer, settings.accumulate)
    scaler = torch.amp.GradScaler("cuda") if _is_float16(settings, worker) else None
    position = Position()
    if newest is not None:
        slots = shards.optimizer_slots(objective, saved_state["optimizer"], optimizer, rows)
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


def _load_checkpoint(job: Job) -> tuple[dict[str, Any], shards.SavedRows] | None:
    """The newest whole checkpoint and its rows, or None. Raises UserError when it is of other features."""
    newest = checkpoint.load_newest(job.run_folder / "checkpoints")
    if newest is not None and (version := newest[0]["version"]) != job.version:
        raise UserError(
            f"the checkpoints of {job.run_folder.name} are of features {version}, the data set has "
            f"{job.version}: train anew, without --resume"
        )
    return newest


def _is_float16(settings: TrainSettings, worker: Worker) -> bool:
    """Whether losses have to be scaled. Raises UserError for float16 on a CPU."""
    if settings.precision != "float16":
        return False
    if worker.device.type != "cuda":
        raise UserError("train.precision=float16 needs a GPU; bfloat16 and float32 work everywhere")
    return True
