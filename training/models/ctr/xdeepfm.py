"""xDeepFM (Lian et al. 2018): a compressed interaction network beside a deep and a linear part."""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, LinearTerm, concat_features, concat_width, mlp


class CompressedInteraction(nn.Module):
    """CIN: X^k_h = Σ_ij W^{k,h}_ij (X^{k−1}_i ⊙ X⁰_j)  (eq. 6): (B, F, D) -> (B, layers · maps)."""

    def __init__(self, num_fields: int, layers: int, maps: int) -> None:
        super().__init__()
        widths = [num_fields] + [maps] * layers
        # A convolution of size 1 over D is the weighted sum over the pairs (i, j), for all maps at once.
        self.weights = nn.ModuleList(nn.Conv1d(before * num_fields, maps, 1) for before in widths[:-1])

    def forward(self, x_0: Tensor) -> Tensor:
        """Σ over D of every feature map (eq. 7), those of all layers side by side."""
        x, pooled = x_0, []
        for weight in self.weights:
            products = torch.einsum("bid,bjd->bijd", x, x_0).flatten(1, 2)  # (B, H_{k−1}·F, D)
            x = torch.relu(weight(products))  # (B, maps, D)
            pooled.append(x.sum(dim=2))  # (B, maps)
        return torch.cat(pooled, dim=1)


class XDeepFM(nn.Module):
    """logit = linear term + w·CIN + deep network  (eq. 9)."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.linear = LinearTerm(inputs)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.cin = CompressedInteraction(inputs.num_fields, settings.cross_layers, settings.cross_maps)
        self.cin_out = nn.Linear(settings.cross_layers * settings.cross_maps, 1)
        self.deep = mlp(concat_width(inputs, settings.dim), settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        v = self.embedding(sparse)  # (B, F, D)
        crosses = self.cin_out(self.cin(v)).squeeze(1)  # (B,)
        logits: Tensor = self.linear(sparse, dense) + crosses + self.deep(concat_features(v, dense)).squeeze(1)
        return logits
