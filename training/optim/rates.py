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

    Args:
        optimizer: as `make_optimizer` made it, each group at the learning rate of the settings.
        schedule: how the rate changes over the training.
        workers: workers that step together.
        steps_per_epoch: steps of one worker in an epoch, the unit of schedules.
        epochs: epochs of the whole training.
    """

    def __init__(
        self, optimizer: Optimizer, schedule: ScheduleSettings, *, workers: int, steps_per_epoch: int, epochs: int
    ) -> None:
        self._groups: list[dict[str, Any]] = optimizer.param_groups
        self._full_rates = [group["lr"] * workers * group.get("rate_factor", 1.0) for group in self._groups]
        self._schedule, self._steps_per_epoch, self._epochs = schedule, steps_per_epoch, epochs

    def set(self, step: int, losses: Sequence[float]) -> None:
        """Set the rates of `step`, counted from the start of training; `losses` are the epochs' so far."""
        factor = schedule_factor(
            self._schedule, step=step, steps_per_epoch=self._steps_per_epoch, epochs=self._epochs, losses=losses
        )
        for group, full_rate in zip(self._groups, self._full_rates, strict=True):
            group["lr"] = full_rate * factor
