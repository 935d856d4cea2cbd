"""What the training loop knows of the process it runs in: rank, device, and how gradients and numbers are averaged.

`fit.py` sees only the Worker protocol; Ray, Horovod and Spark come in through one of these classes.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

T = TypeVar("T")


class Worker(Protocol):
    """One of `world_size` processes that train together; rank 0 writes checkpoints and metrics."""

    rank: int
    world_size: int
    device: torch.device

    def prepare(self, module: nn.Module, optimizer: Optimizer, accumulate: int) -> tuple[nn.Module, Optimizer]:
        """Give every rank the same start, and average gradients after every `accumulate` backward passes."""
        ...

    def without_averaging(self, module: nn.Module) -> AbstractContextManager[None]:
        """Around a backward pass whose gradients are only added up, when there is another one before the step."""
        ...

    def mean(self, value: float) -> float:
        """Mean over the ranks; every rank must call it."""
        ...

    def gather(self, value: T) -> list[T]:
        """Values of all ranks on rank 0, nothing elsewhere; every rank must call it."""
        ...

    def share(self, value: T) -> T:
        """Rank 0's value on every rank; every rank must call it."""
        ...

    def report(self, metrics: dict[str, float]) -> None:
        """Tell the launcher how an epoch went; every rank must call it."""
        ...


def local_device(local_rank: int) -> torch.device:
    """The GPU with the number of the process on its machine, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


class LocalWorker:
    """One process on its own."""

    rank = 0
    world_size = 1

    def __init__(self) -> None:
        self.device = local_device(0)

    def prepare(self, module: nn.Module, optimizer: Optimizer, accumulate: int) -> tuple[nn.Module, Optimizer]:
        return module, optimizer

    def without_averaging(self, module: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def mean(self, value: float) -> float:
        return value

    def gather(self, value: T) -> list[T]:
        return [value]

    def share(self, value: T) -> T:
        return value

    def report(self, metrics: dict[str, float]) -> None:
        pass


class TorchWorker:
    """A member of torch's process group, which whoever launched it has set up: NCCL where there are GPUs, else gloo."""

    def __init__(self) -> None:
        dist = torch.distributed
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.device = local_device(int(os.environ.get("LOCAL_RANK", "0")))
        # Objects travel by gloo also where tensors travel by NCCL.
        self._objects = dist.new_group(backend="gloo") if dist.get_backend() != "gloo" else dist.group.WORLD

    def prepare(self, module: nn.Module, optimizer: Optimizer, accumulate: int) -> tuple[nn.Module, Optimizer]:
        from training.nn.sharded_embedding import prepare_for_ddp

        if self.world_size == 1:
            return module, optimizer
        prepare_for_ddp(module)
        # Running means of batch norm stay each rank's own, as Horovod has it; rank 0's are saved.
        return nn.parallel.DistributedDataParallel(
            module, forward_sync_buffers=False, gradient_as_bucket_view=True
        ), optimizer

    def without_averaging(self, module: nn.Module) -> AbstractContextManager[None]:
        if isinstance(module, nn.parallel.DistributedDataParallel):
            paused: AbstractContextManager[None] = module.no_sync()
            return paused
        return nullcontext()

    def mean(self, value: float) -> float:
        total = torch.tensor(value, dtype=torch.float64)
        torch.distributed.all_reduce(total, group=self._objects)
        mean: float = total.item() / self.world_size
        return mean

    def gather(self, value: T) -> list[T]:
        values: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        torch.distributed.gather_object(value, values, group=self._objects)
        return values or []

    def share(self, value: T) -> T:
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, group=self._objects)
        return box[0]

    def report(self, metrics: dict[str, float]) -> None:
        pass


class RayWorker(TorchWorker):
    """A worker of Ray Train; `on_ray` has set up the process group."""

    def report(self, metrics: dict[str, float]) -> None:
        import ray.train

        ray.train.report(metrics)


class SparkWorker(TorchWorker):
    """A process that TorchDistributor started on an executor; torchrun's variables say who it is."""

    def __init__(self) -> None:
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=timedelta(minutes=5))
        super().__init__()


class HorovodWorker:
    """A Horovod process; one GPU is pinned to each by its local rank."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        if not torch.cuda.is_available():
            # Its thread wakes every millisecond otherwise, and takes the processor from those that compute.
            os.environ.setdefault("HOROVOD_CYCLE_TIME", "5")
        hvd.init()
        self._hvd: Any = hvd
        self.rank = hvd.rank()
        self.world_size = hvd.size()
        self.device = local_device(hvd.local_rank())

    def prepare(self, module: nn.Module, optimizer: Optimizer, accumulate: int) -> tuple[nn.Module, Optimizer]:
        from training.nn.sharded_embedding import refuse_on_horovod

        refuse_on_horovod(module)
        # Horovod sends no truth values; those of items that are known come from a file that every rank reads.
        sent = {name: value for name, value in module.state_dict().items() if value.dtype != torch.bool}
        self._hvd.broadcast_parameters(sent, root_rank=0)
        wrapped = self._hvd.DistributedOptimizer(
            optimizer, named_parameters=module.named_parameters(), backward_passes_per_step=accumulate
        )
        return module, wrapped

    def without_averaging(self, module: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()  # Horovod counts the passes itself

    def mean(self, value: float) -> float:
        return float(self._hvd.allreduce(torch.tensor(value, dtype=torch.float64), name="mean"))

    def gather(self, value: T) -> list[T]:
        values: list[T] = self._hvd.allgather_object(value, name="gather")
        return values if self.rank == 0 else []

    def share(self, value: T) -> T:
        shared: T = self._hvd.broadcast_object(value, root_rank=0, name="share")
        return shared

    def report(self, metrics: dict[str, float]) -> None:
        pass
