"""Settings of the features and the training set."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class FeatureSettings(Settings):
    """How the training set of a day is made."""

    section: ClassVar[str] = "features"

    window_days: int = Field(default=30, gt=2)
    """Days of impressions, the day itself included, that the training set reaches back."""
    valid_days: int = Field(default=1, gt=0)
    """Days before the test days that models are chosen on."""
    test_days: int = Field(default=1, gt=0)
    """Last days, kept for the final numbers."""
    valid_share: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the rows that models are chosen on, for splits by time, at random or leave-one-out."""
    test_share: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the rows kept for the final numbers, for splits by time or at random."""
    random_test_share: float = Field(default=0.25, gt=0, lt=0.9)
    """Share of each item's pairs kept for the final numbers by the split at random."""
    prior_strength: float = Field(default=20.0, gt=0)
    """Impressions that the prior of a smoothed click rate weighs as much as."""
    history_length: int = Field(default=50, gt=0)
    """Newest choices of a user that an example holds, for models of sequences."""
    cover_size: int = Field(default=32, ge=8)
    """Height and width that covers are brought to, in pixels."""
    word_buckets: int = Field(default=4096, gt=1)
    """Ids that words of titles are hashed into."""
    negatives: int = Field(default=4, gt=0)
    """Items drawn as not chosen for each positive, where there are interactions but no impressions."""
    min_rating: float = 4.0
    """A rating from here on is a positive."""
    interest_l2: float = Field(default=1.0, gt=0)
    """Penalty of the regression that learns users' interests, for a user × topic pair."""
    row_group_mb: int = Field(default=4, gt=0)
    """Size of the row groups, the unit that readers shuffle and share out."""
    files: int = Field(default=8, gt=0)
    """Files a split; at least as many as training workers."""
    seed: int = 7
