"""Settings of deep training."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class TrainSettings(Settings):
    """The loop, the same for every model and backend."""

    section: ClassVar[str] = "train"

    epochs: int = Field(default=2, gt=0)
    """Passes over the training rows."""
    batch_size: int = Field(default=1024, gt=0)
    """Rows a step on each worker."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Adam's rate; multiplied by the number of workers."""
    weight_decay: float = Field(default=1e-5, ge=0)
    clip_norm: float = Field(default=10.0, gt=0)
    """Gradients longer than this are shortened to it."""
    shuffle_rows: int = Field(default=65536, ge=0)
    """Rows held in memory to shuffle among; 0 keeps the order of the row groups."""
    keep_best: int = Field(default=2, gt=0)
    """Checkpoints kept besides the last one."""
    seed: int = 7


class DeepFMSettings(Settings):
    """DeepFM, Guo et al. 2017."""

    section: ClassVar[str] = "deepfm"

    dim: int = Field(default=8, gt=0)
    """Length of the embeddings."""
    hidden: tuple[int, ...] = (64, 32)
    """Widths of the dense layers."""
    dropout: float = Field(default=0.2, ge=0, lt=1)


class RaySettings(Settings):
    """The Ray cluster for training and tuning."""

    section: ClassVar[str] = "ray"

    address: str | None = None
    """Address of a running cluster; a local one is started when not given."""
    num_cpus: int = Field(default=4, gt=0)
    """Logical processors of a local cluster: more than the machine has is fine, they only count who may run at once."""
    object_store_mb: int = Field(default=256, ge=80)
    """Shared memory of a local cluster."""
