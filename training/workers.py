"""What the training loop knows of the process it runs in: rank, device, and how gradients and numbers are averaged.

`fit.py` sees only the Worker protocol; Ray, Horovod and Spark come in through one of these classes.
"""

from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer


class Worker(Protocol):
    """One of `world_size` processes that train together; rank 0 writes checkpoints and metrics."""

    rank: int
    world_size: int
    device: torch.device

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Give every rank the same start, and average gradients at each step."""
        ...

    def mean(self, value: float) -> float:
        """Mean over the ranks; every rank must call it."""
        ...

    def report(self, metrics: dict[str, float]) -> None:
        """Tell the launcher how an epoch went; every rank must call it."""
        ...


class LocalWorker:
    """One process on its own."""

    rank = 0
    world_size = 1

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimizer

    def mean(self, value: float) -> float:
        return value

    def report(self, metrics: dict[str, float]) -> None:
        pass


class RayWorker:
    """A worker of Ray Train, which has set up torch's process group."""

    def __init__(self) -> None:
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank = context.get_world_rank()
        self.world_size = context.get_world_size()
        self.device = ray.train.torch.get_device()

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        if self.world_size == 1:
            return model, optimizer
        return nn.parallel.DistributedDataParallel(model), optimizer

    def mean(self, value: float) -> float:
        if self.world_size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        mean: float = total.item() / self.world_size
        return mean

    def report(self, metrics: dict[str, float]) -> None:
        import ray.train

        ray.train.report(metrics)


class HorovodWorker:
    """A Horovod process; one GPU is pinned to each by its local rank."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        hvd.init()
        self._hvd: Any = hvd
        self.rank = hvd.rank()
        self.world_size = hvd.size()
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            torch.cuda.set_device(hvd.local_rank())
            self.device = torch.device("cuda", hvd.local_rank())

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        self._hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        # On an empty state Horovod takes a step with zero gradients first, which counts as one of Adam's steps.
        if optimizer.state:
            self._hvd.broadcast_optimizer_state(optimizer, root_rank=0)
        wrapped = self._hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
        return model, wrapped

    def mean(self, value: float) -> float:
        return float(self._hvd.allreduce(torch.tensor(value, dtype=torch.float64), name="mean"))

    def report(self, metrics: dict[str, float]) -> None:
        pass
