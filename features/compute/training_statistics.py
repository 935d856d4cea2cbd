"""What features learn from the training rows: kept beside a data set, applied wherever its models are used."""

from dataclasses import dataclass, field
from typing import Any, Self

from features.counts.counts_before import ClickRates


@dataclass(frozen=True)
class TrainingStatistics:
    """Statistics of the training split; no other row may be looked at (requirement F4).

    A data set keeps them as JSON: `dataclasses.asdict` writes, `TrainingStatistics(**fields)` reads.
    """

    prior: float = 0.0
    """Click rate of all rows."""
    by_position: dict[str, float] = field(default_factory=dict)
    """Click rate at each position of a list."""
    prior_strength: float = 20.0
    """Impressions that the prior weighs in a smoothed click rate."""
    mean: dict[str, float] = field(default_factory=dict)
    """By dense feature, what is subtracted: the mean, or the smallest value where it is scaled to 0 … 1."""
    deviation: dict[str, float] = field(default_factory=dict)
    """By dense feature, what is divided by: the standard deviation, or the range."""
    vocabulary: dict[str, list[str]] = field(default_factory=dict)
    """By sparse feature with a vocabulary, its values in the order of their ids."""
    transforms: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By dense feature with a fitted transform, the transform's fields."""
    whitening: dict[str, Any] | None = None
    """Fields of the whitening of the dense features, None without."""
    timezone: str = "UTC"
    """Time zone of the hours and days that features have. Data sets of older versions have none, and UTC's."""

    @classmethod
    def from_rates(cls, rates: ClickRates) -> Self:
        """Click rates alone; the scaling of features that are counted with them is fitted afterwards."""
        by_position = {str(position): rate for position, rate in rates.by_position.items()}
        return cls(rates.prior, by_position, rates.strength)

    @property
    def rates(self) -> ClickRates:
        """The click rates, as counting takes them."""
        # JSON has only text for keys.
        by_position = {int(position): rate for position, rate in self.by_position.items()}
        return ClickRates(self.prior, by_position, self.prior_strength)
