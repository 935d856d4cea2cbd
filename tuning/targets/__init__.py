"""What can be searched. A target says what trials share, how one runs, and how the chosen settings are tested."""

from collections.abc import Callable
from datetime import date
from typing import Any, Protocol

from conf import Config, UsageError
from tuning.targets.deep import Deep
from tuning.targets.fm import FactorisationMachine
from tuning.targets.lightgbm import LightGBM
from tuning.targets.recall import Recall
from tuning.targets.trial import Report, Trial

__all__ = ["TARGETS", "Report", "Target", "Trial", "target_of"]


class Target(Protocol):
    """One kind of model."""

    family: str
    """Name of its file of ranges in `conf/models/`."""
    on_spark: bool
    """Its trials run in this process on Spark, one after the other, and not on Ray."""
    can_change: bool
    """Whether a trial can go on with other values (population based training)."""

    @property
    def metric(self) -> str:
        """What is made best when nothing else is said."""
        ...

    def data(self, config: Config, day: date) -> Any:
        """What all trials read; put into Ray's shared memory once. Raises UserError when the day has none."""
        ...

    def steps(self, config: Config, budget: float) -> int:
        """Reports that a trial makes, given this share of what it might cost."""
        ...

    def newest(self, data: Any, share: float) -> Any:
        """The same with the newest share of the training rows, where that is a way to make trials cheap."""
        ...

    def run(self, config: Config, data: Any, trial: Trial) -> None:
        """Train with the point's settings, and report what the validation rows say after each step."""
        ...

    def test(self, config: Config, day: date) -> dict[str, float]:
        """Train with the chosen settings and measure once on the test rows."""
        ...


TARGETS: dict[str, Callable[[], Target]] = {
    "fm": FactorisationMachine,
    "lightgbm": LightGBM,
    "recall": Recall,
}


def target_of(model: str) -> Target:
    """The target called `model`: one of TARGETS, or a deep model. Raises UsageError for an unknown name."""
    from training.models import MODELS

    if model in TARGETS:
        return TARGETS[model]()
    if model in MODELS or ":" in model:
        return Deep(model)
    raise UsageError(f"unknown model '{model}'; choose from {', '.join([*TARGETS, *MODELS])}")
