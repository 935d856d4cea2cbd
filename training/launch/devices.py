"""The device of each rank, by what was booked for it, and how the ranks exchange gradients: they agree before a step.

A rank whose torch has no CUDA, or that shares its GPU with another, changes what all of them do.
"""

import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import torch

from conf import UserError
from training.launch.booking import DOCTOR, Booking, Engine, Node, book
from training.settings import TrainSettings

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]  # public, but not in torch's list of names

log = logging.getLogger(__name__)

NETWORK_TIMEOUT = timedelta(minutes=5)  # of a collective, after which the other ranks give up on a dead one


@dataclass(frozen=True)
class Claim:
    """What one rank can train on: a GPU, or why not on the one that was booked for it."""

    rank: int
    host: str
    gpu: str = ""
    """Its id, which no other GPU of the host has; empty for the CPU."""
    obstacle: str = ""


@dataclass(frozen=True)
class Agreement:
    """What all ranks train on."""

    device: Literal["cpu", "cuda"] = "cpu"
    library: Literal["gloo", "nccl"] = "gloo"
    note: str = ""
    """Why it is the CPU though GPUs were booked."""


def claim(booking: Booking, rank: int, local_rank: int) -> Claim:
    """What this process can train on."""
    host = socket.gethostname()
    if not booking.gpus:
        return Claim(rank, host)
    if torch.version.cuda is None:
        return Claim(rank, host, obstacle=f"its torch {torch.__version__} is built without CUDA")
    if not torch.cuda.is_available():
        return Claim(rank, host, obstacle="torch finds no GPU there, or no driver for its CUDA")
    properties = torch.cuda.get_device_properties(local_rank % torch.cuda.device_count())
    return Claim(rank, host, gpu=str(properties.uuid))


def agree(claims: Sequence[Claim], booking: Booking, *, has_nccl: bool, gloo_takes_gpus: bool) -> Agreement:
    """What the ranks train on, the same on each of them.

    Args:
        claims: of all ranks.
        booking: what was booked for each.
        has_nccl: whether every rank can exchange tensors by NCCL.
        gloo_takes_gpus: whether gloo can exchange them where NCCL can't.

    Raises:
        UserError: `train.gpus_per_worker` asks for GPUs, and a rank can't use its own.
    """
    if not booking.gpus or not (booking.is_counted or any(claim.gpu for claim in claims)):
        return Agreement()
    gpus = {(claim.host, claim.gpu) for claim in claims}
    if blocked := next((claim for claim in claims if claim.obstacle), None):
        reason = f"rank {blocked.rank} on {blocked.host} can't use the GPU booked for it: {blocked.obstacle}"
    elif has_nccl and len(gpus) == len(claims):
        return Agreement("cuda", "nccl")
    elif gloo_takes_gpus or len(claims) == 1:
        return Agreement("cuda", "gloo")
    elif not has_nccl:
        reason = "Horovod is built without NCCL: `make setup` builds it anew where it finds CUDA and NCCL"
    else:
        reason = "ranks of one machine share a GPU, which NCCL refuses: have as many workers as GPUs"
    if booking.is_exact:
        raise UserError(f"{reason}; train.gpus_per_worker=0 trains on the CPU ({DOCTOR.format('horovod, cuda, gpus')})")
    return Agreement(note=f"{reason}: training on the CPU")


def device_of(agreement: Agreement, local_rank: int) -> torch.device:
    """This process's device; a GPU becomes the current one, which NCCL's collectives use."""
    if agreement.device == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def local_device(settings: TrainSettings) -> torch.device:
    """The device of a process that trains alone on this machine, which also gets `train.cpus_per_worker` threads.

    Raises UserError when the machine has less than the settings ask for.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    machine = Engine("this machine", [Node(os.cpu_count() or 1, gpus)], shares_gpus=True)
    booking = book(settings, 1, machine)
    if booking.threads:
        torch.set_num_threads(booking.threads)
    return torch.device("cuda:0" if booking.gpus else "cpu")


def join_group(booking: Booking, store: "Store", rank: int, world_size: int) -> tuple[Agreement, torch.device]:
    """Join torch's default process group, whose library all ranks have agreed on; returns that and this rank's device.

    Args:
        booking: what this rank got.
        store: of the group, which all ranks have opened.
        rank: of this process.
        world_size: number of ranks.

    Raises:
        UserError: see `agree`; the same on every rank, none waits for another.
    """
    dist = torch.distributed
    if booking.threads:
        torch.set_num_threads(booking.threads)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    store.set_timeout(NETWORK_TIMEOUT)
    # Over the store: a process group has its library from the start.
    mine = claim(booking, rank, local_rank)
    store.set(f"claim/{rank}", "\t".join((mine.host, mine.gpu, mine.obstacle)))
    claims = [Claim(r, *store.get(f"claim/{r}").decode().split("\t")) for r in range(world_size)]
    agreement = agree(claims, booking, has_nccl=dist.is_nccl_available(), gloo_takes_gpus=True)
    device = device_of(agreement, local_rank)
    dist.init_process_group(agreement.library, store=store, rank=rank, world_size=world_size, timeout=NETWORK_TIMEOUT)
    return agreement, device
