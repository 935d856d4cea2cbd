"""DLRM (Naumov et al. 2019): numbers become one more vector; dot products of all vectors feed the top network."""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, mlp


class DLRM(nn.Module):
    """logit = top(bottom(dense), <v_i, v_j> for all i > j), the vectors being bottom(dense) and the embeddings."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        num_vectors = inputs.num_fields + 1
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.bottom = mlp(len(inputs.dense), settings, settings.dim)
        self.top = mlp(settings.dim + num_vectors * (num_vectors - 1) // 2, settings, 1)
        self.lower: Tensor  # (2, pairs) rows and columns below the diagonal: each pair once, no vector with itself
        self.register_buffer("lower", torch.tril_indices(num_vectors, num_vectors, -1), persistent=False)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        numbers = self.bottom(dense)  # (B, D)
        v = torch.cat([numbers.unsqueeze(1), self.embedding(sparse)], dim=1)  # (B, 1 + F, D)
        products = (v @ v.transpose(1, 2))[:, self.lower[0], self.lower[1]]  # (B, pairs)
        logits: Tensor = self.top(torch.cat([numbers, products], dim=1)).squeeze(1)
        return logits
