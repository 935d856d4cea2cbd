"""Private parts of libraries that training has to reach into, with the version that was looked at and the reason.

`tests/unit/training/test_compat.py` fails when a library no longer has the part: then the function here can go.
Imports nothing heavy: Ray's controller imports this file, too, and would wait for torch in vain.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def ray_on_loopback() -> Iterator[None]:
    """Let a local Ray 2.60 that starts in the block listen on loopback alone, all of its processes.

    `ray.init` resolves 127.0.0.1 to an address that others reach, whatever it is told. The variable is read when Ray is
    imported, which may have been before. On Windows and macOS it is off by itself.
    """
    variable = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before = os.environ.get(variable)
    os.environ[variable] = "0"
    from ray._private import ray_constants

    enabled, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        os.environ.pop(variable) if before is None else os.environ.update({variable: before})


def ray_serve_on_own_address() -> None:
    """Let the server that Ray Serve 2.60 starts in each replica listen at its node's address, not on all interfaces.

    It unpickles what it is sent. Called in a replica, before it is ready.
    """
    import ray
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server
    host = ray.util.get_node_ip_address()
    own = f"[{host}]:0" if ":" in host else f"{host}:0"
    replica.add_port_to_grpc_server = lambda server, address: add_port(server, address.replace("[::]:0", own))


@contextmanager
def horovod_rendezvous_on(host: str) -> Iterator[None]:
    """Let Horovod 0.28's rendezvous servers that start in the block listen at `host`, not on all interfaces.

    They ask for no login: whoever reaches one can read and change where the workers find each other.
    """
    from horovod.runner.http import http_server

    def find_port(server_factory: Callable[[tuple[str, int]], Any]) -> tuple[Any, int]:
        server = server_factory((host, 0))
        return server, int(server.server_address[1])

    original, http_server.find_port = http_server.find_port, find_port
    try:
        yield
    finally:
        http_server.find_port = original
