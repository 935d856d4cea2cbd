"""Settings of deep training: the loop and its parts. Those of the models are in `training/net_settings.py`."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf import Settings

Precision = Literal["float32", "bfloat16", "float16"]


class TrainSettings(Settings):
    """The training loop, the same for every model and backend."""

    section: ClassVar[str] = "train"

    epochs: int = Field(default=2, gt=0)
    """Passes over the training rows."""
    batch_size: int = Field(default=1024, gt=0)
    """Rows of a step on each worker; the batch of a step is as many times that as there are workers."""
    accumulate: int = Field(default=1, gt=0)
    """Batches whose gradients are accumulated before a step, for batches that do not fit into memory."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Learning rate of one worker; it is multiplied by the number of workers."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """The optimizer's L2 penalty, on biases and norms, too (but with lars)."""
    embedding_decay: float | None = Field(default=None, ge=0)
    """L2 penalty of embeddings, whose rare ids overfit first; `weight_decay` without it."""
    clip_norm: float = Field(default=10.0, ge=0)
    """Largest norm of the gradients of all weights together; 0 does not clip."""
    precision: Precision = "float32"
    """Type of the matrix products (autocast); float16 scales the loss and needs a GPU. Weights stay float32."""
    tf32: bool = True
    """Products of float32 with ten bits of mantissa, on GPUs that have it: several times as fast."""
    compile: bool = False
    """Compile the net (torch.compile): a minute or more before the first step, fewer passes over memory after it."""
    initialise: Literal["model", "constant", "normal", "uniform", "xavier", "kaiming"] = "model"
    """Initialisation of the weights; `model` leaves it to the model."""
    shuffle_rows: int = Field(default=65536, ge=0)
    """Rows of the shuffle buffer, which is in memory; 0 keeps the order of the files."""
    threads: int = Field(default=2, gt=0)
    """Threads of each worker that read row groups."""
    prefetch: int = Field(default=4, ge=0)
    """Batches prepared ahead of the training step; 0 prepares each when it is needed."""
    cache_folder: Path | None = None
    """Folder on a local disk where row groups are cached, for data sets on slow stores; by default nothing is."""
    cache_gb: float = Field(default=10.0, gt=0)
    """Largest size of the cache."""
    train_dev: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training rows that is held out, to tell overfitting from a shift between days (`model gap`)."""
    bagging: bool = False
    """Weight each row by its own Poisson(1) draw: models of different seeds learn from different bootstrap samples."""
    metrics: tuple[str, ...] = ()
    """More metrics to report: names of `features.metrics.METRICS` (f1, average_precision, rmse …), or functions
    `package.module:function` of (labels, predictions) that return one number."""
    modules: tuple[str, ...] = ()
    """Packages and modules of yours, with all below them, that may be imported because a finished run names them as the
    maker of its model. What a command names itself, and modules beside the site's file, need no entry."""
    monitor: str = "log_loss"
    """Validation metric whose best epoch is the run's model, and that early stopping and the plateau schedule go by:
    log_loss, or one from 0 to 1 that is the better the larger, as auc or ndcg@10."""
    patience: int = Field(default=0, ge=0)
    """Early stopping: epochs without a better validation loss (`monitor`) after which training ends; 0 never stops."""
    keep_best: int = Field(default=2, gt=0)
    """Checkpoints with the smallest validation losses that are kept, besides the last one."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """Steps between checkpoints within an epoch; 0 writes them at the ends of epochs only."""
    loss_steps: int | None = Field(default=None, gt=0)
    """Steps between looks at whether the loss is finite; each has a GPU wait. By default 1 on the CPU, 20 on GPUs."""
    watch_steps: int = Field(default=0, ge=0)
    """Steps between measurements of each layer's |update| / |weight|, about 0.001 at a good learning rate; 0: none."""
    backend: Literal["local", "ray", "horovod", "spark"] | None = None
    """Backend when `--backend` is not given: by default local, and horovod in the day's stage."""
    workers: int | None = Field(default=None, gt=0)
    """Processes that train together when `--workers` is not given: by default 1, and 2 in the day's stage."""
    gpus_per_worker: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = "auto"
    """GPU of each worker: 1, a share as 0.5 (on Ray), or 0 for the CPU. auto: one each where the workers' nodes have
    enough of them, else a share where the engine has shares, else the CPU."""
    cpus_per_worker: int | None = Field(default=None, gt=0)
    """CPUs that each worker books, and its threads; by default 1 on Ray and Spark, and all of the machine elsewhere."""
    launch_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds that a launch waits for the workers' CPUs and GPUs before it ends with what is missing."""
    timeout_s: float = Field(default=120.0, ge=0)
    """Seconds within which a worker that stands still, as one that was stopped, is noticed and killed; 0: never."""
    max_failures: int = Field(default=2, ge=0)
    """Failures of workers after which Ray gives up."""
    min_workers: int | None = Field(default=None, gt=0)
    """Fewest workers that Ray trains with when it can't have all; by default all of them."""
    hosts: str | None = None
    """Hosts for `horovodrun`, as server1:4,server2:4; Horovod runs on Ray when not given."""
    seed: int = 7
    """Of initial weights, shuffling, dropout and negative samples."""


class OptimizerSettings(Settings):
    """The optimizer: how gradients become steps."""

    section: ClassVar[str] = "optimizer"

    name: Literal[
        "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "lars"
    ] = "adam"
    """`lars` is for batches of many thousand rows, where the others diverge."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of momentum, nesterov and lars."""
    # Kingma and Ba 2015, algorithm 1.
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean of gradients, of adam, adamax and nadam."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the mean of squared gradients (adamax: of their maximum), of adam, adamax and nadam."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to denominators, of all but sgd, momentum, nesterov and lars."""
    decay: float = Field(default=0.9, gt=0, lt=1)
    """Decay of the mean of squared gradients, of rmsprop and adadelta."""
    trust: float = Field(default=0.001, gt=0)
    """Trust coefficient of lars: |update| / |weight| of a layer at a learning rate of 1."""


class ScheduleSettings(Settings):
    """How the learning rate changes while training."""

    section: ClassVar[str] = "schedule"

    name: Literal[
        "constant", "step", "exponential", "natural_exponential", "polynomial", "inverse_time", "cosine", "plateau"
    ] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the rate rises linearly to its full height."""
    every: float = Field(default=1.0, gt=0)
    """Epochs after which step, exponential, natural exponential and inverse time apply `factor` once."""
    factor: float = Field(default=0.5, gt=0)
    """step, exponential, plateau: rate × factor; natural exponential: × exp(−factor); inverse time: / (1 + factor)."""
    power: float = Field(default=1.0, gt=0)
    """Exponent of polynomial; 1 falls linearly."""
    end: float = Field(default=0.0, ge=0, le=1)
    """Share of the full rate where polynomial and cosine end."""
    patience: int = Field(default=1, gt=0)
    """Epochs without a better validation loss (`train.monitor`) after which plateau lowers the rate."""


class LossSettings(Settings):
    """The loss that training minimises."""

    section: ClassVar[str] = "loss"

    name: Literal["cross_entropy", "focal", "hinge", "mse", "mae", "exponential", "ctc", "n_pair", "triplet"] = (
        "cross_entropy"
    )
    """n_pair and triplet are for retrieval models, mse, mae and exponential for labels 0 and 1, ctc for models of your
    own that score the classes at each step of a title."""
    # Lin et al. 2017, table 1b: the best pair on their data.
    focal_alpha: float = Field(default=0.25, gt=0, lt=1)
    """Weight of positives in the focal loss."""
    focal_gamma: float = Field(default=2.0, ge=0)
    """Exponent of the focal loss, which weighs easy examples down; 0 is cross entropy."""
    margin: float = Field(default=0.2, gt=0)
    """Margin of the triplet loss, by which the negative is to be farther away (in squared distance)."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing: share of a class's label that is spread over all classes."""
    center: float = Field(default=0.0, ge=0)
    """Weight of the center loss, added to that of classes."""
    l1: float = Field(default=0.0, ge=0)
    """L1 penalty, on the sum of |w| over weight matrices; with `l2` an elastic net."""
    l2: float = Field(default=0.0, ge=0)
    """L2 penalty, on half the sum of w² over weight matrices; 0.0005 is usual. Besides `train.weight_decay`."""
    temperature: float = Field(default=2.0, gt=0)
    """Temperature of distillation, for the scores of teacher and student (Hinton et al. 2015)."""
    distil: float = Field(default=0.5, ge=0, le=1)
    """Share of the distillation loss in the loss, where there is a teacher."""


class TransferSettings(Settings):
    """Transfer learning: starting from the weights of a finished run."""

    section: ClassVar[str] = "transfer"

    run: str | None = None
    """The run whose weights training starts from; by default from scratch."""
    recipe: Literal["last", "upper", "all", "thaw"] = "all"
    """last: only the last layer learns (small, similar data); upper: the last layer, then the upper half (small,
    different); all: all layers, the body at a small rate (large, similar); thaw: the last layer first, then all."""
    precompute: bool = False
    """With `last`: compute the features of each row once, and train the last layer on them."""
    body_rate: float = Field(default=0.1, gt=0, le=1)
    """Share of the learning rate that the layers below the last have."""
    thaw_epoch: int = Field(default=1, gt=0)
    """Epoch from which upper and thaw let more layers learn."""


class AugmentSettings(Settings):
    """Augmentation of covers in training; 0 leaves a change out."""

    section: ClassVar[str] = "augment"

    flip: bool = False
    """Mirror half of the images left to right."""
    rotate: float = Field(default=0.0, ge=0, le=180)
    """Rotate by up to so many degrees either way."""
    shift: float = Field(default=0.0, ge=0, lt=1)
    """Shift by up to such a share of the size, in both directions."""
    zoom: float = Field(default=0.0, ge=0, lt=1)
    """Scale up or down by up to such a share."""
    pad: int = Field(default=0, ge=0)
    """Pad by so many pixels, then crop at random to the image's size."""
    hsv: float = Field(default=0.0, ge=0, lt=1)
    """Change hue, saturation and value by up to such a share."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Change the contrast by up to such a share."""
    pca: float = Field(default=0.0, ge=0)
    """Standard deviation of the jitter along the principal colours (Fancy PCA; 0.1 in Krizhevsky et al. 2012)."""
    noise: float = Field(default=0.0, ge=0)
    """Standard deviation of Gaussian noise on each pixel."""
    five_crops: bool = False
    """Evaluate and predict by the mean over five crops, four corners and the centre, each 7/8 of the size."""


class RaySettings(Settings):
    """The Ray cluster for training and tuning."""

    section: ClassVar[str] = "ray"

    address: str | None = None
    """Address of a running cluster; by default a local one is started."""
    jobs: str | None = Field(default=None, pattern="^https?://")
    """The cluster's job server, as http://head:8265: `millrace submit` and Airflow send jobs there."""
    python: str | None = None
    """Path of the Python that runs those jobs and has Millrace's packages; by default the path of this one."""
    num_cpus: int = Field(default=4, gt=0)
    """Logical CPUs of a local cluster, which limit what runs at once; they may be more than the machine has."""
    object_store_mb: int = Field(default=256, ge=80)
    """Megabytes of shared memory of a local cluster's object store."""


class TrackingSettings(Settings):
    """Tracking of training curves in MLflow."""

    section: ClassVar[str] = "tracking"

    uri: str | None = None
    """MLflow's tracking server; by default a SQLite file under `paths.home`."""
    experiment: str = "millrace"
    is_on: bool = True
