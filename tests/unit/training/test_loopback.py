"""What one machine starts for itself listens on loopback alone; the engines themselves are watched by their own tests."""

import socket
import time
from datetime import timedelta

import pytest
from engines.listeners import nothing_reachable, reachable_listeners

from conf import Config, UserError, load
from conf.machine.network import is_loopback, loopback_interface
from etl.spark_options import spark_options
from training.compat import horovod_rendezvous_on
from training.launch.ray_session import is_on_this_machine


def config(*overrides: str) -> Config:
    return load(overrides=overrides, environment={})


def test_a_socket_that_others_reach_is_noticed() -> None:
    """Of the watch itself: the other tests rely on it."""
    with (
        pytest.raises(AssertionError, match=r"^0\.0\.0\.0:\d+ "),
        nothing_reachable(),
        socket.create_server(("0.0.0.0", 0)) as server,
    ):
        port = server.getsockname()[1]
        assert any(line.startswith(f"0.0.0.0:{port} ") for line in reachable_listeners())
        time.sleep(0.5)
    with nothing_reachable(), socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=10):
        time.sleep(0.3)


def test_horovod_s_rendezvous_is_not_reachable() -> None:
    from horovod.runner.http.http_server import RendezvousServer

    server = RendezvousServer()
    with nothing_reachable():
        with horovod_rendezvous_on("127.0.0.1"):
            port = server.start()
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        server.stop()


def test_the_store_of_torchrun_and_the_log_server_of_spark_are_not_reachable() -> None:
    from training.launch.loopback_spark import LoopbackLogServer
    from training.launch.torchrun import _store

    logs = LoopbackLogServer()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with nothing_reachable():
        store = _store("127.0.0.1", port, 1, True, timedelta(seconds=10), multi_tenant=True)
        store.set("key", "value")
        logs.start("127.0.0.1")
        socket.create_connection(("127.0.0.1", logs.port), timeout=10).close()
        logs.shutdown()
    assert store.get("key") == b"value"


def test_one_setting_opens_what_this_machine_starts() -> None:
    assert spark_options(config())["spark.driver.bindAddress"] == "127.0.0.1"
    assert is_on_this_machine(config())
    opened = config("network.listen=all")
    assert "spark.driver.bindAddress" not in spark_options(opened)
    assert not is_on_this_machine(opened)
    assert not is_on_this_machine(config("ray.address=head:6379"))
    with pytest.raises(UserError, match=r"network\.listen = 'everywhere'"):
        config("network.listen=everywhere")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.1.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_a_name_other_than_localhost_may_be_anything(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
    assert not is_loopback("node-1")


def test_the_loopback_interface_is_one_of_this_machine() -> None:
    assert loopback_interface() in {name for _, name in socket.if_nameindex()}
