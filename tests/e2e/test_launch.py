"""Launches where Ray is told of a GPU that no torch here can use: what is booked, agreed on, refused and waited for."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from data.training_sets import make_job

from conf import UserError
from training.launch.backends import BACKENDS
from training.launch.booking import Booking
from training.launch.ray_room import wait_for_room
from training.launch.worker_jobs import group_of
from training.loop.job import Job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is declared, and not to be used"),
]

CPUS = 3


@pytest.fixture(scope="module", autouse=True)
def ray_with_a_gpu() -> Iterator[None]:
    """One declared GPU. Launchers use a session that is open already."""
    import ray

    environment = {"env_vars": {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}}
    ray.init(
        address="local",
        num_cpus=CPUS,
        num_gpus=1,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env=environment,
    )
    yield
    ray.shutdown()


def small_job(folder: Path, *overrides: str) -> Job:
    return make_job(folder, "lr", "train.epochs=1", "train.max_failures=0", *overrides, rows=400)


@pytest.mark.parametrize("backend", [pytest.param("ray", marks=pytest.mark.wide), "horovod"])
def test_two_workers_on_one_gpu_train(tmp_path: Path, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """On Ray each books half of it, and all fall back to the CPU when one can't use its half; Horovod has no halves."""
    job = small_job(tmp_path)
    metrics, *_ = BACKENDS[backend]([job], 2)
    assert metrics["test_rows"] == 400
    group = group_of(job)
    assert group is not None
    assert (group.device, group.library) == ("cpu", "gloo")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(text.startswith("Ray has 1 GPU for 2 workers") for text in said)
    if backend == "ray":
        assert any("each has 0.5 of one" in text for text in said)
        assert any("can't use the GPU booked for it" in text and "training on the CPU" in text for text in said)
    else:
        assert any("training on the CPU; --workers 1 would use them" in text for text in said)


@pytest.mark.parametrize("backend", ["ray", "horovod"])
def test_gpus_that_are_asked_for_by_number_are_never_waited_for_or_left_out(tmp_path: Path, backend: str) -> None:
    exact = "train.gpus_per_worker=1"
    with pytest.raises(UserError, match=r"Ray has 1 GPUs and room for 1 of them; set train\.gpus_per_worker=auto"):
        BACKENDS[backend]([small_job(tmp_path / "two", exact)], 2)
    # One worker has it, and can't use it: a mistake of the set-up that is one line, before the first step.
    job = small_job(tmp_path / "one", exact)
    with pytest.raises(UserError, match=r"^rank 0 on .* can't use the GPU booked for it: .*`millrace doctor`"):
        BACKENDS[backend]([job], 1)
    assert not (job.run_folder / "history.jsonl").exists()


def test_room_that_others_have_is_waited_for_so_long_and_said(caplog: pytest.LogCaptureFixture) -> None:
    from ray.util.placement_group import placement_group, remove_placement_group

    others = placement_group([{"CPU": CPUS - 1}])
    assert others.wait(60)
    try:
        with caplog.at_level(logging.INFO), pytest.raises(UserError) as refusal:
            wait_for_room(Booking(cpus=2), 1, timeout_s=3)
    finally:
        remove_placement_group(others)
    assert "no room for 1 workers of 2 CPU after 3 s: free are 1 of 3 CPU. Set " in str(refusal.value)
    lines = [record.getMessage() for record in caplog.records]
    assert any("waiting for room on Ray for 1 × 2 CPU" in line and "free are 1 of 3 CPU" in line for line in lines)
    wait_for_room(Booking(cpus=2), 1, timeout_s=60)
