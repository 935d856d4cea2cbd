"""DIN (Zhou et al. 2018): the items that a user chose before, weighted by how they match the item in question."""

import torch
from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_features, concat_width, mlp


class DIN(nn.Module):
    """User interest v_U(A) = Σ_j a(e_j, v_A) e_j  (eq. 3), beside the fields in a deep network.

    a(·) is a small network over past item, target item, their difference and product. Its outputs are not normalised
    by a softmax, so that their sum keeps the intensity of the interest (section 4.3).
    """

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.item = inputs.column_of("item_id")
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.attention = mlp(4 * settings.dim, settings, 1, hidden=(settings.attention_dim,))
        self.deep = mlp(concat_width(inputs, settings.dim) + settings.dim, settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor, history: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers, (B, L) past items -> (B,) logits."""
        v = self.embedding(sparse)  # (B, F, D)
        past = self.embedding.embed(history, self.item)  # (B, L, D), the items' own embeddings
        target = v[:, self.item : self.item + 1].expand_as(past)  # (B, L, D)
        pairs = torch.cat([past, target, past - target, past * target], dim=2)  # (B, L, 4·D)
        weight = self.attention(pairs.flatten(0, 1)).view(history.shape)  # (B, L)
        weight = weight * (history > 0).to(weight.dtype)  # none for padding
        interest = (weight.unsqueeze(2) * past).sum(dim=1)  # (B, D)
        logits: Tensor = self.deep(torch.cat([concat_features(v, dense), interest], dim=1)).squeeze(1)
        return logits
