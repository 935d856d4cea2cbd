"""Optimizers by name. All but LARS are torch's own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RMSprop

from training.compat import skip_torch_compiler_import
from training.settings import OptimizerSettings, TrainSettings

Groups = Iterable[dict[str, Any]]
Make = Callable[[Groups, float, float, OptimizerSettings], Optimizer]


def _sgd(groups: Groups, rate: float, decay: float, _: OptimizerSettings) -> Optimizer:
    return SGD(groups, lr=rate, weight_decay=decay)


def _momentum(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    return SGD(groups, lr=rate, weight_decay=decay, momentum=s.momentum)


def _nesterov(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    return SGD(groups, lr=rate, weight_decay=decay, momentum=s.momentum, nesterov=True)


def _adagrad(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    return Adagrad(groups, lr=rate, weight_decay=decay, eps=s.epsilon)


def _adadelta(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    return Adadelta(groups, lr=rate, weight_decay=decay, rho=s.decay, eps=s.epsilon)


def _rmsprop(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    return RMSprop(groups, lr=rate, weight_decay=decay, alpha=s.decay, eps=s.epsilon)


def _adam(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    # Fused is one pass over the weights instead of several, on CPUs, too.
    return Adam(groups, lr=rate, weight_decay=decay, betas=(s.beta1, s.beta2), eps=s.epsilon, fused=True)


def _adamax(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    return Adamax(groups, lr=rate, weight_decay=decay, betas=(s.beta1, s.beta2), eps=s.epsilon)


def _nadam(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    return NAdam(groups, lr=rate, weight_decay=decay, betas=(s.beta1, s.beta2), eps=s.epsilon)


def _lars(groups: Groups, rate: float, decay: float, s: OptimizerSettings) -> Optimizer:
    return LARS(groups, lr=rate, weight_decay=decay, momentum=s.momentum, trust=s.trust)


OPTIMIZERS: dict[str, Make] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamax": _adamax,
    "nadam": _nadam,
    "lars": _lars,
}


def make_optimizer(groups: Groups, train: TrainSettings, settings: OptimizerSettings, *, workers: int = 1) -> Optimizer:
    """The configured optimizer; the rate is multiplied by the number of workers.

    `groups` are torch's: each has `params` and may have `rate_factor`, which `LearningRates` heeds.
    """
    skip_torch_compiler_import()
    rate = train.learning_rate * workers
    return OPTIMIZERS[settings.name]([*groups], rate, train.weight_decay, settings)


class LARS(Optimizer):
    """Layer-wise adaptive rates (You et al. 2017): each layer's step is in proportion to its weights.

    Matrices step by rate × trust × |w| / (|g| + decay |w|); vectors (biases, norms) step as with momentum alone.
    """

    def __init__(
        self, params: Any, lr: float, weight_decay: float = 0.0, momentum: float = 0.9, trust: float = 0.001
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; `closure` computes the loss anew, when given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step_of(weight, group)
        return loss

    def _step_of(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        gradient, decay = weight.grad, group["weight_decay"]
        if gradient is None:
            return
        scale: torch.Tensor | float = 1.0
        if weight.ndim > 1:
            size, slope = weight.norm(), gradient.norm()
            fitted = group["trust"] * size / (slope + decay * size)
            scale = torch.where((size > 0) & (slope > 0), fitted, torch.ones_like(size))
            gradient = gradient + decay * weight
        velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
        velocity.mul_(group["momentum"]).add_(gradient * scale * group["lr"])
        weight.sub_(velocity)
