"""Transfer learning: start from the weights of a finished run, and choose which layers learn and how fast (T13).

By the new data set: small and similar, `last`; small and different, `upper`; large and similar, `all` (the body at a
small rate) or `thaw` (the last layer first); large and different: from scratch, without transfer.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conf import Config, UserError
from features.compatibility import OtherFeaturesError, names_difference, trained_version
from training.inputs.schema import Inputs
from training.nn.sharded_embedding import full_shapes, load_full_weights
from training.saved import load_weights
from training.settings import TransferSettings

log = logging.getLogger(__name__)


def load_body(net: nn.Module, folder: Path, inputs: Inputs) -> list[str]:
    """Load every weight whose name and shape fit from another run's model folder.

    Args:
        net: gets the weights.
        folder: the other run's `model/`.
        inputs: of `net`; its features may be more than those of the other run, but not others in their places.

    Returns:
        Names of the weights that keep their initial values, such as a new last layer.

    Raises:
        UserError: no matrix fits, so it is another model, or it is of other features; or the folder has no weights.
    """
    trained = Inputs.load(folder)
    for before, now in ((trained.sized_fields, inputs.sized_fields), (trained.dense, inputs.dense)):
        shared = min(len(before), len(now))  # features are appended: weights of the first ones keep their meaning
        if difference := names_difference(before[:shared], now[:shared]):
            raise OtherFeaturesError(
                f"run {folder.parent.name} was trained on features {trained_version(folder.parent)}, which stand in "
                f"other places here: {difference}"
            )
    source, own = load_weights(folder), full_shapes(net)
    fitting = {name: value for name, value in source.items() if own.get(name) == value.shape}
    # Vectors alone (biases, norms) fit many a model by chance.
    if not any(value.ndim > 1 for value in fitting.values()):
        raise UserError(f"no layer of {folder} fits this model")
    load_full_weights(net, fitting, strict=False)
    initial = sorted(set(own) - set(fitting))
    log.info("%d tensors taken from %s, new: %s", len(fitting), folder.parent.name, ", ".join(initial) or "none")
    return initial


def parameter_groups(objective: nn.Module, config: Config) -> list[dict[str, Any]]:
    """The optimizer's groups: one, or last layer and body where training starts from another run's weights.

    The body learns at `transfer.body_rate` of the learning rate, so that it keeps what it has learned. Raises UserError
    when the model has no last linear layer.
    """
    settings = config.get(TransferSettings)
    if settings.run is None:
        return [{"params": list(objective.parameters())}]
    last = {id(weight) for weight in _last_layer(objective).parameters()}  # tensors compare by element
    body = [weight for weight in objective.parameters() if id(weight) not in last]
    head = [weight for weight in objective.parameters() if id(weight) in last]
    return [{"params": head}, {"params": body, "rate_factor": settings.body_rate}]


def thaw(objective: nn.Module, config: Config, epoch: int) -> None:
    """Freeze and thaw layers as `transfer.recipe` says for this epoch; called at the start of each.

    `last`: the last layer alone learns; `upper`: from `transfer.thaw_epoch` on also the upper half of the layers;
    `thaw`: from then on all of them. The gradients of a frozen layer are dropped, see `drop_frozen`.
    """
    settings = config.get(TransferSettings)
    if settings.run is None or settings.recipe == "all":
        return
    trainable = {id(weight) for weight in _last_layer(objective).parameters()}
    is_later = epoch >= settings.thaw_epoch
    if settings.recipe == "thaw" and is_later:
        trainable = {id(weight) for weight in objective.parameters()}
    if settings.recipe == "upper" and is_later:
        # Modules with weights of their own, in the order in which the model registers them.
        layers = [m for m in objective.modules() if next(m.parameters(recurse=False), None) is not None]
        trainable |= {id(weight) for layer in layers[len(layers) // 2 :] for weight in layer.parameters(recurse=False)}
    for weight in objective.parameters():
        _freeze(weight, id(weight) not in trainable)


def _freeze(weight: Tensor, is_frozen: bool) -> None:
    """By a hook, not by `requires_grad`: DDP and Horovod wait for the gradient of every parameter.

    A frozen weight is not decayed either: `drop_frozen` removes its gradient, so the optimizer skips it.
    """
    parameter: Any = weight
    if is_frozen and not hasattr(parameter, "frozen_by"):
        parameter.frozen_by = parameter.register_hook(torch.zeros_like)
    if not is_frozen and hasattr(parameter, "frozen_by"):
        parameter.frozen_by.remove()
        del parameter.frozen_by


def drop_frozen(objective: nn.Module) -> None:
    """Remove the gradients of frozen weights before a step: the optimizer then skips their decay and momentum, too."""
    for weight in objective.parameters():
        if hasattr(weight, "frozen_by"):
            weight.grad = None


def _last_layer(objective: nn.Module) -> nn.Module:
    last = None
    for submodule in objective.net.modules():  # type: ignore[union-attr]
        if isinstance(submodule, nn.Linear):
            last = submodule
    if last is None:
        raise UserError("this model has no last linear layer to train alone")
    return last
