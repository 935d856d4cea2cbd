"""How weights start. Biases start at 0; weights are never all equal (but for `constant`, which is for looking only)."""

from torch import Tensor, nn

SPREAD = 0.05


def initialise(model: nn.Module, how: str) -> None:
    """Fill every weight matrix of linear, convolution and embedding layers.

    constant 0.01; normal N(0, 0.05²) cut at two deviations; uniform ±0.05; xavier ±√(6/(n+m)); kaiming N(0, 2/n).
    `model` leaves what the model chose.
    """
    if how == "model":
        return
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding, nn.EmbeddingBag)):
            _fill(module.weight, how)
            bias = getattr(module, "bias", None)
            if bias is not None:
                nn.init.zeros_(bias)


def _fill(weight: Tensor, how: str) -> None:
    if how == "constant":
        nn.init.constant_(weight, 0.01)
    elif how == "normal":
        nn.init.trunc_normal_(weight, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
    elif how == "uniform":
        nn.init.uniform_(weight, -SPREAD, SPREAD)
    elif how == "xavier":
        nn.init.xavier_uniform_(weight)
    else:
        nn.init.kaiming_normal_(weight)
