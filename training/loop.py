"""The one training loop: reads batches, steps, evaluates, checkpoints. It knows a Worker and nothing of launchers."""

import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from conf import Config, UserError
from training import checkpoint, saved, transfer
from training.diagnose import UpdateRatios, where_not_finite
from training.evaluate import evaluate
from training.inputs.batch import Batch, Columns
from training.inputs.catalogue import FILE as CATALOGUE
from training.inputs.feed import FeedSpec, epoch
from training.inputs.plan import Done
from training.inputs.row_groups import LocalCache
from training.inputs.sampling import learned_from
from training.inputs.schema import Inputs
from training.models import model_named
from training.net_settings import NetSettings
from training.nn import sharded_embedding
from training.nn.initialise import initialise
from training.optim.optimizers import make_optimizer
from training.optim.schedules import epochs_without_gain, share_of_rate
from training.settings import OptimizerSettings, ScheduleSettings, TrainSettings
from training.tasks.objective import Objective
from training.workers import Worker

log = logging.getLogger(__name__)

HISTORY = "history.jsonl"
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


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
    """Model folder of the run that teaches by its answers."""

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
    """How far training is. A checkpoint holds it, and everything random follows from it."""

    epoch: int = 0
    done: Done = ()
    """Steps made in this epoch, in batches of the feed."""
    step: int = 0
    """Steps since the start, the unit of schedules."""
    loss_sum: float = 0.0
    """Of this epoch's rows, over all ranks."""
    row_sum: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Validation losses of the epochs so far."""

    def advanced(self, world_size: int, batches: int) -> None:
        """Note batches made by `world_size` ranks."""
        if self.done and self.done[-1][0] == world_size:
            self.done = (*self.done[:-1], (world_size, self.done[-1][1] + batches))
        else:
            self.done = (*self.done, (world_size, batches))

    def next_epoch(self, loss: float) -> None:
        self.epoch, self.done, self.loss_sum, self.row_sum = self.epoch + 1, (), 0.0, 0.0
        self.losses.append(loss)


def fit(worker: Worker, job: Job, measured: Sequence[str] = ("valid", "test")) -> dict[str, float]:
    """Train to the last epoch, from the newest checkpoint in the run folder if there is one.

    Returns the task's numbers of the splits to be `measured`, by the best checkpoint. Raises UserError on a loss that
    is not finite, naming step and layer, and on a checkpoint that can't be written.
    """
    return _Training(worker, job).run(measured)


def build_objective(job: Job) -> Objective:
    """The net and its loss, with weights as they start: by the seed, or of another run."""
    s = job.config.get(TrainSettings)
    torch.manual_seed(s.seed)
    model = model_named(job.model)
    net = model.build(job.config, job.inputs)
    initialise(net, s.initialise)
    catalogue = getattr(net, "catalog", None)
    if catalogue is not None and (job.run_folder / CATALOGUE).exists():
        catalogue.fill(job.run_folder / CATALOGUE)
    if job.start_from is not None:
        transfer.load_body(net, job.start_from)
    objective = Objective(net, model.task, job.inputs, job.config)
    if job.teacher is not None:
        objective.teacher.append(saved.load_model(job.teacher, job.config).eval())
    return objective


class _Training:
    def __init__(self, worker: Worker, job: Job) -> None:
        self.worker, self.job = worker, job
        self.settings = job.config.get(TrainSettings)
        self.schedule = job.config.get(ScheduleSettings)
        self.checkpoints = job.run_folder / "checkpoints"
        self.objective = build_objective(job)
        if job.config.get(NetSettings).sharded:
            sharded_embedding.shard_tables(self.objective)
        self.objective.to(worker.device)
        for teacher in self.objective.teacher:
            teacher.to(worker.device)
        self.position = Position()
        state = self._restored()
        groups = transfer.parameter_groups(self.objective, job.config)
        optimizer = make_optimizer(groups, self.settings, job.config.get(OptimizerSettings), workers=worker.world_size)
        self.module, self.optimizer = worker.prepare(self.objective, optimizer, self.settings.accumulate)
        if state is not None:
            shards = sharded_embedding.parts_of_state(self.objective, state["optimizer"], self.optimizer)
            rates = [group["lr"] for group in self.optimizer.param_groups]
            self.optimizer.load_state_dict(shards)
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate  # another number of workers has another rate
        for group in self.optimizer.param_groups:
            group["full_rate"] = group["lr"] * group.get("share", 1.0)
        self.scaler = torch.amp.GradScaler("cuda") if self._is_float16() else None
        if self.scaler and state is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.ratios = UpdateRatios(self.objective, self.settings.watch_steps)

    def run(self, measured: Sequence[str]) -> dict[str, float]:
        s, train = self.settings, self.job.feed("train", self.worker)
        self.steps_per_epoch = math.ceil(train.num_steps() / s.accumulate)
        while self.position.epoch < s.epochs and not self._is_stopped_early():
            started, rows_before = time.time(), self.position.row_sum
            loss = self._train_epoch(train)
            seconds, rows = time.time() - started, self.position.row_sum - rows_before
            numbers = evaluate(self.objective, self.job.feed("valid", self.worker), self.worker)
            numbers |= {"epoch": float(self.position.epoch), "train_loss": loss}
            numbers |= {"started_at": started, "seconds": seconds, "rows_per_s": rows / max(seconds, 1e-9)}
            self.position.next_epoch(numbers["log_loss"])
            self._keep(numbers)
            self.worker.report(numbers)
        return self._final(measured)

    def _is_stopped_early(self) -> bool:
        patience, losses = self.settings.patience, self.position.losses
        return bool(patience) and epochs_without_gain(losses) >= patience

    def _train_epoch(self, spec: FeedSpec) -> float:
        """The rest of an epoch; returns the mean loss of a row over all ranks.

        A batch's loss is divided by its full size, padding included, so that the average of the ranks' gradients
        weighs every row the same.
        """
        self.objective.train()
        transfer.thaw(self.objective, self.job.config, self.position.epoch)
        total, rows = 0.0, 0.0
        steps_left = spec.num_steps(self.position.epoch, self.position.done)
        for group in _in_groups(epoch(spec, self.position.epoch, self.position.done), self.settings.accumulate):
            loss, count = self._step(group)
            total, rows, steps_left = total + loss, rows + count, steps_left - len(group)
            self.position.advanced(self.worker.world_size, len(group))
            self.position.step += 1
            if (
                self.settings.checkpoint_steps
                and steps_left
                and self.position.step % self.settings.checkpoint_steps == 0
            ):
                self._add_up(total, rows)
                total, rows = 0.0, 0.0
                self._save_step()
        self._add_up(total, rows)
        return self.position.loss_sum / max(self.position.row_sum, 1.0)

    def _step(self, batches: list[Batch]) -> tuple[float, float]:
        """One step of the optimizer; returns the sum of the rows' losses and the number of rows."""
        s, p = self.settings, self.position
        # Dropout and draws follow from the step, so that a resumed run is the same as an unbroken one.
        torch.manual_seed(hash((s.seed, p.epoch, p.step, self.worker.rank)) % 2**63)
        self._set_rates()
        self.optimizer.zero_grad()
        total, rows = torch.zeros((), device=self.worker.device), 0.0
        for i, batch in enumerate(batches):
            batch = learned_from(batch, s).to(self.worker.device)
            is_last = i == len(batches) - 1
            with nullcontext() if is_last else self.worker.without_averaging(self.module), self._precision():
                costs = self.module(batch)
                summed = (costs * batch.weight).sum()
                loss = summed / s.batch_size / s.accumulate
                if is_last:
                    loss = loss + self.objective.penalty()
                (self.scaler.scale(loss) if self.scaler else loss).backward()
            total += summed.detach()
            rows += float(batch.weight.sum())
        value = float(total)
        if not math.isfinite(value):
            where = where_not_finite(self.objective, batches, self.worker.device)
            raise UserError(
                f"the loss is {value} at step {p.step} of epoch {p.epoch}, {where}: lower train.learning_rate"
            )
        self._apply()
        return value, rows

    def _apply(self) -> None:
        """Average (where Horovod has to be told), clip, step."""
        waits = hasattr(self.optimizer, "synchronize")  # Horovod averages here; clipping must see the average
        if waits:
            self.optimizer.synchronize()  # type: ignore[attr-defined]
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.settings.clip_norm:
            sharded_embedding.clip_norm(self.objective, self.settings.clip_norm)
        transfer.drop_frozen(self.objective)
        self.ratios.before(self.position.step)
        with self.optimizer.skip_synchronize() if waits else nullcontext():  # type: ignore[attr-defined]
            if self.scaler:
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                self.optimizer.step()
        self.ratios.after(self.position.step)

    def _set_rates(self) -> None:
        share = share_of_rate(
            self.schedule,
            step=self.position.step,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.settings.epochs,
            losses=self.position.losses,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_rate"] * share

    def _precision(self) -> Any:
        name = self.settings.precision
        if name == "float32":
            return nullcontext()
        return torch.autocast(self.worker.device.type, dtype=PRECISIONS[name])

    def _is_float16(self) -> bool:
        if self.settings.precision != "float16":
            return False
        if self.worker.device.type != "cuda":
            raise UserError("train.precision=float16 needs a GPU; bfloat16 and float32 work everywhere")
        return True

    def _add_up(self, total: float, rows: float) -> None:
        self.position.loss_sum += self.worker.mean(total) * self.worker.world_size
        self.position.row_sum += self.worker.mean(rows) * self.worker.world_size

    def _state(self) -> dict[str, Any]:
        """All that going on needs; every rank must call it, for tables may be spread over them."""
        return {
            "model": sharded_embedding.whole_weights(self.objective),
            "optimizer": sharded_embedding.whole_state(self.objective, self.optimizer),
            "position": vars(self.position),
            "version": self.job.version,
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "rng": torch.get_rng_state(),
        }

    def _save_step(self) -> None:
        state = self._state()
        if self.worker.rank == 0:
            checkpoint.save_step(self.checkpoints, self.position.epoch, self.position.step, state)
        self.worker.share(None)  # no rank goes on before the checkpoint is there

    def _keep(self, numbers: dict[str, float]) -> None:
        """The checkpoint of an epoch, and its line in the history."""
        state = self._state()
        if self.worker.rank == 0:
            number = int(numbers["epoch"])
            checkpoint.save(self.checkpoints, number, numbers["log_loss"], state, self.settings.keep_best)
            with (self.job.run_folder / HISTORY).open("a", encoding="utf-8") as out:
                out.write(json.dumps({**numbers, **self.ratios.told()}) + "\n")
            summary = ", ".join(
                f"{name} {value:.4f}" for name, value in numbers.items() if name not in ("epoch", "rows", "started_at")
            )
            log.info("epoch %d: %s", number, summary)
        self.worker.share(None)

    def _restored(self) -> dict[str, Any] | None:
        """Take weights and position of the newest whole checkpoint; returns its state, or None."""
        state = checkpoint.load_newest(self.checkpoints)
        if state is None:
            return None
        if state["version"] != self.job.version:
            raise UserError(
                f"the checkpoints of {self.job.run_folder.name} are of features {state['version']}, the data set has "
                f"{self.job.version}: train anew, without --resume"
            )
        sharded_embedding.load_whole(self.objective, state["model"])
        position = state["position"]
        self.position = Position(**{**position, "done": tuple(tuple(pair) for pair in position["done"])})
        log.info("going on in epoch %d after %d steps", self.position.epoch, self.position.step)
        return state

    def _final(self, measured: Sequence[str]) -> dict[str, float]:
        """Numbers of the best checkpoint on held-out splits; its weights become the run's model."""
        state = checkpoint.load_best(self.checkpoints)
        if state is None:
            raise UserError(f"no whole checkpoint in {self.job.run_folder}")
        sharded_embedding.load_whole(self.objective, state["model"])
        if self.worker.rank == 0:
            weights = {n.removeprefix("net."): v for n, v in state["model"].items() if n.startswith("net.")}
            saved.save_model(self.job.run_folder / "model", self.job.model, weights, self.job.inputs, self.job.config)
        metrics: dict[str, float] = {}
        for split in measured:
            numbers = evaluate(self.objective, self.job.feed(split, self.worker), self.worker)
            metrics |= {f"{split}_{name}": value for name, value in numbers.items()}
        return metrics


def _in_groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches; the last may be shorter."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
