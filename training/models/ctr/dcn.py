"""DCN v2 (Wang et al. 2021): layers of explicit crosses, then a deep network."""

from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_features, concat_width, mlp, mlp_width


class DCN(nn.Module):
    """x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l  (eq. 1), `net.cross_layers` times; the stacked variant."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = concat_width(inputs, settings.dim)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.cross_layers))
        self.deep = mlp(width, settings)
        self.out = nn.Linear(mlp_width(width, settings), 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        x = x_0 = concat_features(self.embedding(sparse), dense)  # (B, F·D + N)
        for cross in self.crosses:
            x = x_0 * cross(x) + x
        logits: Tensor = self.out(self.deep(x)).squeeze(1)
        return logits
