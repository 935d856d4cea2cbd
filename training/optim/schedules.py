"""Learning-rate schedules: pure functions of how far training is, so that nothing of them needs to be saved."""

import math
from collections.abc import Callable, Sequence

from training.settings import ScheduleSettings

Schedule = Callable[[float, float, ScheduleSettings], float]
"""(epochs done, a fraction within an epoch; epochs in all; settings) -> factor on the full rate."""

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda done, epochs, s: 1.0,
    "plateau": lambda done, epochs, s: 1.0,  # depends on the losses, see `schedule_factor`
    "step": lambda done, epochs, s: s.factor ** math.floor(done / s.every),
    "exponential": lambda done, epochs, s: s.factor ** (done / s.every),
    "natural_exponential": lambda done, epochs, s: math.exp(-s.factor * done / s.every),
    "inverse_time": lambda done, epochs, s: 1.0 / (1.0 + s.factor * done / s.every),
    "polynomial": lambda done, epochs, s: s.end + (1 - s.end) * (1 - min(done / epochs, 1.0)) ** s.power,
    # SGDR without restarts (Loshchilov and Hutter 2017, eq. 5).
    "cosine": lambda done, epochs, s: s.end + (1 - s.end) * 0.5 * (1 + math.cos(math.pi * min(done / epochs, 1.0))),
}


def schedule_factor(
    settings: ScheduleSettings, *, step: int, steps_per_epoch: int, epochs: int, losses: Sequence[float] = ()
) -> float:
    """Factor on the full learning rate at a step, warm-up included.

    Args:
        settings: name and parameters of the schedule.
        step: steps since the start of training.
        steps_per_epoch: steps of an epoch.
        epochs: epochs of the whole training, where polynomial and cosine end.
        losses: validation losses of the epochs so far; only `plateau` reads them.
    """
    factor = SCHEDULES[settings.name](step / max(steps_per_epoch, 1), float(epochs), settings)
    if settings.name == "plateau":
        factor *= settings.factor ** _count_plateaus(losses, settings.patience)
    if step < settings.warmup_steps:
        factor *= (step + 1) / settings.warmup_steps  # linear; from 1, for a first step at rate 0 would be lost
    return factor


def _count_plateaus(losses: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row had no smaller loss than the best before; each is counted once."""
    best, epochs_waited, plateaus = math.inf, 0, 0
    for loss in losses:
        if loss < best:
            best, epochs_waited = loss, 0
            continue
        epochs_waited += 1
        if epochs_waited == patience:
            plateaus, epochs_waited = plateaus + 1, 0
    return plateaus


def epochs_without_gain(losses: Sequence[float]) -> int:
    """Epochs since the one with the smallest loss (the first of equals), for early stopping; 0 without any."""
    if not losses:
        return 0
    best_epoch = min(range(len(losses)), key=losses.__getitem__)
    return len(losses) - 1 - best_epoch
