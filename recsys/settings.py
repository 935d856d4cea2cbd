"""Settings of recall, ranking and lists."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class RecallSettings(Settings):
    """Which channels propose how many items, and how item-CF counts."""

    section: ClassVar[str] = "recall"

    quota: dict[str, int] = Field(default_factory=lambda: {"item_cf": 60, "hot": 40})
    """Candidates a user from each channel."""
    history: int = Field(default=100, gt=0)
    """Newest clicks of a user that item-CF looks at."""
    neighbours: int = Field(default=100, gt=0)
    """Similar items kept for each item."""
    shrink: float = Field(default=5.0, ge=0)
    """Added to the norm of a similarity, so that pairs seen once or twice don't lead."""
    half_life_days: float = Field(default=7.0, gt=0)
    """Age at which a click counts half for the hot list."""


class CoarseSettings(Settings):
    """LightGBM on dense features and categories."""

    section: ClassVar[str] = "coarse"

    num_leaves: int = Field(default=31, gt=1)
    learning_rate: float = Field(default=0.08, gt=0)
    rounds: int = Field(default=300, gt=0)
    """Most trees; fewer when the validation rows stop improving."""
    patience: int = Field(default=20, gt=0)
    """Rounds without improvement before it stops."""
    min_rows_in_leaf: int = Field(default=50, gt=0)
    keep: int = Field(default=40, gt=0)
    """Candidates a user that pass on to fine ranking."""
    seed: int = 7


class FMSettings(Settings):
    """Factorisation machine, learned online by FTRL-Proximal (McMahan et al. 2013)."""

    section: ClassVar[str] = "fm"

    k: int = Field(default=8, ge=0)
    """Length of the factors; 0 leaves the linear part alone."""
    bits: int = Field(default=20, ge=10, le=28)
    """The table has 2^bits features."""
    bins: int = Field(default=12, gt=1)
    """Quantile bins that a dense feature is cut into."""
    alpha: float = Field(default=0.05, gt=0)
    """Learning rate of the linear weights."""
    beta: float = Field(default=1.0, gt=0)
    l1: float = Field(default=0.5, ge=0)
    l2: float = Field(default=1.0, ge=0)
    alpha_v: float = Field(default=0.05, gt=0)
    """Learning rate of the factors."""
    l2_v: float = Field(default=2.0, ge=0)
    sigma: float = Field(default=0.03, gt=0)
    """Standard deviation of the factors at the start."""
    epochs: int = Field(default=1, gt=0)
    """Passes over the training rows; an online learner makes one."""
    field_aware: bool = False
    """A factor for each field that a feature meets (Juan et al. 2016); memory grows with the number of fields."""
    weights: str = Field(default="float32", pattern="^(float32|q2\\.13)$")
    """q2.13: 16-bit fixed point with randomised rounding, half the memory of the weights; needs l1 = 0."""
    inclusion: str = Field(default="all", pattern="^(all|poisson|bloom)$")
    """Which features are let into the model: all, each sight with a probability, or from the n-th sight on."""
    inclusion_probability: float = Field(default=0.1, gt=0, le=1)
    """Poisson inclusion: chance that a new feature is let in when it is seen."""
    inclusion_count: int = Field(default=3, gt=0, lt=255)
    """Bloom inclusion: the sight at which a feature is let in."""
    bloom_bits: int = Field(default=22, ge=10, le=32)
    """The counting Bloom filter has 2^bloom_bits cells of a byte."""
    negative_rate: float = Field(default=1.0, gt=0, le=1)
    """Share of the lists without a click that is learned from, each row with weight 1 / rate."""
    threads: int = Field(default=1, gt=0)
    """Cores that learn side by side without locks; with more than one, numbers differ a little from run to run."""
    warm_start: bool = False
    """Go on from the newest model of an earlier day, and learn only what is newer than it."""
    seed: int = 7


class RecommendSettings(Settings):
    """The lists."""

    section: ClassVar[str] = "recommend"

    length: int = Field(default=20, gt=0)
    """Items a user in ads_recommendation."""
    ks: tuple[int, ...] = (5, 10, 20)
    """Lengths that recall, nDCG and MAP are measured at."""
    order: str = Field(default="fine", pattern="^(merged|coarse|fine|blend)$")
    """What the list is ordered by: merged recall scores, the coarse or fine score, or all three ranks fused."""
