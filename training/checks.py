"""Sanity checks before a long run (T10): `millrace train deepfm --date D --check`.

Initial loss, gradients, overfitting a few rows, and a trial of the learning rate (Karpathy 2019, A Recipe for Training
Neural Networks). They take minutes at most, and leave no run behind.
"""

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
from training.diagnose import USUAL_RATIO, UpdateRatios
from training.inputs.batch import Batch
from training.inputs.dataset import open_dataset
from training.inputs.feed import read_epoch
from training.loop.job import Job
from training.loop.state import build_objective
from training.models import model_named
from training.optim.optimizers import make_optimizer
from training.settings import OptimizerSettings, TrainSettings
from training.tasks.objective import Objective
from training.workers import LocalWorker

log = logging.getLogger(__name__)

MAX_ROWS = 1024  # of the batch that the checks run on
OVERFIT_ROWS = 64  # that the model must be able to overfit
OVERFIT_STEPS = 300
OVERFIT_RATES = (0.01, 0.002)  # one of them suits any of our models
TRIAL_STEPS = 20
NUM_GRADIENTS = 40  # weights whose gradients are compared
TOLERANCE = 1e-7  # relative error of a difference, in double precision, that a kink of the loss explains
MAX_GRADIENT_ERROR = 1e-5  # healthy recurrent nets have 1e-7, a wrong derivative 1e-2 or more


def run(config: Config, model: str, day: date) -> dict[str, Any]:
    """Run all checks of a model on a batch of the day's training rows.

    Returns:
        `initial_loss`, `gradient_error`, `loss_by_heart` (of the overfitted rows), `update_ratio`, `rows_per_s` of the
        trial steps, and the `verdict`: ok.

    Raises:
        UserError: checks failed, each named with its number; or there is no such data set.
    """
    task = model_named(model).task
    dataset = open_dataset(config, task, day)
    with tempfile.TemporaryDirectory() as scratch:
        job = Job.prepared(config, model, dataset, Path(scratch))
        batch = next(read_epoch(job.feed("train", LocalWorker()), 0))
        report = check(job, batch)
    if failed := [f"{name} ({reason})" for name, reason in report.pop("failed").items()]:
        raise UserError(f"verdict: {model} is not ready for a long run: {'; '.join(failed)}")
    log.info("verdict: ok")
    return {"model": model, **report, "verdict": "ok"}


def check(job: Job, batch: Batch) -> dict[str, Any]:
    """The result of every check, as `run` returns them, and under `failed` the reason of each check that failed.

    Each check builds the objective anew, so that it starts from the initial weights. Costs some 600 small steps.
    """
    failed: dict[str, str] = {}
    batch = batch[: min(len(batch), MAX_ROWS)]
    rows = batch[:OVERFIT_ROWS]

    loss, (low, high) = initial_loss(build_objective(job), batch)
    if not math.isfinite(loss) or not low <= loss <= high:
        failed["initial loss"] = f"{loss:.3g}, plausible is {low:.3g} to {high:.3g}"
    error = gradient_error(build_objective(job), rows)
    if error > MAX_GRADIENT_ERROR:
        failed["gradients"] = f"relative error {error:.1e}, should be below {MAX_GRADIENT_ERROR:.0e}"
    overfit = min(overfit_loss(build_objective(job), rows, rate) for rate in OVERFIT_RATES)
    if overfit > 0.1 * max(loss, 0.1):
        failed["overfitting"] = (
            f"the loss on {len(rows)} rows is still {overfit:.3g} after {OVERFIT_STEPS} steps on them"
        )
    rows_per_s, ratio = trial_run(build_objective(job), batch, job.config)
    if not USUAL_RATIO[0] <= ratio <= USUAL_RATIO[1]:
        failed["learning rate"] = f"|update| / |weight| is {ratio:.1e}, about 1e-3 is right"
    return {
        "initial_loss": loss,
        "gradient_error": error,
        "loss_by_heart": overfit,
        "update_ratio": ratio,
        "rows_per_s": rows_per_s,
        "failed": failed,
    }


def initial_loss(objective: Objective, batch: Batch) -> tuple[float, tuple[float, float]]:
    """Mean loss before the first step, and the interval that it should lie in.

    The interval is around the loss of an uninformed model, such as log 2 for clicks: a loss far above it comes from
    initial weights that are too large, one far below from a label among the features.
    """
    objective.eval()
    with torch.no_grad():
        loss = float(objective(batch)[batch.weight > 0].mean())
    uninformed = objective.task.uninformed_loss(objective.net, objective.inputs, len(batch))
    return loss, (0.1 * uninformed, 5 * uninformed)


def gradient_error(objective: Objective, batch: Batch) -> float:
    """Largest relative error |g − d| / max(|g|, |d|, 1e-2 · largest |g|) of the gradient over some weights.

    d is the two-sided difference (f(w + h) − f(w − h)) / 2h, in double precision and without dropout. Weights at which
    the loss has a kink within the step, as of ReLU, are left out. Costs six forward passes a weight.
    """
    objective = objective.double().eval()
    doubles = {name: getattr(batch, name).double() for name in ("dense", "label", "weight")}
    image = None if batch.image is None else batch.image.double() / 127.5 - 1  # bytes have no gradient
    batch = dataclasses.replace(batch, **doubles, image=image)

    def loss() -> Tensor:
        torch.manual_seed(0)  # the same sampled negatives in every pass
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
        # Rows of an embedding table that the batch doesn't have show nothing.
        positions = weight.grad.flatten().nonzero().flatten().numpy()
        for position in rng.choice(positions, min(len(positions), max(1, NUM_GRADIENTS // len(layers))), replace=False):
            g = float(weight.grad.flatten()[position])
            (above, below), (above_near, below_near) = (_slopes(loss, weight, int(position), h) for h in (1e-5, 0.5e-5))
            d, size = (above + below) / 2, max(abs(g), abs(above), abs(below), 1e-2 * largest)
            # What a smooth function's slopes differ by halves with the step; what a kink makes does not.
            if abs((above - below) - 2 * (above_near - below_near)) < TOLERANCE * size + 1e-10:
                worst = max(worst, abs(g - d) / size)
    return worst


def _slopes(loss: Callable[[], Tensor], weight: Tensor, position: int, step: float) -> tuple[float, float]:
    """Slopes of the loss above and below one value of `weight`, over `step`; the weight is restored."""
    with torch.no_grad():
        flat, center_loss = weight.view(-1), float(loss())
        value = flat[position].item()
        flat[position] = value + step
        above = (float(loss()) - center_loss) / step
        flat[position] = value - step
        below = (center_loss - float(loss())) / step
        flat[position] = value
    return above, below


def overfit_loss(objective: Objective, batch: Batch, rate: float, steps: int = OVERFIT_STEPS) -> float:
    """Mean loss of a few rows after up to `steps` steps of Adam on them, without dropout.

    It is near 0 for any model that can learn at all; otherwise inputs, labels or the net are wired wrongly.
    """
    objective.eval()  # no dropout; batch norm then needs no batch either
    optimizer = torch.optim.Adam(objective.parameters(), lr=rate)
    mean_loss = math.inf
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = (objective(batch) * batch.weight).sum() / batch.weight.sum().clamp(min=1)
        loss.backward()
        optimizer.step()
        mean_loss = float(loss.detach())
        if mean_loss < 1e-3:
            break
    return mean_loss


def trial_run(objective: Objective, batch: Batch, config: Config) -> tuple[float, float]:
    """Take a few steps with the configured optimizer, all on one batch.

    Returns:
        Rows a second, without reading any, and the median over the layers of the last step's |update| / |weight|.
    """
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
    rows_per_s = TRIAL_STEPS * len(batch) / (time.perf_counter() - started)
    return rows_per_s, float(np.median(list(ratios.newest.values()) or [0.0]))
