"""Looks into a training step: where a number stopped being finite, and how large updates are beside their weights."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from training.inputs.batch import Batch

log = logging.getLogger(__name__)

USUAL = (1e-5, 1e-1)  # |update| / |weight| is about 1e-3 when the learning rate is right


def where_not_finite(module: nn.Module, batches: list[Batch], device: torch.device) -> str:
    """The input, weight or layer in which NaN or infinity first turns up."""
    for batch in batches:
        if not torch.isfinite(batch.dense).all():
            return "in the input: a dense feature is not finite"
        if not torch.isfinite(batch.weight).all():
            return "in the input: a weight of a row is not finite"
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"in the weights of layer {name}"
    first: list[str] = []

    def look(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = output if isinstance(output, tuple) else (output,)
            if not first and any(isinstance(t, Tensor) and not torch.isfinite(t).all() for t in tensors):
                first.append(name)

        return hook

    # Innermost modules end first, so the first hook that sees it is that of the layer itself.
    hooks = [part.register_forward_hook(look(name or "the loss")) for name, part in module.named_modules()]
    try:
        with torch.no_grad():
            for batch in batches:
                module(batch.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return f"in layer {first[0]}" if first else "in the gradients"


class UpdateRatios:
    """|update| / |weight| of each layer, every so many steps (0: never)."""

    def __init__(self, module: nn.Module, every: int, *, warns: bool = True) -> None:
        self._warns = warns
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad and p.ndim > 1}
        self._every = every
        self._before: dict[str, Tensor] = {}
        self.newest: dict[str, float] = {}

    def before(self, step: int) -> None:
        """Call before the optimizer's step."""
        if self._every and step % self._every == 0:
            self._before = {name: weight.detach().clone() for name, weight in self._parameters.items()}

    def after(self, step: int) -> None:
        """Call after it; warns of layers that learn far too fast or hardly at all."""
        for name, old in self._before.items():
            new = self._parameters[name].detach()
            self.newest[name] = float((new - old).norm() / old.norm().clamp(min=1e-12))
        for name in self._before if self._warns else ():
            ratio = self.newest[name]
            if ratio and not USUAL[0] <= ratio <= USUAL[1]:
                log.warning("step %d: |update| / |weight| of %s is %.1e, usual is 1e-3", step, name, ratio)
        self._before = {}

    def as_metrics(self) -> dict[str, float]:
        """The newest ratio of each layer, by the name that it has in the history."""
        return {f"update_ratio {name}": ratio for name, ratio in self.newest.items()}
