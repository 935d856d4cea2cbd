"""Optimizers by name. All but LARS are torch's own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RMSprop

from conf import UserError
from training.compat import skip_torch_compiler_import
from training.nn.layers import TABLES
from training.settings import OptimizerSettings, TrainSettings


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017): each layer's step is in proportion to its weights.

    Matrices step by rate × trust × |w| / (|g| + decay |w|), on g + decay w; vectors (biases, norms) step as with
    momentum alone, without decay.
    """

    def __init__(
        self, params: Any, lr: float, weight_decay: float = 0.0, momentum: float = 0.9, trust: float = 0.001
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "trust": trust}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; `closure`, when given, computes the loss anew, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        local_rate: torch.Tensor | float = 1.0
        if weight.ndim > 1:
            weight_norm, gradient_norm = weight.norm(), gradient.norm()
            trusted = group["trust"] * weight_norm / (gradient_norm + decay * weight_norm)
            # A layer of zeros, or without a gradient, has no scale of its own.
            has_scale = (weight_norm > 0) & (gradient_norm > 0)
            local_rate = torch.where(has_scale, trusted, torch.ones_like(weight_norm))
            gradient = gradient + decay * weight
        # The rate is inside the velocity, as in the paper: a schedule's drop does not shrink steps already taken up.
        velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
        velocity.mul_(group["momentum"]).add_(gradient * local_rate * group["lr"])
        weight.sub_(velocity)


class LazyAdam(Adam):
    """Adam which of a sparse gradient changes the rows that it has, and their moments; others rest as they are.

    Moments and the number of steps are kept as Adam keeps them. Weight decay is of these rows as well. For dense
    gradients it is Adam.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; `closure`, when given, computes the loss anew, which is returned."""
        sparse = [
            (group, weight, weight.grad)
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None and weight.grad.is_sparse
        ]
        for _, weight, _ in sparse:
            weight.grad = None  # Adam passes over weights without a gradient
        loss: float | None = super().step(closure)
        for group, weight, gradient in sparse:
            weight.grad = gradient
            self._update_rows(weight, gradient.coalesce(), group)
        return loss

    @torch.no_grad()
    def _update_rows(self, weight: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        (beta1, beta2), rows, values = group["betas"], gradient.indices()[0], gradient.values()
        if group["weight_decay"]:
            values = values + group["weight_decay"] * weight[rows]
        mean = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        # Bias corrections of Kingma and Ba 2015, algorithm 1, by the steps of the table; 1 − 0.999 in double precision.
        steps = state["step"].double()
        scale = (1 - beta2**steps).sqrt().float()
        rate = (group["lr"] / (1 - beta1**steps)).float()
        weight.index_add_(0, rows, -rate * mean / (square.sqrt() / scale + group["eps"]))


Options = Callable[[OptimizerSettings], dict[str, Any]]

# What each takes besides the learning rate and weight decay.
OPTIMIZERS: dict[str, tuple[type[Optimizer], Options]] = {
    "sgd": (SGD, lambda s: {}),
    "momentum": (SGD, lambda s: {"momentum": s.momentum}),
    "nesterov": (SGD, lambda s: {"momentum": s.momentum, "nesterov": True}),
    "adagrad": (Adagrad, lambda s: {"eps": s.epsilon}),
    "adadelta": (Adadelta, lambda s: {"rho": s.decay, "eps": s.epsilon}),
    "rmsprop": (RMSprop, lambda s: {"alpha": s.decay, "eps": s.epsilon}),
    "adam": (Adam, lambda s: {"betas": (s.beta1, s.beta2), "eps": s.epsilon}),
    "adamax": (Adamax, lambda s: {"betas": (s.beta1, s.beta2), "eps": s.epsilon}),
    "nadam": (NAdam, lambda s: {"betas": (s.beta1, s.beta2), "eps": s.epsilon}),
    "lars": (LARS, lambda s: {"momentum": s.momentum, "trust": s.trust}),
}

# Devices with one pass over the weights instead of several. SGD's on CPUs rounds otherwise than the loop it replaces.
FUSED: dict[type[Optimizer], tuple[str, ...]] = {Adam: ("cpu", "cuda"), SGD: ("cuda",)}
# Those that take sparse gradients, and whether with weight decay.
BY_ROWS: dict[str, tuple[type[Optimizer], bool]] = {
    "adam": (LazyAdam, True),
    "adagrad": (Adagrad, False),
    "sgd": (SGD, False),
}


def with_embedding_decay(
    groups: Iterable[dict[str, Any]], module: nn.Module, decay: float | None
) -> list[dict[str, Any]]:
    """Parameter groups in which embeddings have a decay of their own.

    Args:
        groups: torch's parameter groups.
        module: the model whose weights they are.
        decay: of `nn.Embedding` and its like; None to leave the groups as they are.
    """
    if decay is None:
        return list(groups)
    tables = (one for one in module.modules() if isinstance(one, TABLES))
    embeddings = {id(weight) for table in tables for weight in table.parameters(recurse=False)}
    parted = []
    for group in groups:
        inside = [weight for weight in group["params"] if id(weight) in embeddings]
        outside = [weight for weight in group["params"] if id(weight) not in embeddings]
        parted += [{**group, "params": outside}] if outside else []
        parted += [{**group, "params": inside, "weight_decay": decay}] if inside else []
    return parted


def make_optimizer(
    groups: Iterable[dict[str, Any]], train: TrainSettings, settings: OptimizerSettings, *, by_rows: bool = False
) -> Optimizer:
    """The configured optimizer, at the learning rate of the settings; `LearningRates` sets it step by step.

    Args:
        groups: torch's parameter groups: each has `params` and may have `rate_factor`, which `LearningRates` heeds.
        train: has the learning rate and the weight decay.
        settings: name of the optimizer, and what it takes.
        by_rows: whether gradients may be sparse.

    Raises:
        UserError: the optimizer takes no sparse gradients.
    """
    if not train.compile:
        skip_torch_compiler_import()  # three seconds of each worker's start
    kind, options_of = OPTIMIZERS[settings.name]
    groups, options = [*groups], options_of(settings)
    if by_rows:
        kind = _kind_by_rows(settings.name, has_decay=bool(train.weight_decay or train.embedding_decay))
    # Fused ones take no sparse gradients, and skip a step of float16 that overflowed by themselves.
    elif groups[0]["params"][0].device.type in FUSED.get(kind, ()):
        options["fused"] = True
    make: Any = kind  # torch's base class does not declare what its subclasses take
    optimizer: Optimizer = make(groups, lr=train.learning_rate, weight_decay=train.weight_decay, **options)
    return optimizer


def _kind_by_rows(name: str, *, has_decay: bool) -> type[Optimizer]:
    if name not in BY_ROWS:
        raise UserError(f"net.sparse_gradients works with optimizer.name {', '.join(BY_ROWS)}, not with {name}")
    kind, takes_decay = BY_ROWS[name]
    if has_decay and not takes_decay:
        raise UserError(
            f"net.sparse_gradients with optimizer.name={name} works without decay: set train.weight_decay=0 and "
            "train.embedding_decay=0, or take adam"
        )
    return kind
