"""Checks before a long run (T10): `millrace train deepfm --date D --check`. Minutes at most, and nothing is kept."""

import dataclasses
import logging
import math
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conf import Config, UserError
from training.diagnose import USUAL, UpdateRatios
from training.inputs.batch import Batch
from training.inputs.dataset import open_dataset, write_item_catalog
from training.inputs.feed import read_epoch
from training.loop import Job, build_objective
from training.models import model_named
from training.optim.optimizers import make_optimizer
from training.settings import OptimizerSettings, TrainSettings
from training.tasks.objective import Objective
from training.workers import LocalWorker

log = logging.getLogger(__name__)

SUBSET = 64  # rows that the model must be able to overfit
STEPS = 300
RATES = (0.01, 0.002)  # one of them suits any of our models
TRIAL_STEPS = 20
GRADIENTS = 40  # weights whose gradients are compared
TOLERANCE = 1e-7


def run(config: Config, model: str, day: date) -> dict[str, Any]:
    """All checks of a model on the day's data: initial loss, gradients, overfitting a few rows, and the learning rate.

    Returns their numbers and the rows a second. Raises UserError that names the checks that failed.
    """
    task = model_named(model).task
    data = open_dataset(config, task, day)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if task.needs_catalogue:
            write_item_catalog(data, folder)
        job = Job(config, model, data.folder, folder, data.inputs, data.columns, data.version)
        batch = next(read_epoch(job.feed("train", LocalWorker()), 0))
        report = check(job, batch)
    if failed := [f"{name} ({reason})" for name, reason in report.pop("failed").items()]:
        raise UserError(f"{model} is not ready for a long run: {'; '.join(failed)}")
    return {"model": model, **report}


def check(job: Job, batch: Batch) -> dict[str, Any]:
    """The numbers of every check, and under `failed` what is wrong with which."""
    failed: dict[str, str] = {}
    batch = batch[: min(len(batch), 1024)]
    rows = batch[:SUBSET]

    first, plausible = initial_loss(build_objective(job), batch)
    if not math.isfinite(first) or not plausible[0] <= first <= plausible[1]:
        failed["initial loss"] = f"{first:.3g}, plausible is {plausible[0]:.3g} to {plausible[1]:.3g}"
    error = gradient_error(build_objective(job), rows)
    if error > TOLERANCE:
        failed["gradients"] = f"relative error {error:.1e}, should be below {TOLERANCE:.0e}"
    learned = min(overfit_loss(build_objective(job), rows, rate) for rate in RATES)
    if learned > 0.1 * max(first, 0.1):
        failed["learning by heart"] = f"{len(rows)} rows still cost {learned:.3g} each after {STEPS} steps"
    rate, ratio = trial_run(build_objective(job), batch, job.config)
    if not USUAL[0] <= ratio <= USUAL[1]:
        failed["learning rate"] = f"|update| / |weight| is {ratio:.1e}, about 1e-3 is right"
    return {
        "initial_loss": first,
        "gradient_error": error,
        "loss_by_heart": learned,
        "update_ratio": ratio,
        "rows_per_s": rate,
        "failed": failed,
    }


def initial_loss(objective: Objective, batch: Batch) -> tuple[float, tuple[float, float]]:
    """Mean loss before the first step, and the interval that it should lie in, around that of an uninformed model."""
    objective.eval()
    with torch.no_grad():
        cost = float(objective(batch)[batch.weight > 0].mean())
    guess = objective.task.uninformed_loss(objective.net, objective.inputs, len(batch))
    return cost, (0.1 * guess, 5 * guess)


def gradient_error(objective: Objective, batch: Batch) -> float:
    """The largest |g − d| / max(|g|, |d|, 1e-2 · largest |g|) over some weights, d being the two-sided difference.

    In double precision, without dropout, and without places where the loss has a kink (of ReLU, say) within the step.
    """
    objective = objective.double().eval()
    doubles = {name: getattr(batch, name).double() for name in ("dense", "label", "weight")}
    image = None if batch.image is None else batch.image.double() / 127.5 - 1
    batch = dataclasses.replace(batch, **doubles, image=image)

    def loss() -> Tensor:
        torch.manual_seed(0)
        total: Tensor = (objective(batch) * batch.weight).sum() / len(batch)
        return total

    objective.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]
    # Weights that have a gradient, the same number of each layer.
    rng = np.random.default_rng(0)
    layers = [weight for weight in objective.parameters() if weight.grad is not None and weight.grad.any()]
    largest = max((float(weight.grad.abs().max()) for weight in layers if weight.grad is not None), default=0.0)
    worst = 0.0
    for weight in layers:
        assert weight.grad is not None
        positions = weight.grad.flatten().nonzero().flatten().numpy()
        for position in rng.choice(positions, min(len(positions), max(1, GRADIENTS // len(layers))), replace=False):
            g = float(weight.grad.flatten()[position])
            (above, below), (above_near, below_near) = (_slopes(loss, weight, int(position), h) for h in (1e-5, 0.5e-5))
            d, size = (above + below) / 2, max(abs(g), abs(above), abs(below), 1e-2 * largest)
            # What a smooth function's slopes differ by halves with the step; what a kink makes does not.
            if abs((above - below) - 2 * (above_near - below_near)) < TOLERANCE * size + 1e-10:
                worst = max(worst, abs(g - d) / size)
    return worst


def _slopes(loss: Callable[[], Tensor], weight: Tensor, position: int, step: float) -> tuple[float, float]:
    """Slope of the loss on either side of a weight."""
    with torch.no_grad():
        flat, here = weight.view(-1), float(loss())
        before = flat[position].item()
        flat[position] = before + step
        above = (float(loss()) - here) / step
        flat[position] = before - step
        below = (here - float(loss())) / step
        flat[position] = before
    return above, below


def overfit_loss(objective: Objective, batch: Batch, rate: float, steps: int = STEPS) -> float:
    """Mean loss of a few rows after many steps on them, without dropout; near 0 when the model can learn at all."""
    objective.eval()  # no dropout; batch norm then needs no batch either
    optimizer = torch.optim.Adam(objective.parameters(), lr=rate)
    cost = math.inf
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = (objective(batch) * batch.weight).sum() / batch.weight.sum().clamp(min=1)
        loss.backward()
        optimizer.step()
        cost = float(loss.detach())
        if cost < 1e-3:
            break
    return cost


def trial_run(objective: Objective, batch: Batch, config: Config) -> tuple[float, float]:
    """Rows a second, and the layers' median |update| / |weight|, in a few steps with the configured optimizer."""
    objective.train()
    ratios = UpdateRatios(objective, 1, warns=False)
    groups = [{"params": list(objective.parameters())}]
    optimizer = make_optimizer(groups, config.get(TrainSettings), config.get(OptimizerSettings))
    started = time.perf_counter()
    for step in range(TRIAL_STEPS):
        optimizer.zero_grad()
        ((objective(batch) * batch.weight).sum() / len(batch)).backward()
        ratios.before(step)
        optimizer.step()
        ratios.after(step)
    rate = TRIAL_STEPS * len(batch) / (time.perf_counter() - started)
    return rate, float(np.median(list(ratios.newest.values()) or [0.0]))
