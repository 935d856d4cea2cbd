"""What a search needs to know about a kind of model; each target of this folder is one."""

from datetime import date
from typing import Any, Protocol

from conf import Config
from tuning.settings import TuneSettings
from tuning.targets.trial import Trial


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
        """Reports that a trial makes, given this share of what it might cost; on Ray only."""
        return config.get(TuneSettings).steps

    def newest(self, data: Any, share: float) -> Any:
        """The same with the newest share of the training rows, where that makes trials cheap; on Ray only."""
        return data

    def run(self, config: Config, data: Any, trial: Trial) -> None:
        """Train with the point's settings, and report what the validation rows say after each step."""
        ...

    def test(self, config: Config, day: date) -> dict[str, float]:
        """Train with the chosen settings and measure once on the test rows."""
        ...
