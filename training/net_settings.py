"""Settings of the deep models: one section for all; each model takes what it has use for."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class NetSettings(Settings):
    """Shapes of the networks."""

    section: ClassVar[str] = "net"

    dim: int = Field(default=8, gt=0)
    """Length of the embeddings."""
    hidden: tuple[int, ...] = (64, 32)
    """Widths of the dense layers."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the dense layers' outputs left out while training; 0.2 to 0.5 is usual."""
    batch_norm: bool = False
    """Batch normalisation in the dense layers; dropout is then left out before it."""
    cross_layers: int = Field(default=2, gt=0)
    """Layers of crosses in DCN, of xDeepFM's CIN and of AutoInt's attention."""
    cross_maps: int = Field(default=16, gt=0)
    """Feature maps of each CIN layer."""
    heads: int = Field(default=2, gt=0)
    """Heads of attention; they share `attention_dim`."""
    attention_dim: int = Field(default=16, gt=0)
    """Width of attention and of recurrent layers."""
    blocks: int = Field(default=2, gt=0)
    """Layers of SASRec and of recurrent networks."""
    list_length: int = Field(default=20, gt=0)
    """Newest ids of a list that are looked at."""
    sampled: int = Field(default=200, gt=0)
    """Items drawn as negatives for a step of sampled softmax."""
    experts: int = Field(default=4, gt=0)
    """Experts of MMoE; of PLE for each task and for all together."""
    image_width: float = Field(default=0.25, gt=0)
    """Channels of the image networks, as a share of the published ones."""
    group_norm: bool = False
    """Group in place of batch normalisation in the image networks, for batches of 1 or 2."""
    sharded: bool = False
    """Embedding tables spread by row over the workers, for tables too big for one device."""
