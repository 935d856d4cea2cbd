"""How weights start. Biases start at 0; weights are never all equal, but for `constant`, which is for demonstration."""

from collections.abc import Callable

from torch import Tensor, nn

SPREAD = 0.05

SCHEMES: dict[str, Callable[[Tensor], Tensor]] = {
    "constant": lambda weight: nn.init.constant_(weight, 0.01),
    "normal": lambda weight: nn.init.trunc_normal_(weight, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD),
    "uniform": lambda weight: nn.init.uniform_(weight, -SPREAD, SPREAD),
    "xavier": nn.init.xavier_uniform_,  # ±√(6 / (n + m)), Glorot and Bengio 2010
    "kaiming": nn.init.kaiming_normal_,  # N(0, 2 / n), He et al. 2015
}
"""Functions that fill a weight matrix in place; `normal` is cut at two deviations."""


def initialise_weights(model: nn.Module, scheme: str) -> None:
    """Fill the weights of all linear, convolution and embedding layers of `model`, in place.

    Args:
        model: the network; its layers are filled in the order of `model.modules()`.
        scheme: a key of `SCHEMES`, or `model`, which leaves the weights as the model has chosen them.
    """
    if scheme == "model":
        return
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding, nn.EmbeddingBag)):
            SCHEMES[scheme](module.weight)
            bias = getattr(module, "bias", None)
            if bias is not None:
                nn.init.zeros_(bias)
