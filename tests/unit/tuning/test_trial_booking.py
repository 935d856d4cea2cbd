"""What a trial books on Ray, whose nodes are declared by hand."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf import UserError, load
from training.launch.booking import Booking
from tuning.launch.on_ray import trial_booking
from tuning.settings import TuneSettings
from tuning.targets.deep import trial_device

CPUS, GPUS = 4, 1


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    import ray

    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", num_cpus=CPUS, num_gpus=GPUS, logging_level=logging.ERROR, **small)
    yield
    ray.shutdown()


def context(family: str, *overrides: str) -> Any:
    """What `trial_booking` reads of a search."""
    config = load(overrides=overrides, environment={})
    return SimpleNamespace(config=config, settings=config.get(TuneSettings), target=SimpleNamespace(family=family))


@pytest.mark.parametrize(
    ("family", "overrides", "booking"),
    [
        ("deep", ["tune.parallel=1"], Booking(1, 1.0)),
        ("deep", ["tune.parallel=4"], Booking(1, 0.25)),
        ("deep", ["tune.parallel=9"], Booking(1, 0.25)),  # Ray's CPUs allow four at a time
        ("fm", ["tune.parallel=2"], Booking(1, 0.0)),
        ("fm", ["tune.gpus_per_trial=0.5"], Booking(1, 0.5, is_exact=True)),
        ("deep", ["tune.gpus_per_trial=0", "tune.cpus_per_trial=3"], Booking(3, 0.0, is_exact=True)),
    ],
)
def test_a_trial_books_what_the_settings_say(family: str, overrides: list[str], booking: Booking) -> None:
    assert trial_booking(context(family, *overrides)) == booking


def test_a_trial_that_no_node_has_room_for_is_refused() -> None:
    with pytest.raises(UserError, match=r"tune\.cpus_per_trial=5 and tune\.gpus_per_trial=0: no node of Ray has room"):
        trial_booking(context("deep", "tune.cpus_per_trial=5", "tune.gpus_per_trial=0"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is declared, and not to be used")
def test_a_trial_s_device_is_what_it_has_booked() -> None:
    assert trial_device(Booking()).type == "cpu"
    with pytest.raises(UserError, match="can't use the GPU booked for it"):
        trial_device(Booking(gpus=0.5, is_exact=True))
    assert trial_device(Booking(gpus=0.5)).type == "cpu"  # auto: this torch, or this machine, has none
