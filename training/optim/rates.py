"""Learning rates: the one place where the rate of a parameter group is put together."""

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from training.optim.schedules import schedule_factor
from training.settings import ScheduleSettings


class LearningRates:
    """Sets the rate of every parameter group before each step: learning rate × workers × group factor × schedule.

    The batch of a step grows with the number of workers, and the rate with it (linear scaling, Goyal et al. 2017).
    `rate_factor` of a group is the share of the rate that is its own, e.g. of a body taken from another run.
    """

    def __init__(self, optimizer: Optimizer, schedule: ScheduleSettings, *, steps_per_epoch: int, epochs: int) -> None:
        self._groups: list[dict[str, Any]] = optimizer.param_groups
        # `lr` as the optimizer was made with: learning rate × workers, see `make_optimizer`.
        self._full_rates = [group["lr"] * group.get("rate_factor", 1.0) for group in self._groups]
        self._schedule, self._steps_per_epoch, self._epochs = schedule, steps_per_epoch, epochs

    def set(self, step: int, losses: Sequence[float]) -> None:
        """Set the rates of `step`, counted from the start of training; `losses` are the epochs' so far."""
        factor = schedule_factor(
            self._schedule, step=step, steps_per_epoch=self._steps_per_epoch, epochs=self._epochs, losses=losses
        )
        for group, full_rate in zip(self._groups, self._full_rates, strict=True):
            group["lr"] = full_rate * factor
