"""ESMM (Ma et al. 2018): p(like) = p(click) · p(like | click), learned over all impressions, not only clicked ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_features, concat_width, mlp


class ESMM(nn.Module):
    """pCTCVR = pCTR · pCVR (eq. 1) by two networks over shared embeddings, for the task `entire_space`."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        width = concat_width(inputs, settings.dim)
        self.embedding = FieldEmbedding(inputs, settings.dim, settings.embedding_std)
        self.click = mlp(width, settings, 1)
        self.after_click = mlp(width, settings, 1)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B, 2) logits of a click, and of a click with what follows."""
        x = concat_features(self.embedding(sparse), dense)  # (B, F·D + N)
        # At least single precision, under autocast, too: 1 − p below has no digit left in bfloat16's eight bits.
        click, after_click = self.click(x), self.after_click(x)  # (B, 1) each
        dtype = torch.promote_types(click.dtype, torch.float32)
        click, after_click = click.to(dtype), after_click.to(dtype)
        # The product of probabilities as a sum of logs, which does not underflow.
        log_both = functional.logsigmoid(click) + functional.logsigmoid(after_click)
        log_both = log_both.clamp(max=-1e-6)  # p below 1, or log(1 − p) has no value
        both = log_both - torch.log(1 - torch.exp(log_both))  # logit = log p − log(1 − p)
        return torch.cat([click, both], dim=1)
