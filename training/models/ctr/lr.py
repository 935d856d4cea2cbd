"""Logistic regression over ids and numbers (Richardson et al. 2007), the baseline of all click models."""

from torch import Tensor, nn

from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import LinearTerm


class LogisticRegression(nn.Module):
    """logit = b + Σ_f w[id_f] + w·dense."""

    def __init__(self, inputs: Inputs, settings: NetSettings) -> None:
        super().__init__()
        self.linear = LinearTerm(inputs)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(B, F) ids, (B, N) numbers -> (B,) logits."""
        logits: Tensor = self.linear(sparse, dense)
        return logits
