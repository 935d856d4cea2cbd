"""Factorisation machine (Rendle 2010), the baseline of the deep models.

The online FM that ranks every day is `recsys/fine`; this one is trained in batches.
"""

from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, LinearTerm, pairwise_products


class FactorizationMachine(nn.Module):
    """logit = b + Σ_f w[id_f] + w·dense + Σ_{f<g} <v_f, v_g>  (eq. 1; crosses of the fields only, not of numbers)."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.linear = LinearTerm(inputs)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        v = self.embedding(sparse)  # (B, F, D)
        logits: Tensor = self.linear(sparse, dense) + pairwise_products(v)
        return logits
