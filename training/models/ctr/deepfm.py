"""DeepFM (Guo et al. 2017): a factorisation machine and a deep network over the same embeddings."""

from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, LinearTerm, concat_features, concat_width, mlp, pairwise_products


class DeepFM(nn.Module):
    """logit = y_FM + y_DNN  (eq. 1), y_FM being the linear term and all pairwise products (eq. 2)."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.linear = LinearTerm(inputs)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.deep = mlp(concat_width(inputs, settings.dim), settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        v = self.embedding(sparse)  # (B, F, D)
        fm = self.linear(sparse, dense) + pairwise_products(v)  # (B,)
        logits: Tensor = fm + self.deep(concat_features(v, dense)).squeeze(1)
        return logits
