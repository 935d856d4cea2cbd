"""Settings of recall, ranking and the served lists."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf import Settings
from conf.settings import SettingsEntry


class RecallSettings(Settings):
    """Recall channels, their quotas and hyper-parameters. Chosen on validation rows, never on test rows."""

    section: ClassVar[str] = "recall"

    quota: dict[str, int] = Field(
        default_factory=lambda: {
            "mf": 100, "ease": 60, "user_ease": 40, "item_cf": 30, "user_cf": 30, "als": 40, "two_tower": 20,
            "tags": 20, "content": 10, "hot": 30, "new": 10,
        }
    )  # fmt: skip
    """Channel -> most candidates that it may propose to a user; channels that are not named are off."""
    reserved: dict[str, int] = Field(default_factory=lambda: {"mf": 70})
    """Channel -> its first candidates stay, whatever their merged score, which favours what the site showed most; where
    impressions are logged."""
    exclude: Literal["clicked", "bought", "shown", "none"] = "clicked"
    """What lists leave out of a user's past: the items that they clicked (had a positive of), bought or were shown, or
    nothing, where people come back to the same items."""
    keep: int = Field(default=100, gt=0)
    """Candidates per user after the channels are merged."""
    history: int = Field(default=1000, gt=0)
    """Newest items of a user that the channels use."""
    history_half_life_days: float = Field(default=30.0, gt=0)
    """Half-life of an item of the history, before the newest one, in item-CF, user-CF, tags, content and two_tower."""
    half_life_days: float = Field(default=7.0, gt=0)
    """Half-life of a click in the popularity of `hot` and `tags`."""
    similarity: str = Field(default="cosine", pattern="^(cosine|jaccard)$")
    """Similarity of items in item-CF and of users in user-CF."""
    learn_at: int = Field(default=10, gt=0)
    """k of the nDCG@k that the channels' weights maximise."""
    neighbours: int = Field(default=200, gt=0)
    """Similar items stored for each item."""
    shrink: float = Field(default=5.0, ge=0)
    """Added to the norm of a similarity, so that pairs with one or two users don't lead."""
    user_cf_neighbours: int = Field(default=100, gt=0)
    """Similar users that vote."""
    user_cf_users: int = Field(default=50_000, gt=0)
    """Users among whom similar ones are searched: those who were active last."""
    ease_l2: float = Field(default=300.0, gt=0)
    """λ of the linear item model."""
    ease_items: int = Field(default=5000, gt=0)
    """Items in the linear models, the most popular ones; time grows with the cube."""
    ease_user_power: float = Field(default=0.25, ge=0)
    """How much users with long histories are weighted down: n^-power."""
    ease_item_power: float = Field(default=0.25, ge=0)
    """How much popular items are weighted down: n^-power."""
    user_ease_l2: float = Field(default=400.0, gt=0)
    """λ of the linear user model."""
    user_ease_users: int = Field(default=4000, gt=0)
    """Users in the linear user model, those who were active last; time grows with the cube."""
    als_rank: int = Field(default=64, gt=0)
    als_iterations: int = Field(default=8, gt=0)
    als_l2: float = Field(default=0.5, gt=0)
    als_user_l2: float = Field(default=1.0, gt=0)
    """λ of a user's vector when it is solved for scoring, scaled as in Rendle et al. 2022."""
    als_alpha: float = Field(default=10.0, gt=0)
    """Confidence in a positive, relative to that in an item without one."""
    als_blocks: int = Field(default=0, ge=0)
    """Blocks of users and of items on Spark; 0: as many as it has cores."""
    tower_dim: int = Field(default=32, gt=0)
    tower_epochs: int = Field(default=3, gt=0)
    tower_batch: int = Field(default=512, gt=1)
    tower_rate: float = Field(default=0.01, gt=0)
    tower_temperature: float = Field(default=0.1, gt=0)
    tower_users: int = Field(default=100_000, gt=0)
    """Users that the towers are trained on: those who were active last."""
    tower_pairs: int = Field(default=1_000_000, gt=0)
    """Most pairs (history, item left out of it) of an epoch; of more, each epoch samples as many."""
    tag_strength: float = Field(default=5.0, gt=0)
    """Weight of the overall shares of the topics in a user's profile, in positives."""
    content_words: int = Field(default=50_000, gt=0)
    """Most words in the vocabulary of the items' texts."""
    new_days: float = Field(default=7.0, gt=0)
    """Days after its publication in which an item is new."""
    exact_items: int = Field(default=50_000, gt=0)
    """Most items that als and two_tower search exactly; beyond, inverted lists have at least 98 % of the nearest."""
    driver_positives: int = Field(default=5_000_000, ge=0)
    """Most positives, and most users, that recall reads into the driver, 16 bytes a row; beyond, all stays on Spark."""
    seed: int = 7


class CoarseSettings(Settings):
    """The coarse ranker: LightGBM on dense features and small categories."""

    section: ClassVar[str] = "coarse"

    objective: str = Field(default="binary", pattern="^(binary|lambdarank)$")
    """binary: click probability; lambdarank: order within a list, calibrated on the validation rows afterwards."""
    num_leaves: int = Field(default=15, gt=1)
    learning_rate: float = Field(default=0.05, gt=0)
    rounds: int = Field(default=600, gt=0)
    """Most trees; early stopping on the validation rows leaves fewer."""
    patience: int = Field(default=30, gt=0)
    """Rounds without improvement before training stops."""
    min_rows_in_leaf: int = Field(default=100, gt=0)
    l2: float = Field(default=5.0, ge=0)
    feature_share: float = Field(default=0.7, gt=0, le=1)
    """Share of the features that each tree samples."""
    keep: int = Field(default=40, gt=0)
    """Candidates per user that pass on to fine ranking."""
    seed: int = 7


class MFSettings(Settings):
    """The Bayesian matrix factorisation: probabilities of clicks from posteriors of users' and items' vectors."""

    section: ClassVar[str] = "mf"

    factors: int = Field(default=12, gt=0)
    """Length of the vectors, besides their bias; time and memory grow with its square."""
    iterations: int = Field(default=14, gt=0)
    """Sweeps over users, items and context."""
    side_l2: float = Field(default=1.0, gt=0)
    """Ridge penalty of what the side information says of a vector."""
    seed: int = 7


class FMSettings(Settings):
    """The fine ranker: a factorisation machine trained online by FTRL-Proximal (McMahan et al. 2013)."""

    section: ClassVar[str] = "fm"

    k: int = Field(default=8, ge=0)
    """Number of factors; 0: a linear model."""
    bits: int = Field(default=20, ge=10, le=28)
    """The table has 2^bits rows, one per hashed feature."""
    bins: int = Field(default=12, gt=1)
    """Quantile bins of a dense feature."""
    alpha: float = Field(default=0.05, gt=0)
    """Learning rate of the linear weights."""
    beta: float = Field(default=1.0, gt=0)
    l1: float = Field(default=0.5, ge=0)
    l2: float = Field(default=1.0, ge=0)
    alpha_v: float = Field(default=0.02, gt=0)
    """Learning rate of the factors."""
    l2_v: float = Field(default=2.0, ge=0)
    sigma: float = Field(default=0.03, gt=0)
    """Standard deviation of the initial factors."""
    epochs: int = Field(default=1, gt=0)
    """Passes over the training rows; an online learner makes one."""
    field_aware: bool = False
    """Factors per pair of fields (Juan et al. 2016); memory grows with the number of fields."""
    weights: str = Field(default="float32", pattern="^(float32|q2\\.13)$")
    """q2.13: 16-bit fixed point with randomised rounding, half the memory of the weights; needs l1 = 0."""
    inclusion: str = Field(default="all", pattern="^(all|poisson|bloom)$")
    """New features: all, each occurrence with a probability (poisson), or from the n-th occurrence on (bloom)."""
    inclusion_probability: float = Field(default=0.1, gt=0, le=1)
    """Poisson inclusion: probability that an occurrence of a new feature includes it."""
    inclusion_count: int = Field(default=3, gt=0, lt=255)
    """Bloom inclusion: the occurrence that includes a feature."""
    bloom_bits: int = Field(default=22, ge=10, le=32)
    """The counting Bloom filter has 2^bloom_bits one-byte counters."""
    negative_rate: float = Field(default=1.0, gt=0, le=1)
    """Share of the lists without a click that is trained on, each of their rows with weight 1 / rate."""
    threads: int = Field(default=1, gt=0)
    """Threads that train without locks (Hogwild); with more than one, results differ a little from run to run."""
    shards: int = Field(default=0, ge=0)
    """Ray actors that the table is spread over; 0 keeps it in this process."""
    shard_workers: int = Field(default=2, gt=0)
    """Workers that train at the same time when there are shards."""
    shard_rows: int = Field(default=2048, gt=0)
    """Examples of a worker between a pull and a push."""
    snapshot_every: int = Field(default=50, gt=0)
    """Pushes between two snapshots of a shard: what its death may lose."""
    warm_start: bool = False
    """Continue from the newest model of an earlier day, on rows that are newer than its last one."""
    seed: int = 7


class LinearVariantSettings(SettingsEntry):
    """One linear model of `linear_variants.models`."""

    alpha: float = Field(default=0.05, gt=0)
    """Learning rate."""
    l1: float = Field(default=0.0, ge=0)
    l2: float = Field(default=1.0, ge=0)
    without: tuple[str, ...] = ()
    """Features of the catalog that the model leaves out."""


class LinearVariantsSettings(Settings):
    """Linear models that `recsys fine` trains beside the FM, all in one pass over the training rows (McMahan et al.
    2013, sections 4.3 to 4.5), to compare features and rates cheaply.
    """

    section: ClassVar[str] = "linear_variants"

    models: dict[str, LinearVariantSettings] = Field(default_factory=dict)
    """Name -> model; the progressive log loss of each is logged as the metric of model `linear/NAME`."""
    share_weights: bool = False
    """One weight per feature for all models, moved by the mean of their updates; saves memory when they are similar."""
    field_importance: bool = False
    """Log how much the progressive log loss grows without each feature: one more model per feature, in the same way."""


class RecommendSettings(Settings):
    """Ranked lists: the blend, their evaluation, re-ranking and promotion."""

    section: ClassVar[str] = "recommend"

    length: int = Field(default=20, gt=0)
    """Items per user in ads_recommendation."""
    ks: tuple[int, ...] = (5, 10, 20, 50)
    """Every k that ranking metrics are computed at."""
    order: str = "blend"
    """Score that orders the served lists: blend, merged (recall), coarse, fine, deep or one of `rankers`."""
    deep: str = "deepfm"
    """Deep model that takes part in the blend when it was trained for the day."""
    rankers: tuple[str, ...] = ()
    """More rankers for the blend, as `package.module:function`; see docs/extending.md."""
    calibration: str = Field(default="platt", pattern="^(none|platt|isotonic)$")
    """How the FM's scores are calibrated on the validation rows."""
    block_rows: int = Field(default=100_000, gt=0)
    """Candidates that are ranked at a time, of whole users: memory, and nothing else, follows it."""
    diversity: float = Field(default=0.0, ge=0, lt=1)
    """Weight of dissimilarity to the items above, against relevance, in the served lists (MMR by category)."""
    fresh_days: float = Field(default=7.0, gt=0)
    """Days after its publication in which an item is fresh."""
    fresh_share: float = Field(default=0.1, ge=0, le=1)
    """Least share of fresh items in a served list, as far as there are any among the candidates."""
    fresh_boost: float = Field(default=0.0, ge=-1, le=1)
    """Added to the relevance of a fresh item, which goes from 0 for a user's last candidate to 1 for the first."""
    boosts: dict[Literal["category", "author"], dict[str, Annotated[float, Field(ge=-1, le=1)]]] = Field(
        default_factory=dict
    )
    """Attribute -> its value -> what is added to the relevance of such items; below 0 moves them down."""
    max_per_category: int = Field(default=0, ge=0)
    """Most items of one category in a served list, which is shorter where nothing else is left; 0: any number."""
    exclude_items: tuple[str, ...] = ()
    """Items that are in no served list, that of unknown users included."""
    max_worse: float = Field(default=0.0, ge=0)
    """Share of the clicks to expect of the champion's lists that may be lost, or by which its log loss may grow where
    the log can't judge lists; what is significantly more keeps a day out."""
