"""Private parts of libraries that training has to reach into, with the version that was looked at and the reason.

`tests/unit/training/test_compat.py` fails when a library no longer has the part: then the function here can go.
Imports nothing heavy: Ray's controller imports this file, too, and would wait for torch in vain.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any


def skip_torch_compiler_import() -> None:
    """Keep torch 2.13 from importing its compiler at the first optimizer: three seconds of each worker's start.

    `torch.optim.Optimizer` imports `torch._dynamo` only to exclude some methods from compilation, which changes nothing
    where nothing is compiled. Does nothing when the compiler has been imported already.
    """
    if "torch._dynamo" in sys.modules:
        return
    from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RMSprop

    for method in vars(Optimizer).values():
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            setattr(plain, "__dynamo_disable", plain)
    for optimizer in (SGD, Adagrad, Adadelta, RMSprop, Adam, Adamax, NAdam):
        if optimizer.step.__name__ != "_plain_step" and not hasattr(optimizer.step, "hooked"):
            optimizer.step = _without_compiler(optimizer.step.__wrapped__)  # type: ignore[method-assign, union-attr]


def _without_compiler(step: Callable[..., Any]) -> Callable[..., Any]:
    """What torch's own wrapper of `step` does, without its call into the compiler."""
    import torch

    def _plain_step(self: Any, *arguments: Any, **options: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *arguments, **options)

    return _plain_step


def exclude_from_ddp(module: Any, names: list[str]) -> None:
    """Have torch 2.13's DistributedDataParallel neither broadcast nor average the parameters `names` of `module`.

    It reads them off an attribute; the function that sets it is private, too, and there is no argument for it.
    """
    module._ddp_params_and_buffers_to_ignore = names


def ray_trainer(skipped_callbacks: Sequence[str]) -> Any:
    """The class of Ray Train 2.60's trainers, without some of the callbacks that it always adds.

    Each of them is a process that starts before the first step. Ray Train has no option to leave them out.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    class Trainer(DataParallelTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [callback for callback in callbacks if type(callback).__name__ not in skipped_callbacks]

    return Trainer
