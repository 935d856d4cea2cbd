"""Settings of recall, ranking and lists."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class RecallSettings(Settings):
    """Which channels propose how many items, and how each counts. Chosen on validation rows, never on test rows."""

    section: ClassVar[str] = "recall"

    quota: dict[str, int] = Field(
        default_factory=lambda: {
            "ease": 60, "user_ease": 40, "item_cf": 30, "user_cf": 30, "als": 40, "two_tower": 20, "tags": 20,
            "content": 10, "hot": 30, "new": 10,
        }
    )  # fmt: skip
    """Candidates a user from each channel; a channel that is not named is not asked."""
    keep: int = Field(default=100, gt=0)
    """Candidates a user after merging."""
    history: int = Field(default=1000, gt=0)
    """Newest items of a user that channels look at."""
    history_half_life_days: float = Field(default=30.0, gt=0)
    """Age, before the user's newest item, at which an item of the history counts half for item-CF, tags and towers."""
    half_life_days: float = Field(default=7.0, gt=0)
    """Age at which a click counts half for the hot list."""
    similarity: str = Field(default="cosine", pattern="^(cosine|jaccard)$")
    """How item-CF and user-CF compare."""
    learn_at: int = Field(default=10, gt=0)
    """Places of a list for which the weights of the channels are learned."""
    neighbours: int = Field(default=200, gt=0)
    """Similar items kept for each item."""
    shrink: float = Field(default=5.0, ge=0)
    """Added to the norm of a similarity, so that pairs seen once or twice don't lead."""
    user_cf_neighbours: int = Field(default=100, gt=0)
    """Alike users that vote."""
    user_cf_users: int = Field(default=50_000, gt=0)
    """Users, newest first, that are looked through for alike ones."""
    ease_l2: float = Field(default=300.0, gt=0)
    """λ of the linear item model."""
    ease_items: int = Field(default=5000, gt=0)
    """Most chosen items that the linear item model holds; its inverse costs the cube."""
    ease_user_power: float = Field(default=0.25, ge=0)
    """How much the weight of users with long histories is lowered."""
    ease_item_power: float = Field(default=0.25, ge=0)
    """How much the weight of popular items is lowered."""
    user_ease_l2: float = Field(default=400.0, gt=0)
    """λ of the linear user model."""
    user_ease_users: int = Field(default=4000, gt=0)
    """Users, newest first, that the linear user model is made of; its inverse costs the cube."""
    als_rank: int = Field(default=64, gt=0)
    als_iterations: int = Field(default=8, gt=0)
    als_l2: float = Field(default=0.5, gt=0)
    als_user_l2: float = Field(default=1.0, gt=0)
    """λ of a user's own solution, which weighs the items that were not chosen too (Rendle et al. 2022)."""
    als_alpha: float = Field(default=10.0, gt=0)
    """Confidence in a choice over that in a non-choice."""
    als_blocks: int = Field(default=0, ge=0)
    """Blocks of users and of items that Spark works on at a time; 0: as many as it has cores."""
    tower_dim: int = Field(default=32, gt=0)
    tower_epochs: int = Field(default=3, gt=0)
    tower_batch: int = Field(default=512, gt=1)
    tower_rate: float = Field(default=0.01, gt=0)
    tower_temperature: float = Field(default=0.1, gt=0)
    tower_users: int = Field(default=100_000, gt=0)
    """Users, newest first, that the towers learn from."""
    tower_nearest: int = Field(default=1000, gt=0)
    """Nearest items looked up for a user."""
    tag_strength: float = Field(default=5.0, gt=0)
    """Choices that the usual shares of topics weigh as much as in a user's profile."""
    content_words: int = Field(default=50_000, gt=0)
    """Words of item texts that are told apart."""
    new_days: float = Field(default=7.0, gt=0)
    """Items are new for so long."""
    seed: int = 7


class CoarseSettings(Settings):
    """LightGBM on dense features and categories."""

    section: ClassVar[str] = "coarse"

    objective: str = Field(default="binary", pattern="^(binary|lambdarank)$")
    """binary: chance of a click; lambdarank: order within a list, calibrated on the validation rows afterwards."""
    num_leaves: int = Field(default=15, gt=1)
    learning_rate: float = Field(default=0.05, gt=0)
    rounds: int = Field(default=600, gt=0)
    """Most trees; fewer when the validation rows stop improving."""
    patience: int = Field(default=30, gt=0)
    """Rounds without improvement before it stops."""
    min_rows_in_leaf: int = Field(default=100, gt=0)
    l2: float = Field(default=5.0, ge=0)
    feature_share: float = Field(default=0.7, gt=0, le=1)
    """Share of the features that each tree may use."""
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
    alpha_v: float = Field(default=0.02, gt=0)
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
    shards: int = Field(default=0, ge=0)
    """Ray actors that share the table; 0 keeps it in this process."""
    shard_workers: int = Field(default=2, gt=0)
    """Workers that learn side by side when there are shards."""
    shard_rows: int = Field(default=2048, gt=0)
    """Examples that a worker learns between a pull and a push."""
    snapshot_every: int = Field(default=50, gt=0)
    """Pushes between two snapshots of a shard: what its death may lose."""
    warm_start: bool = False
    """Go on from the newest model of an earlier day, and learn only what is newer than it."""
    seed: int = 7


class RecommendSettings(Settings):
    """The lists."""

    section: ClassVar[str] = "recommend"

    length: int = Field(default=20, gt=0)
    """Items a user in ads_recommendation."""
    ks: tuple[int, ...] = (5, 10, 20, 50)
    """Lengths that lists are measured at."""
    order: str = Field(default="blend", pattern="^(merged|coarse|fine|deep|blend)$")
    """What the list is ordered by: merged recall scores, one ranker's score, or the blend of all."""
    deep: str = "deepfm"
    """Deep model that takes part in the blend when it was trained for the day."""
    rankers: tuple[str, ...] = ()
    """More rankers, as `package.module:function`; see docs/extending.md. The blend learns what each is worth."""
    calibration: str = Field(default="platt", pattern="^(none|platt|isotonic)$")
    """How the fine scores become probabilities that agree with the click rates of the validation rows."""
    diversity: float = Field(default=0.1, ge=0, lt=1)
    """Weight of unlikeness to what stands above, against relevance, in the served lists (MMR by category)."""
    fresh_days: float = Field(default=7.0, gt=0)
    """Items are fresh for so long."""
    fresh_share: float = Field(default=0.1, ge=0, le=1)
    """Least share of fresh items in a served list, where there are any among the candidates."""
    max_worse: float = Field(default=0.0, ge=0)
    """Relative log loss by which a model may be worse than the champion, surely, and still be promoted."""
