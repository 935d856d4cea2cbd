"""Diagnosis of a training step: the layer in which NaN first turns up, and the size of updates beside their weights."""

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn

from training.inputs.batch import Batch

log = logging.getLogger(__name__)

# |update| / |weight| is about 1e-3 when the learning rate is right (Karpathy, CS231n); outside of this it is wrong.
USUAL_RATIO = (1e-5, 1e-1)


def where_not_finite(module: nn.Module, batches: list[Batch], device: torch.device) -> str:
    """The weight or layer in which NaN or infinity first turns up, as the end of an error message.

    Runs `batches` through `module` once more, so it is for a training that stops anyway. When all outputs are finite,
    it names the gradients.
    """
    for batch in batches:
        if not torch.isfinite(batch.weight).all():
            return "in the input: a weight of a row is not finite"
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"in the weights of layer {name}"
    first: list[str] = []  # a list, so that the hooks can fill it

    def find_in_output(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = output if isinstance(output, tuple) else (output,)
            if not first and any(isinstance(t, Tensor) and not torch.isfinite(t).all() for t in tensors):
                first.append(name)

        return hook

    # Innermost modules end first, so the first hook that sees it is that of the layer itself.
    hooks = [layer.register_forward_hook(find_in_output(name or "the loss")) for name, layer in module.named_modules()]
    try:
        with torch.no_grad():
            for batch in batches:
                module(batch.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    if first:
        return f"in layer {first[0]}"
    return "in the gradients" if batches else "in a step whose batches are gone"


class LossSum:
    """Sum of a rank's losses and of their rows' weights; losses stay on their device until they are read.

    Args:
        every: steps between looks at whether the losses are finite.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._unread: list[tuple[int, Tensor]] = []  # step, loss
        self.loss, self.weight = 0.0, 0.0

    def add(self, step: int, loss: Tensor, weight: float) -> tuple[int, float] | None:
        """Add the loss of a step, a scalar; the result is that of `read` where it is the step's turn."""
        self._unread.append((step, loss))
        self.weight += weight
        return self.read() if len(self._unread) == self._every else None

    def read(self) -> tuple[int, float] | None:
        """Read the losses since the last look into `loss`; step and value of the first that is not finite, if any."""
        if not self._unread:
            return None
        steps, losses = zip(*self._unread, strict=True)
        self._unread = []
        values = torch.stack(losses).tolist()  # waits for the GPU
        self.loss += sum(values)
        return next(((step, v) for step, v in zip(steps, values, strict=True) if not math.isfinite(v)), None)


class UpdateRatios:
    """|update| / |weight| of each layer: the norm of what a step changed, over the norm of the weights before it.

    Args:
        module: whose matrices that are trained are watched; vectors (biases, norms) start at 0 and have no ratio.
        every: steps between two looks, each of which copies the weights; 0 for never.
        warns: whether a ratio outside `USUAL_RATIO` is logged.
    """

    def __init__(self, module: nn.Module, every: int, *, warns: bool = True) -> None:
        self._warns = warns
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad and p.ndim > 1}
        self._every = every
        self._before: dict[str, Tensor] = {}
        self.newest: dict[str, float] = {}  # the newest ratio of each layer

    def before(self, step: int) -> None:
        """Copy the weights, where it is the step's turn; call before the optimizer's step."""
        if not self._every or step % self._every:
            return
        # A copy of all matrices, which is why not every step is measured.
        self._before = {name: weight.detach().clone() for name, weight in self._parameters.items()}

    def after(self, step: int) -> None:
        """Compute the ratios of the copied weights, and warn of layers that learn far too fast or hardly at all."""
        for name, old in self._before.items():
            new = self._parameters[name].detach()
            self.newest[name] = float((new - old).norm() / old.norm().clamp(min=1e-12))
        for name in self._before if self._warns else ():
            ratio = self.newest[name]
            # 0 is a frozen layer, or one whose rows no batch had.
            if ratio and not USUAL_RATIO[0] <= ratio <= USUAL_RATIO[1]:
                log.warning("step %d: |update| / |weight| of %s is %.1e, usual is 1e-3", step, name, ratio)
        self._before = {}
