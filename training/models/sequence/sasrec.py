"""SASRec (Kang and McAuley 2018): causal self-attention over what a user chose; the last position scores the next."""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.item_catalog import ItemCatalog


class AttentionBlock(nn.Module):
    """x + g(norm(x)), g being attention, then a pointwise network (section 3.3): (B, L, D) -> (B, L, D)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.pointwise = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`mask` (B · heads, L, L) is True where a position (second last axis) must not look (last axis)."""
        normed = self.before(x)
        x = x + self.dropout(self.attention(normed, normed, normed, attn_mask=mask, need_weights=False)[0])
        output: Tensor = x + self.dropout(self.pointwise(self.between(x)))
        return output


class SASRec(nn.Module):
    """score(i) = <F_L, e_i>, F being `net.blocks` blocks of attention over the history (D: attention_dim)."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.catalog = ItemCatalog(inputs.num_items, len(inputs.item_columns))
        self.num_sampled, self.heads = settings.sampled, settings.heads
        self.item = nn.Embedding(inputs.num_items, settings.attention_dim)
        nn.init.normal_(self.item.weight, std=0.05)
        self.position = nn.Parameter(torch.randn(inputs.list_length, settings.attention_dim) * 0.05)
        self.blocks = nn.ModuleList(
            AttentionBlock(settings.attention_dim, settings.heads, settings.dropout) for _ in range(settings.blocks)
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.last = nn.LayerNorm(settings.attention_dim)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, L) past items, the newest last; fields and numbers are not read -> (B, D) vectors of users."""
        return self.states(sparse, dense, history)[:, -1]

    def states(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """The same after each item of the history: (B, L, D)."""
        x = self.dropout(self.item(history) + self.position)  # (B, L, D), eq. 1
        position = torch.arange(history.shape[1], device=history.device)
        is_future = position > position.unsqueeze(1)  # (L, L)
        is_itself = position == position.unsqueeze(1)
        # Padding is masked, but every position may look at itself: a softmax over nothing would be NaN.
        mask = (is_future | (history == 0).unsqueeze(1)) & ~is_itself  # (B, L, L)
        for block in self.blocks:
            x = block(x, mask.repeat_interleave(self.heads, 0))
        states: Tensor = self.last(x)
        return states

    def items(self, ids: Tensor) -> Tensor:
        """(B,) ids -> (B, D) vectors of items, those that the history is read by (shared, section 3.4)."""
        vectors: Tensor = self.item(ids)
        return vectors
