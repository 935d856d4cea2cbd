"""What workers book, from what their nodes have: whole GPUs, shares, or the CPU; and what can't be is refused at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data.training_sets import make_job

from conf import UserError, load
from training.launch.backends import BACKENDS
from training.launch.booking import Booking, Engine, Node, book
from training.launch.devices import Agreement, Claim, agree, local_device
from training.launch.on_spark import DISCOVERY, EXECUTOR_GPUS, TASK_CPUS, TASK_GPUS, with_booking
from training.settings import TrainSettings

CPU_HEAD, GPU_NODE = Node(4), Node(8, 2)


def engine(*nodes: Node, **options: bool) -> Engine:
    return Engine("Ray", nodes, **options)


@pytest.mark.parametrize(
    ("workers", "nodes", "shares", "gpus", "note"),
    [
        (2, [CPU_HEAD], True, 0, ""),
        (2, [CPU_HEAD, GPU_NODE], False, 1, ""),  # from a head without GPUs those of the nodes are booked
        (4, [GPU_NODE, GPU_NODE], False, 1, ""),
        (2, [Node(4, 1)], True, 0.5, "1 GPU for 2 workers: each has 0.5 of one"),
        (3, [Node(4, 1)], True, 0.3333, "each has 0.3333 of one"),
        (3, [Node(4, 2)], True, 0.5, "each has 0.5 of one"),
        (2, [Node(4, 1)], False, 0, "training on the CPU; --workers 1 would use them"),
        (2, [Node(1, 1), Node(1)], True, 0, "training on the CPU"),  # the GPU's node has a CPU for one worker only
    ],
)
def test_auto_takes_the_gpus_that_the_workers_nodes_have(
    workers: int, nodes: list[Node], shares: bool, gpus: float, note: str
) -> None:
    booking = book(TrainSettings(), workers, engine(*nodes, shares_gpus=shares))
    assert booking.gpus == gpus
    assert not booking.is_exact
    assert note in booking.note
    assert bool(note) == bool(booking.note)
    # It fits, and so never waits for what isn't there.
    assert sum(node.slots(booking.cpus, booking.gpus) for node in nodes) >= workers


@pytest.mark.parametrize(
    ("settings", "workers", "message"),
    [
        ({"gpus_per_worker": 1}, 2, "2 workers with train.gpus_per_worker=1 and 1 CPU each: Ray has 1 GPUs"),
        (
            {"gpus_per_worker": 0.6},
            2,
            "room for 1 of them; set train.gpus_per_worker=auto or 0",
        ),  # two don't fit on one
        ({"cpus_per_worker": 3}, 2, "2 workers of 3 CPU each: Ray has room for 1; lower --workers or train.cpus_per"),
    ],
)
def test_what_the_nodes_lack_is_refused_at_once(settings: dict[str, float], workers: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        book(TrainSettings(**settings), workers, engine(Node(4, 1), shares_gpus=True))
    # Nodes may join somebody's cluster: that launch waits.
    assert book(TrainSettings(**settings), workers, engine(Node(4, 1), shares_gpus=True, may_grow=True))


def test_shares_are_for_engines_that_have_them_and_for_whole_tables() -> None:
    settings = TrainSettings(gpus_per_worker=0.5, cpus_per_worker=2)
    assert book(settings, 2, engine(Node(4, 1), shares_gpus=True)) == Booking(2, 0.5, True, threads=2)
    with pytest.raises(UserError, match="hands out whole GPUs"):
        book(settings, 2, engine(Node(4, 1)))
    with pytest.raises(UserError, match=r"can't exchange net\.sharded tables"):
        book(settings, 2, engine(Node(4, 1), shares_gpus=True), is_sharded=True)
    assert book(TrainSettings(), 2, engine(Node(4, 1), shares_gpus=True), is_sharded=True).gpus == 0
    assert str(Booking(2, 0.5)) == "2 CPU and 0.5 GPU"


@pytest.mark.parametrize("value", ["two", 2, -1])
def test_a_worker_has_one_gpu_at_most(value: object) -> None:
    with pytest.raises(UserError, match=r"train\.gpus_per_worker"):
        load(overrides=[f"train.gpus_per_worker={value}"], environment={})


BOTH = (Claim(0, "a", "GPU-1"), Claim(1, "a", "GPU-2"))
SHARED = (Claim(0, "a", "GPU-1"), Claim(1, "a", "GPU-1"))
ONE_WITHOUT = (Claim(0, "a", "GPU-1"), Claim(1, "b", obstacle="its torch is built without CUDA"))


@pytest.mark.parametrize(
    ("claims", "has_nccl", "gloo", "device", "library", "note"),
    [
        (BOTH, True, False, "cuda", "nccl", ""),
        (SHARED, True, True, "cuda", "gloo", ""),  # NCCL refuses two ranks on a GPU
        (SHARED, True, False, "cpu", "gloo", "ranks of one machine share a GPU"),
        (BOTH, False, False, "cpu", "gloo", "Horovod is built without NCCL: `make setup` builds it anew"),
        (ONE_WITHOUT, True, True, "cpu", "gloo", "rank 1 on b can't use the GPU booked for it: its torch is built"),
    ],
)
def test_all_ranks_agree_before_the_first_tensor(
    claims: tuple[Claim, ...], has_nccl: bool, gloo: bool, device: str, library: str, note: str
) -> None:
    agreement = agree(claims, Booking(gpus=1), has_nccl=has_nccl, gloo_takes_gpus=gloo)
    assert (agreement.device, agreement.library) == (device, library)
    assert note in agreement.note
    assert bool(note) == bool(agreement.note)
    if note:  # a number in the settings is no wish
        with pytest.raises(UserError, match=note):
            agree(claims, Booking(gpus=1, is_exact=True), has_nccl=has_nccl, gloo_takes_gpus=gloo)


def test_the_cpu_is_what_a_worker_without_a_gpu_of_its_own_takes_without_a_word() -> None:
    """Though torch may see the GPUs of others: Ray leaves them visible to who has booked none."""
    assert agree(BOTH, Booking(), has_nccl=True, gloo_takes_gpus=True) == Agreement()
    nothing = [Claim(0, "a", obstacle="its torch is built without CUDA")]
    assert agree(nothing, Booking(gpus=1, is_counted=False), has_nccl=False, gloo_takes_gpus=False) == Agreement()


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (["spark.master=spark://host:7077", "train.gpus_per_worker=1"], {TASK_GPUS: "1", EXECUTOR_GPUS: "1"}),
        (
            ["spark.master=yarn", f"spark.extra={{'{EXECUTOR_GPUS}': '4'}}", "train.cpus_per_worker=2"],
            {TASK_GPUS: "1", EXECUTOR_GPUS: "4", TASK_CPUS: "2"},
        ),
        (["spark.master=yarn"], {}),  # auto never makes a cluster without GPUs wait for them
        (["spark.master=local[4]", "train.gpus_per_worker=1"], {}),
        (
            ["spark.master=yarn", f"spark.extra={{'{EXECUTOR_GPUS}': '4'}}", "train.gpus_per_worker=0"],
            {EXECUTOR_GPUS: "4"},
        ),
    ],
)
def test_spark_is_told_of_gpus_before_its_session_starts(overrides: list[str], options: dict[str, str]) -> None:
    extra = with_booking(load(overrides=overrides, environment={})).values.get("spark", {}).get("extra", {})
    assert {name: value for name, value in extra.items() if name != DISCOVERY} == options
    assert (DISCOVERY in extra) == (TASK_GPUS in options)


def test_the_discovery_of_gpus_prints_what_spark_reads(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    command = [sys.executable, "-m", "training.launch.gpu_addresses"]
    for script, addresses in (("echo 0; echo 1", '["0", "1"]'), ("exit 9", "[]")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        environment = {"PATH": str(tmp_path), "PYTHONPATH": ":".join(path for path in sys.path if path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == f'{{"name": "gpu", "addresses": {addresses}}}\n'


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is asked for")
def test_one_process_books_of_its_machine(tmp_path: Path) -> None:
    job = make_job(tmp_path, "lr", "train.epochs=1", "train.gpus_per_worker=1", rows=50)
    with pytest.raises(UserError, match=r"this machine has 0 GPUs and room for 0 of them; set train\.gpus_per_worker="):
        BACKENDS["local"]([job], 1)
    threads = torch.get_num_threads()
    try:
        assert local_device(TrainSettings(gpus_per_worker=0, cpus_per_worker=2)).type == "cpu"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
