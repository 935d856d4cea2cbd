"""Settings of searches."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class Range(Settings):
    """A range of numbers; `log` draws the exponent evenly, as rates and penalties want."""

    low: float
    high: float
    log: bool = True


class TuneSettings(Settings):
    """What is searched, and how it is measured."""

    section: ClassVar[str] = "tune"

    space: dict[str, Range] = Field(
        default_factory=lambda: {
            "fm.alpha": Range(low=0.01, high=0.3),
            "fm.l1": Range(low=0.01, high=5.0),
            "fm.l2": Range(low=0.01, high=10.0),
        }
    )
    """Setting -> range, in the dotted paths of `--set`."""
    metric: str = Field(default="log_loss", pattern="^(log_loss|auc)$")
    """Measured on the validation rows; the test rows are not touched."""
    parallel: int = Field(default=2, gt=0)
    """Trials at a time."""
    seed: int = 7
