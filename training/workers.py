"""What the training loop knows of its process: rank, device, and how gradients and values are exchanged.

The loop sees only the `Worker` protocol; Ray, Horovod and Spark come in through one of these classes. Which one a
process gets is decided by its launcher, in `training/launch/`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from conf import UserError
from training.compat import exclude_from_ddp

T = TypeVar("T")


class Worker(Protocol):
    """One of `world_size` processes that train together; rank 0 writes checkpoints and metrics.

    `mean`, `gather`, `broadcast` and `report` are collective: a rank that leaves one out lets the others wait.
    """

    rank: int
    world_size: int
    device: torch.device

    def prepare(self, module: nn.Module, optimizer: Optimizer, accumulate: int) -> tuple[nn.Module, Optimizer]:
        """Give every rank rank 0's weights, and average gradients after every `accumulate` backward passes.

        Returns the module and the optimizer to train with, which may wrap those that were passed in.
        """
        ...

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """Around a backward pass whose gradients are only accumulated, when another one follows before the step."""
        ...

    def mean(self, value: float) -> float:
        """Mean over the ranks, in double precision, on every rank."""
        ...

    def gather(self, value: T) -> list[T]:
        """Values of all ranks in their order on rank 0, an empty list elsewhere; any object that can be pickled."""
        ...

    def broadcast(self, value: T) -> T:
        """Rank 0's value on every rank; with None it is a barrier."""
        ...

    def report(self, metrics: dict[str, float]) -> None:
        """Report an epoch's metrics to the launcher, where it has a use for them."""
        ...


class LocalWorker:
    """A process that trains on its own: nothing is exchanged."""

    rank = 0
    world_size = 1

    def __init__(self, device: torch.device | None = None) -> None:
        """`device` as it was booked; the first GPU, or the CPU where there is none, when not given."""
        self.device = device or torch.device("cuda:0" if torch.cuda.is_available() else "cpu")

    def prepare(self, module: nn.Module, optimizer: Optimizer, accumulate: int) -> tuple[nn.Module, Optimizer]:
        return module, optimizer

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def mean(self, value: float) -> float:
        return value

    def gather(self, value: T) -> list[T]:
        return [value]

    def broadcast(self, value: T) -> T:
        return value

    def report(self, metrics: dict[str, float]) -> None:
        """Nothing: no launcher waits for it."""


class TorchWorker:
    """A member of torch's default process group, which its launcher has set up by NCCL or gloo."""

    def __init__(self, device: torch.device) -> None:
        dist = torch.distributed
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.device = device
        # Python objects and single numbers travel by gloo also where tensors travel by NCCL, which has no CPU tensors.
        self._object_group = dist.new_group(backend="gloo") if dist.get_backend() != "gloo" else dist.group.WORLD

    def prepare(self, module: nn.Module, optimizer: Optimizer, accumulate: int) -> tuple[nn.Module, Optimizer]:
        from training.nn.sharded_embedding import sharded_modules

        if self.world_size == 1:
            return module, optimizer  # DDP would only copy every gradient
        exclude_from_ddp(module, [f"{name}.weight" for name, _ in sharded_modules(module)])
        require_sparse_exchange(module, torch.distributed.get_backend())
        # Running means of batch norm stay each rank's own, as Horovod has it; rank 0's are saved.
        return nn.parallel.DistributedDataParallel(
            module, forward_sync_buffers=False, gradient_as_bucket_view=True
        ), optimizer

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        if isinstance(module, nn.parallel.DistributedDataParallel):
            context: AbstractContextManager[None] = module.no_sync()
            return context
        return nullcontext()

    def mean(self, value: float) -> float:
        total = torch.tensor(value, dtype=torch.float64)
        torch.distributed.all_reduce(total, group=self._object_group)
        mean: float = total.item() / self.world_size
        return mean

    def gather(self, value: T) -> list[T]:
        values: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        torch.distributed.gather_object(value, values, group=self._object_group)
        return values or []

    def broadcast(self, value: T) -> T:
        values = [value]  # torch replaces the elements of the list in place
        torch.distributed.broadcast_object_list(values, src=0, group=self._object_group)
        return values[0]

    def report(self, metrics: dict[str, float]) -> None:
        """Nothing: a launcher that wants metrics has a worker of its own."""


def require_sparse_exchange(module: nn.Module, backend: str) -> None:
    """Raises UserError where gradients of embedding rows would have to be averaged by a backend that can't."""
    has_sparse = any(isinstance(one, nn.Embedding) and one.sparse for one in module.modules())
    if has_sparse and backend == "nccl":  # torch has no all_reduce of sparse tensors over NCCL
        raise UserError(
            "net.sparse_gradients can't be averaged over NCCL: add net.sharded=true, whose rows have one owner, or "
            "take --backend horovod"
        )


class RayWorker(TorchWorker):
    """A worker of Ray Train."""

    def report(self, metrics: dict[str, float]) -> None:
        import ray.train

        # Metrics only: checkpoints are in the run folder, where every backend resumes from.
        ray.train.report(metrics)


class HorovodWorker:
    """A Horovod process, whose launcher has initialised Horovod."""

    def __init__(self, device: torch.device) -> None:
        import horovod.torch as hvd

        self._hvd: Any = hvd
        self.rank = hvd.rank()
        self.world_size = hvd.size()
        self.device = device

    def prepare(self, module: nn.Module, optimizer: Optimizer, accumulate: int) -> tuple[nn.Module, Optimizer]:
        from training.nn.sharded_embedding import sharded_modules

        if sharded_modules(module):  # Horovod averages every parameter
            raise UserError("net.sharded works with --backend ray and spark; Horovod has every worker hold all rows")
        # Horovod can't broadcast booleans; ours, `is_item` of the item catalog, every rank loads from the same file.
        parameters = {name: value for name, value in module.state_dict().items() if value.dtype != torch.bool}
        self._hvd.broadcast_parameters(parameters, root_rank=0)
        distributed_optimizer = self._hvd.DistributedOptimizer(
            optimizer, named_parameters=module.named_parameters(), backward_passes_per_step=accumulate
        )
        return module, distributed_optimizer

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()  # Horovod counts the backward passes itself

    def mean(self, value: float) -> float:
        # The name pairs up the ranks' calls; all ranks make them in the same order.
        mean = self._hvd.allreduce(torch.tensor(value, dtype=torch.float64), name="mean")
        return float(mean)

    def gather(self, value: T) -> list[T]:
        values: list[T] = self._hvd.allgather_object(value, name="gather")  # it has no gather to one rank
        return values if self.rank == 0 else []

    def broadcast(self, value: T) -> T:
        shared: T = self._hvd.broadcast_object(value, root_rank=0, name="share")
        return shared

    def report(self, metrics: dict[str, float]) -> None:
        """Nothing: Horovod starts processes and asks them for no metrics."""
