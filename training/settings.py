"""Settings of deep training: the loop and its parts. Those of the models are in `training/net_settings.py`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from conf import Settings


class TrainSettings(Settings):
    """The loop, the same for every model and backend."""

    section: ClassVar[str] = "train"

    epochs: int = Field(default=2, gt=0)
    """Passes over the training rows."""
    batch_size: int = Field(default=1024, gt=0)
    """Rows a step on each worker."""
    accumulate: int = Field(default=1, gt=0)
    """Batches whose gradients are added up before a step, where memory allows only tiny ones."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Rate of the optimizer; multiplied by the number of workers."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """The optimizer's L2 penalty."""
    clip_norm: float = Field(default=10.0, ge=0)
    """Gradients longer than this are shortened to it; 0 leaves them."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of products in the network; float16 scales the loss and needs a GPU. Weights stay float32."""
    initialise: Literal["model", "constant", "normal", "uniform", "xavier", "kaiming"] = "model"
    """How weight matrices start; `model` leaves it to the model."""
    shuffle_rows: int = Field(default=65536, ge=0)
    """Rows held in memory to shuffle among; 0 keeps the order of the row groups."""
    threads: int = Field(default=2, gt=0)
    """Threads of each worker that read row groups."""
    prefetch: int = Field(default=4, ge=0)
    """Batches made ahead."""
    cache_folder: Path | None = None
    """Folder on a local disk that keeps row groups, for data sets on slow stores; none when not given."""
    cache_gb: float = Field(default=10.0, gt=0)
    """Size of it."""
    train_dev: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training rows that is not learned from, to tell variance from a mismatch (`model gap`)."""
    bagging: bool = False
    """Each row counts Poisson(1) times, by a draw of its own: models of different seeds learn from different rows."""
    metrics: tuple[str, ...] = ()
    """More metrics to report: names of `features.metrics.METRICS` (f1, average_precision, rmse …), or functions
    `package.module:function` of (labels, answers) that return one number."""
    patience: int = Field(default=0, ge=0)
    """Epochs without a smaller validation loss after which training stops; 0 trains them all."""
    keep_best: int = Field(default=2, gt=0)
    """Checkpoints kept besides the last one."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """Steps between checkpoints within an epoch; 0 writes them at the ends of epochs only."""
    watch_steps: int = Field(default=0, ge=0)
    """Steps between looks at |update| / |weight| of each layer, about 0.001 when the rate is right; 0 looks away."""
    max_failures: int = Field(default=2, ge=0)
    """Deaths of workers after which Ray gives up."""
    min_workers: int | None = Field(default=None, gt=0)
    """Ray goes on with as few workers when it can't have all; as many as asked for when not given."""
    hosts: str | None = None
    """Hosts for `horovodrun`, as server1:4,server2:4; Horovod runs on Ray when not given."""
    seed: int = 7


class OptimizerSettings(Settings):
    """How gradients become steps."""

    section: ClassVar[str] = "optimizer"

    name: Literal[
        "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "lars"
    ] = "adam"
    """LARS is for very large batches (over 6000 rows)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of momentum, nesterov, rmsprop's (0 there unless `rmsprop_momentum`) and lars."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    decay: float = Field(default=0.9, gt=0, lt=1)
    """Of the running squares of rmsprop and adadelta."""
    trust: float = Field(default=0.001, gt=0)
    """Of LARS: |update| / |weight| that a layer is allowed."""


class ScheduleSettings(Settings):
    """How the learning rate changes while training."""

    section: ClassVar[str] = "schedule"

    name: Literal[
        "constant", "step", "exponential", "natural_exponential", "polynomial", "inverse_time", "cosine", "plateau"
    ] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the rate rises to its full height."""
    every: float = Field(default=1.0, gt=0)
    """Epochs after which step, exponential, natural exponential and inverse time apply `factor` once."""
    factor: float = Field(default=0.5, gt=0)
    """step, exponential, plateau: rate × factor; natural exponential: × exp(−factor); inverse time: / (1 + factor)."""
    power: float = Field(default=1.0, gt=0)
    """Of polynomial."""
    end: float = Field(default=0.0, ge=0, le=1)
    """Share of the full rate where polynomial and cosine end."""
    patience: int = Field(default=1, gt=0)
    """Epochs without a smaller validation loss after which plateau lowers the rate."""


class LossSettings(Settings):
    """What is made small."""

    section: ClassVar[str] = "loss"

    name: Literal["cross_entropy", "focal", "hinge", "mse", "mae", "exponential", "n_pair", "triplet"] = "cross_entropy"
    """n_pair and triplet are for models of users and items; the others for clicks and classes."""
    focal_alpha: float = Field(default=0.25, gt=0, lt=1)
    """Weight of positives in the focal loss."""
    focal_gamma: float = Field(default=2.0, ge=0)
    """How much the focal loss looks away from what is easy."""
    margin: float = Field(default=0.2, gt=0)
    """Of the triplet loss."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of a class's label that is spread over all classes."""
    center: float = Field(default=0.0, ge=0)
    """Weight of the center loss beside that of classes."""
    l1: float = Field(default=0.0, ge=0)
    """Weight of the sum of |weight|; with `l2` an elastic net."""
    l2: float = Field(default=0.0, ge=0)
    """Weight of half the sum of squared weights; 0.0005 is usual. (`train.weight_decay` is the optimizer's own.)"""
    temperature: float = Field(default=2.0, gt=0)
    """Of the teacher's answers in distillation."""
    distil: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss that a teacher's answers have, where there is a teacher."""


class TransferSettings(Settings):
    """Starting from the weights of a finished run."""

    section: ClassVar[str] = "transfer"

    run: str | None = None
    """The run whose weights training starts from; none: from scratch."""
    recipe: Literal["last", "upper", "all", "thaw"] = "all"
    """last: only the last layer learns (small, similar data); upper: the last layer, then the upper half (small,
    different); all: all layers, the body at a small rate (large, similar); thaw: the last layer first, then all."""
    precompute: bool = False
    """With `last`: compute what the body makes of each row once, and train the last layer on that."""
    body_rate: float = Field(default=0.1, gt=0, le=1)
    """Share of the learning rate that layers below the last have."""
    thaw_epoch: int = Field(default=1, gt=0)
    """Epoch from which upper and thaw let more layers learn."""


class AugmentSettings(Settings):
    """How covers are changed while training; every 0 leaves something as it is."""

    section: ClassVar[str] = "augment"

    flip: bool = False
    """Mirrored left to right, half of them."""
    rotate: float = Field(default=0.0, ge=0, le=180)
    """Turned by up to so many degrees either way."""
    shift: float = Field(default=0.0, ge=0, lt=1)
    """Moved by up to such a share of the size."""
    zoom: float = Field(default=0.0, ge=0, lt=1)
    """Made larger or smaller by up to such a share."""
    pad: int = Field(default=0, ge=0)
    """Padded by so many pixels, then cropped at random to its size."""
    hsv: float = Field(default=0.0, ge=0, lt=1)
    """Hue, saturation and value changed by up to such a share."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Contrast changed by up to such a share."""
    pca: float = Field(default=0.0, ge=0)
    """Deviation of the jitter along the principal colours (Fancy PCA; 0.1 in Krizhevsky et al. 2012)."""
    noise: float = Field(default=0.0, ge=0)
    """Deviation of noise added to each pixel."""
    five_crops: bool = False
    """When measuring and predicting: the mean over four corners and the centre, each 7/8 of the size."""


class RaySettings(Settings):
    """The Ray cluster for training and tuning."""

    section: ClassVar[str] = "ray"

    address: str | None = None
    """Address of a running cluster; a local one is started when not given."""
    jobs: str | None = Field(default=None, pattern="^https?://")
    """Its job server, as http://head:8265: `millrace submit` and Airflow send jobs there."""
    python: str | None = None
    """Python of those jobs, with Millrace's packages; the path of this one when not given."""
    num_cpus: int = Field(default=4, gt=0)
    """Logical processors of a local cluster: more than the machine has is fine, they only count who may run at once."""
    object_store_mb: int = Field(default=256, ge=80)
    """Shared memory of a local cluster."""


class TrackingSettings(Settings):
    """Curves of training in MLflow."""

    section: ClassVar[str] = "tracking"

    uri: str | None = None
    """MLflow's tracking server; a SQLite file under `paths.home` when not given."""
    experiment: str = "millrace"
    is_on: bool = True
