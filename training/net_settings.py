"""Settings of the deep models: one section for all, of which each model reads what it needs."""

from typing import ClassVar

from pydantic import Field

from conf import Settings


class NetSettings(Settings):
    """Shapes of the networks."""

    section: ClassVar[str] = "net"

    dim: int = Field(default=8, gt=0)
    """Dimension of the embeddings."""
    embedding_std: float = Field(default=0.01, gt=0)
    """Deviation of the normal distribution that the fields' embeddings start from; FuxiCTR has 0.0001. With a strong
    `train.embedding_decay`, larger ones first shrink for epochs, in which a plateau schedule may end the training."""
    hidden: tuple[int, ...] = (64, 32)
    """Widths of the hidden dense layers."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout of the dense layers and of attention; 0.2 to 0.5 is usual."""
    batch_norm: bool = False
    """Batch normalisation in the dense layers, in place of dropout."""
    cross_layers: int = Field(default=2, gt=0)
    """Cross layers of DCN, layers of xDeepFM's CIN and of AutoInt's attention."""
    cross_maps: int = Field(default=16, gt=0)
    """Feature maps of each CIN layer."""
    heads: int = Field(default=2, gt=0)
    """Heads of attention, each `attention_dim` / `heads` wide; of FinalMLP's bilinear fusion."""
    attention_dim: int = Field(default=16, gt=0)
    """Width of attention and recurrent layers, and of the item embeddings of SASRec and GRU4Rec."""
    blocks: int = Field(default=2, gt=0)
    """Layers of SASRec and of recurrent networks."""
    list_length: int = Field(default=20, gt=0)
    """Newest ids of a list that a model reads."""
    history: str = "history"
    """The list that DIN and retrieval models read as the history: what the user chose (`history`), or a list of items
    that the site declares by `Last`, as `last_add_to_cart`."""
    sampled: int = Field(default=200, ge=0)
    """Negatives that a step of sampled softmax draws, shared by the rows of its batch; 0: softmax over all items."""
    experts: int = Field(default=4, gt=0)
    """Experts of MMoE; in PLE the shared ones, and as many for each task."""
    image_width: float = Field(default=0.25, gt=0)
    """Channels of the image networks, as a share of the published ones."""
    group_norm: bool = False
    """Group norm in place of batch norm in the image networks, for batches of a few rows."""
    sparse_gradients: bool = False
    """Gradients and steps of those rows of the embedding tables alone that a batch has: for tables of a million rows.
    By the optimizer adam, where moments of other rows rest, too (lazy Adam), or adagrad and sgd without decay."""
    sharded: bool = False
    """Shard embedding tables by row over the workers, for tables too big for one device."""
