"""Where the processes listen that one machine starts for itself: on loopback, unless `network.listen` opens them."""

import socket
from ipaddress import ip_address
from typing import ClassVar, Literal

from conf.settings import Settings

LOOPBACK = "127.0.0.1"
# Of torch's process groups (gloo) and NCCL, which else listen at the address of the host's name.
LISTENING_INTERFACE = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
LOOPBACK_INTERFACES = ("lo", "lo0")  # Linux, macOS


class NetworkSettings(Settings):
    """Who can reach what a command starts on this machine."""

    section: ClassVar[str] = "network"

    listen: Literal["loopback", "all"] = "loopback"
    """Where a local Ray, Horovod, torch and a local Spark listen. `all` leaves it to them, which is mostly every
    interface, for processes of other machines that join them. Clusters are not concerned."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost may be anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def loopback_interface() -> str:
    """Name of the loopback interface, for libraries that choose where to listen by interface."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in LOOPBACK_INTERFACES if name in names), LOOPBACK_INTERFACES[0])
