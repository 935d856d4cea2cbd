"""AutoInt (Song et al. 2019): fields attend to one another; numbers are fields, too (value × embedding, eq. 4)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding


class FieldAttention(nn.Module):
    """Multi-head self-attention over the fields with a residual, eq. 5 to 8: (B, F, width) -> (B, F, out).

    Products are scaled by 1/√(out / heads), which the paper leaves out: it keeps the softmax from saturating.
    """

    def __init__(self, width: int, out: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, out, bias=False) for _ in range(3))
        self.residual = nn.Linear(width, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Each field as a mixture of all fields, added to a projection of itself."""
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, F, out / heads)
            for project in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(q, k, v)  # (B, heads, F, out / heads)
        return torch.relu(attended.transpose(1, 2).flatten(2) + self.residual(x))


class AutoInt(nn.Module):
    """`net.cross_layers` layers of attention, then a linear layer over all fields (eq. 9)."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.numbers = nn.Parameter(torch.randn(len(inputs.dense), settings.dim) * 0.01)
        widths = [settings.dim] + [settings.attention_dim] * settings.cross_layers
        self.layers = nn.ModuleList(FieldAttention(before, after, settings.heads) for before, after in pairwise(widths))
        self.out = nn.Linear((inputs.num_fields + len(inputs.dense)) * widths[-1], 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        numbers = dense.unsqueeze(2) * self.numbers  # (B, N, D)
        x = torch.cat([self.embedding(sparse), numbers], dim=1)  # (B, F + N, D)
        for layer in self.layers:
            x = layer(x)  # (B, F + N, attention_dim)
        logits: Tensor = self.out(x.flatten(1)).squeeze(1)
        return logits
