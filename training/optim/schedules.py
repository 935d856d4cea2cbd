"""Learning-rate schedules: pure functions of how far training is, so that nothing of them needs to be saved."""

import math
from collections.abc import Callable, Sequence

from training.settings import ScheduleSettings

Schedule = Callable[[float, float, ScheduleSettings], float]
"""(epochs done, epochs in all, settings) -> factor on the full rate."""

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda done, of, s: 1.0,
    "plateau": lambda done, of, s: 1.0,  # by the losses, see `schedule_factor`
    "step": lambda done, of, s: s.factor ** math.floor(done / s.every),
    "exponential": lambda done, of, s: s.factor ** (done / s.every),
    "natural_exponential": lambda done, of, s: math.exp(-s.factor * done / s.every),
    "inverse_time": lambda done, of, s: 1.0 / (1.0 + s.factor * done / s.every),
    "polynomial": lambda done, of, s: s.end + (1 - s.end) * (1 - min(done / of, 1.0)) ** s.power,
    "cosine": lambda done, of, s: s.end + (1 - s.end) * 0.5 * (1 + math.cos(math.pi * min(done / of, 1.0))),
}


def schedule_factor(
    settings: ScheduleSettings, *, step: int, steps_per_epoch: int, epochs: int, losses: Sequence[float] = ()
) -> float:
    """Factor on the full rate at `step`, counted from the start of training; `losses` are the epochs' so far."""
    factor = SCHEDULES[settings.name](step / max(steps_per_epoch, 1), float(epochs), settings)
    if settings.name == "plateau":
        factor *= settings.factor ** _plateaus(losses, settings.patience)
    if step < settings.warmup_steps:
        factor *= (step + 1) / settings.warmup_steps
    return factor


def _plateaus(losses: Sequence[float], patience: int) -> int:
    """How often the loss had not become smaller for `patience` epochs."""
    best, waited, plateaus = math.inf, 0, 0
    for loss in losses:
        if loss < best:
            best, waited = loss, 0
            continue
        waited += 1
        if waited == patience:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def epochs_without_gain(losses: Sequence[float]) -> int:
    """Epochs since the smallest loss."""
    return len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__) if losses else 0
