"""What each worker books: CPUs, and a GPU, a share of one or none. Decided by the workers' nodes, not the driver's.

Pure: each backend says what its nodes have, `book` says what a worker gets or why it can't.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from conf import UserError
from training.settings import TrainSettings

DOCTOR = "see `millrace doctor`: {}"  # names of its lines
_EPSILON = 1e-6  # of shares of GPUs: 3 × 1/3 is one


@dataclass(frozen=True)
class Node:
    """A machine that workers may run on, with its CPUs and GPUs."""

    cpus: float
    gpus: float = 0.0

    def slots(self, cpus: float, gpus: float) -> int:
        """Workers of so many CPUs and GPUs that it has room for; a share never spans two GPUs."""
        by_cpu = math.floor(self.cpus / cpus + _EPSILON)
        if gpus == 0:
            return by_cpu
        return min(by_cpu, math.floor(self.gpus + _EPSILON) * math.floor(1 / gpus + _EPSILON))


@dataclass(frozen=True)
class Engine:
    """What starts the workers, and how it hands out GPUs."""

    name: str
    nodes: Sequence[Node]
    shares_gpus: bool = False
    """Whether it has shares of a GPU, which then exchange gradients by gloo: NCCL wants a GPU for each rank."""
    may_grow: bool = False
    """Whether nodes may join, so that a launch waits `train.launch_timeout_s` for what is missing."""

    def slots(self, cpus: float, gpus: float) -> int:
        """Workers of so many CPUs and GPUs that fit on all nodes together."""
        return sum(node.slots(cpus, gpus) for node in self.nodes)

    @property
    def gpus(self) -> int:
        """Whole GPUs of all nodes."""
        return sum(math.floor(node.gpus + _EPSILON) for node in self.nodes)


@dataclass(frozen=True)
class Booking:
    """What each worker gets."""

    cpus: int = 1
    gpus: float = 0.0
    is_exact: bool = False
    """Whether `train.gpus_per_worker` names the number: a worker that can't use its GPU is an error, then."""
    is_counted: bool = True
    """Whether an engine has counted these GPUs; else each rank takes what its machine has, without a word if none."""
    threads: int | None = None
    """Threads of a worker's computations; None leaves them to the environment."""
    note: str = ""
    """What a user should know of it, as that workers share a GPU."""

    @property
    def resources(self) -> dict[str, float]:
        """As Ray names them."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def __str__(self) -> str:
        return " and ".join(f"{amount:g} {name}" for name, amount in self.resources.items())


CPU = Booking()


def book(settings: TrainSettings, num_workers: int, engine: Engine, *, is_sharded: bool = False) -> Booking:
    """What each of `num_workers` workers books on the nodes of `engine`.

    Args:
        settings: `gpus_per_worker` and `cpus_per_worker`.
        num_workers: the fewest that training may start with.
        engine: where the workers run.
        is_sharded: whether tables are spread over the workers, which gloo can't exchange between GPUs.

    Raises:
        UserError: the nodes lack what the settings ask for, and no node may join.
    """
    cpus = settings.cpus_per_worker or 1
    if engine.slots(cpus, 0) < num_workers and not engine.may_grow:
        raise UserError(
            f"{num_workers} workers of {cpus} CPU each: {engine.name} has room for {engine.slots(cpus, 0)}; "
            f"lower --workers or train.cpus_per_worker, or give it more CPUs ({DOCTOR.format('cpus')})"
        )
    if settings.gpus_per_worker == "auto":
        gpus, note = auto_gpus(num_workers, cpus, engine, is_sharded=is_sharded)
    else:
        gpus, note = _exact_gpus(settings.gpus_per_worker, num_workers, cpus, engine, is_sharded), ""
    is_exact = settings.gpus_per_worker != "auto"
    return Booking(cpus, gpus, is_exact, threads=settings.cpus_per_worker, note=note)


def auto_gpus(num_workers: int, cpus: int, engine: Engine, *, is_sharded: bool = False) -> tuple[float, str]:
    """GPUs of each of `num_workers` workers of `cpus` CPUs where the settings leave it open, and what to say of it."""
    if not engine.gpus or engine.slots(cpus, 1) >= num_workers:
        return float(bool(engine.gpus)), ""
    there = f"{engine.name} has {engine.gpus} GPU{'s' if engine.gpus > 1 else ''} for {num_workers} workers"
    # Shares of one size: as many workers on each GPU as it takes.
    share = math.floor(1e4 / math.ceil(num_workers / engine.gpus)) / 1e4  # Ray has four decimals
    if engine.shares_gpus and not is_sharded and engine.slots(cpus, share) >= num_workers:
        return share, f"{there}: each has {share:g} of one"
    return 0.0, f"{there}: training on the CPU; --workers {engine.slots(cpus, 1) or 1} would use them"


def _exact_gpus(gpus: float, num_workers: int, cpus: int, engine: Engine, is_sharded: bool) -> float:
    """`gpus`. Raises UserError when the nodes have too few, or the engine has no shares."""
    asked = f"train.gpus_per_worker={gpus:g}"
    if 0 < gpus < 1 and not engine.shares_gpus:
        raise UserError(f"{asked}: {engine.name} hands out whole GPUs; set 1 or 0, or take --backend ray")
    if 0 < gpus < 1 and is_sharded and num_workers > 1:
        raise UserError(f"{asked}: workers that share a GPU can't exchange net.sharded tables; set 1 or 0")
    if gpus and engine.slots(cpus, gpus) < num_workers and not engine.may_grow:
        raise UserError(
            f"{num_workers} workers with {asked} and {cpus} CPU each: {engine.name} has {engine.gpus} GPUs and room "
            f"for {engine.slots(cpus, gpus)} of them; set train.gpus_per_worker=auto or 0, or lower --workers "
            f"({DOCTOR.format('gpus')})"
        )
    return gpus
