"""FinalMLP (Mao et al. 2023): two networks over differently gated features, joined by a bilinear product."""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_features, concat_width, mlp, mlp_width


class BilinearFusion(nn.Module):
    """b + w₁·x + w₂·y + Σ_h x_hᵀ W_h y_h over the heads h: (B, width), (B, width) -> (B,)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads if width % heads == 0 else 1
        head_width = width // self.heads
        self.x, self.y = nn.Linear(width, 1), nn.Linear(width, 1, bias=False)
        self.product = nn.Parameter(torch.randn(self.heads, head_width, head_width) * 0.01)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,) logits."""
        x_heads, y_heads = (part.view(-1, self.heads, part.shape[1] // self.heads) for part in (x, y))
        products = torch.einsum("bhi,hij,bhj->b", x_heads, self.product, y_heads)  # (B, heads, width / heads) each
        logits: Tensor = self.x(x).squeeze(1) + self.y(y).squeeze(1) + products
        return logits


class FinalMLP(nn.Module):
    """Stream-specific feature gates: one sees the user's fields, the other the item's, so that the streams differ."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = concat_width(inputs, settings.dim)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.gate_columns = (list(inputs.user_columns), list(inputs.item_columns))
        self.gates = nn.ModuleList(nn.Linear(max(len(c), 1) * settings.dim, width) for c in self.gate_columns)
        self.streams = nn.ModuleList(mlp(width, settings) for _ in self.gate_columns)
        self.fusion = BilinearFusion(mlp_width(width, settings), settings.heads)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        v = self.embedding(sparse)  # (B, F, D)
        x = concat_features(v, dense)  # (B, F·D + N)
        outputs = []
        for columns, gate, stream in zip(self.gate_columns, self.gates, self.streams, strict=True):
            # A data set without fields of one side: the gate is its bias alone.
            context = v[:, columns].flatten(1) if columns else v[:, 0] * 0  # (B, columns · D)
            outputs.append(stream(x * 2 * torch.sigmoid(gate(context))))  # a gate of 0 leaves x as it is
        logits: Tensor = self.fusion(*outputs)
        return logits
