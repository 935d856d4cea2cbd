"""Wide & Deep (Cheng et al. 2016): a linear model that memorises beside a deep network that generalises.

The wide part's crossed features are the catalog's (`user_tag_category` …): they are fields like any other.
"""

from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, LinearTerm, concat_features, concat_width, mlp


class WideDeep(nn.Module):
    """logit = w_wide·[x, φ(x)] + w_deep·a⁽ˡ⁾ + b  (eq. 3), both parts trained together."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.wide = LinearTerm(inputs)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.deep = mlp(concat_width(inputs, settings.dim), settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        x = concat_features(self.embedding(sparse), dense)  # (B, F·D + N)
        logits: Tensor = self.wide(sparse, dense) + self.deep(x).squeeze(1)
        return logits
