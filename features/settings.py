"""Settings of the features and of the data sets with them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf import Settings


class FeatureSettings(Settings):
    """How the training set of a day is built."""

    section: ClassVar[str] = "features"

    window_days: int = Field(default=30, gt=2)
    """Days of impressions, the day itself included, in a training set."""
    valid_days: int = Field(default=1, gt=0)
    """Days before the test days whose rows are for validation."""
    test_days: int = Field(default=1, gt=0)
    """Last days, whose rows are for the final numbers."""
    valid_share: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the validation rows, for splits by time and at random."""
    test_share: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the test rows, for splits by time."""
    random_test_share: float = Field(default=0.25, gt=0, lt=0.9)
    """Share of each item's pairs in the test rows, for splits at random."""
    shares: Literal["settings", "by_size"] = "settings"
    """`by_size` replaces the shares of validation and test rows: 20 % each below 100,000, 1 % up to a million rows."""
    folds: int = Field(default=5, gt=2)
    """Number of folds, for splits by k-fold."""
    fold: int = Field(default=0, ge=0)
    """The fold that tests, from 0; the next one validates."""
    balance: Literal["none", "under_sample", "over_sample", "class_weights"] = "none"
    """What is done about few clicks among many training rows; the first two are undone by weights in the loss."""
    negative_rate: float = Field(default=0.2, gt=0, le=1)
    """Share of the negatives that under_sample takes."""
    positive_copies: float = Field(default=2.0, ge=1)
    """How often over_sample has each positive."""
    prior_strength: Annotated[float, Field(gt=0)] | Literal["moments", "em"] = 20.0
    """Impressions that the prior weighs in smoothed click rates; or how to estimate it from the items' click rates."""
    whiten: Literal["none", "pca", "zca"] = "none"
    """Decorrelates the dense features; pca replaces them by their principal components, zca keeps them recognisable."""
    whiten_epsilon: float = Field(default=1e-5, gt=0)
    """Added to the eigenvalues in whitening; larger ones for noisy data."""
    history_length: int = Field(default=50, gt=0)
    """Newest choices of a user in an example, for models of sequences."""
    cover_size: int = Field(default=32, ge=8)
    """Height and width that covers are resized to, in pixels."""
    word_buckets: int = Field(default=4096, gt=1)
    """Ids that words of titles are hashed into."""
    negatives: int = Field(default=4, gt=0)
    """Items sampled as not chosen for each positive, where there are interactions but no impressions."""
    min_rating: float = 4.0
    """A rating from here on is a positive."""
    interest_l2: float = Field(default=1.0, gt=0)
    """L2 penalty of the regression that learns users' interests, for a user × topic pair."""
    row_group_mb: int = Field(default=4, gt=0)
    """Size of the row groups, the unit that readers shuffle and share out."""
    files: int = Field(default=8, gt=0)
    """Files of a split; at least as many as training workers."""
    seed: int = 7
    """Of all draws: negatives, splits, sampling."""
