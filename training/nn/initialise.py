"""How weights start. Biases start at 0; weights are never all equal, but for `constant`, which is for demonstration."""

from collections.abc import Callable

from torch import Tensor, nn

from training.nn.layers import TABLES, fill_weight

SPREAD = 0.05

SCHEMES: dict[str, Callable[[Tensor], Tensor]] = {
    "constant": lambda weight: nn.init.constant_(weight, 0.01),
    "normal": lambda weight: nn.init.trunc_normal_(weight, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD),
    "uniform": lambda weight: nn.init.uniform_(weight, -SPREAD, SPREAD),
    "xavier": nn.init.xavier_uniform_,  # ±√(6 / (n + m)), Glorot and Bengio 2010
    "kaiming": nn.init.kaiming_normal_,  # N(0, 2 / n), He et al. 2015
}
"""Functions that fill a weight matrix in place; `normal` is cut at two deviations."""


# By the numbers of inputs and outputs of a layer: a table of embeddings has neither, and starts as the model says.
BY_FAN = ("xavier", "kaiming")


def initialise_weights(model: nn.Module, scheme: str) -> None:
    """Fill the weights of all linear and convolution layers of `model`, in place; embeddings, too, but for `BY_FAN`.

    Args:
        model: the network; its layers are filled in the order of `model.modules()`.
        scheme: a key of `SCHEMES`, or `model`, which leaves the weights as the model has chosen them.
    """
    if scheme == "model":
        return
    kinds = (nn.Linear, nn.Conv2d) if scheme in BY_FAN else (nn.Linear, nn.Conv2d, *TABLES)
    for module in model.modules():
        if isinstance(module, kinds):
            fill_weight(module, SCHEMES[scheme])
            bias = getattr(module, "bias", None)
            if bias is not None:
                nn.init.zeros_(bias)
