"""SASRec (Kang and McAuley 2018): causal self-attention over what a user chose; the last place asks what is next."""

import torch
from torch import Tensor, nn

from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.item_catalog import ItemCatalog


class Block(nn.Module):
    """Attention and a pointwise network, each with layer norm before it and a residual around it."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.pointwise = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        query = self.before(x)
        x = x + self.attention(query, query, query, attn_mask=hidden, need_weights=False)[0]
        output: Tensor = x + self.pointwise(self.between(x))
        return output


class SASRec(nn.Module):
    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.catalog = ItemCatalog(inputs.num_items, len(inputs.item_columns))
        self.num_sampled, self.heads = settings.sampled, settings.heads
        self.item = nn.Embedding(inputs.num_items, settings.attention_dim)
        nn.init.normal_(self.item.weight, std=0.05)
        self.place = nn.Parameter(torch.randn(inputs.list_length, settings.attention_dim) * 0.05)
        self.blocks = nn.ModuleList(
            Block(settings.attention_dim, settings.heads, settings.dropout) for _ in range(settings.blocks)
        )
        self.last = nn.LayerNorm(settings.attention_dim)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, D): what is wanted next."""
        length = history.shape[1]
        x = self.item(history) + self.place
        place = torch.arange(length, device=history.device)
        future = place > place.unsqueeze(1)
        # Padding is not looked at, but every place may look at itself: a row without any would be NaN.
        itself = place == place.unsqueeze(1)
        hidden = (future | (history == 0).unsqueeze(1)) & ~itself  # (B, L, L)
        for block in self.blocks:
            x = block(x, hidden.repeat_interleave(self.heads, 0))
        last_state: Tensor = self.last(x[:, -1])
        return last_state

    def items(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.item(ids)
        return embedded


def build(config: Config, inputs: Inputs) -> nn.Module:
    return SASRec(inputs, config.get(NetSettings))
