"""Room for workers on Ray: what its nodes have, and waiting until they have it free."""

from functools import partial

from conf import Config, UserError
from conf.console.progress import waiting
from training.launch.booking import DOCTOR, Booking, Engine, Node, book
from training.net_settings import NetSettings
from training.settings import RaySettings, TrainSettings

LINE_EVERY_S = 5.0


def ray_engine(config: Config, *, shares_gpus: bool) -> Engine:
    """The nodes of the open session; those of somebody's cluster may become more."""
    import ray

    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [Node(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in resources]
    may_grow = config.get(RaySettings).address is not None
    return Engine("Ray", nodes, shares_gpus=shares_gpus, may_grow=may_grow)


def book_on_ray(config: Config, num_workers: int, *, shares_gpus: bool) -> Booking:
    """What each worker books on the open session's nodes. Raises UserError when they lack it."""
    is_sharded = config.get(NetSettings).sharded
    engine = ray_engine(config, shares_gpus=shares_gpus)
    return book(config.get(TrainSettings), num_workers, engine, is_sharded=is_sharded)


def wait_for_room(booking: Booking, num_workers: int, timeout_s: float) -> None:
    """Wait until Ray can give `num_workers` what each of them books, with a line every few seconds.

    Ray Train itself would wait for ever, and Horovod three times as long as it is told, each without a word.

    Raises:
        UserError: they aren't free after `timeout_s` seconds; says what was asked for, what there is, what to set.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([booking.resources] * num_workers, strategy="PACK")
    try:
        with waiting(
            f"waiting for room on Ray for {num_workers} × {booking}", partial(_free, booking), every_s=LINE_EVERY_S
        ):
            is_ready = group.wait(timeout_s)
    finally:
        remove_placement_group(group)
    if not is_ready:
        raise UserError(
            f"Ray has no room for {num_workers} workers of {booking} after {timeout_s:g} s: {_free(booking)}. Set "
            "train.gpus_per_worker, train.cpus_per_worker or --workers to what there is, wait for who has it, or set "
            f"train.launch_timeout_s ({DOCTOR.format('ray')})"
        )


def _free(booking: Booking) -> str:
    """What is free and what there is, as `free are 2 of 4 CPU and 0 of 1 GPU`."""
    import ray

    free, total = ray.available_resources(), ray.cluster_resources()
    names = ("CPU", "GPU") if booking.gpus else ("CPU",)
    return "free are " + " and ".join(f"{free.get(name, 0):g} of {total.get(name, 0):g} {name}" for name in names)
