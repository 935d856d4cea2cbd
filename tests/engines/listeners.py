"""Which sockets the processes of a test listen at that other machines can reach, while the test runs."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import psutil

LISTEN = "0A"  # a socket's state in /proc/net/tcp
PERIOD_S = 0.1


def own_processes() -> list[psutil.Process]:
    """This process and all that it started, directly or not."""
    return tree(os.getpid())


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def reachable_listeners(pid: int | None = None) -> set[str]:
    """`address:port command` of each socket that a process or what it started listens at beyond loopback, now.

    Of this process without a `pid`.
    """
    return _of(lambda: tree(pid or os.getpid()), _reachable())


@contextmanager
def nothing_reachable(processes: Callable[[], Sequence[psutil.Process]] = own_processes) -> Iterator[None]:
    """Look at the machine's listening sockets all the while; fails if others could reach one of `processes()`."""
    judged, reachable = set(_reachable()), set[str]()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(PERIOD_S):
            new = {inode: address for inode, address in _reachable().items() if inode not in judged}
            with suppress(psutil.NoSuchProcess):  # the first of the tree has just ended, or not begun
                reachable.update(_of(processes, new))
                judged.update(new)

    with ThreadPoolExecutor(max_workers=1) as pool:
        looking = pool.submit(look)
        try:
            yield
        finally:
            stop.set()
    looking.result()  # raises what the look itself did
    assert not reachable, "\n".join(sorted(reachable))


def _of(processes: Callable[[], Sequence[psutil.Process]], addresses: dict[str, str]) -> set[str]:
    """Those of `addresses` (by inode) that belong to `processes()`, each with its process's command."""
    return {
        f"{addresses[inode]} {_command(process)}"
        for process in (processes() if addresses else ())
        for inode in _sockets(process) & addresses.keys()
    }


def _reachable() -> dict[str, str]:
    """Inode -> address of the listening sockets of the machine that are not on loopback."""
    reachable = {}
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            words = line.split()
            host, _, port = words[1].partition(":")
            if words[3] == LISTEN and not _is_loopback(host):
                reachable[words[9]] = f"{_address(host)}:{int(port, 16)}"
    return reachable


def _is_loopback(host: str) -> bool:
    address = _address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _address(host: str) -> IPv4Address | IPv6Address:
    """An address from the kernel's hexadecimal words, each in the machine's byte order."""
    words = bytes.fromhex(host)
    raw = b"".join(socket.htonl(int.from_bytes(words[at : at + 4])).to_bytes(4) for at in range(0, len(words), 4))
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def _sockets(process: psutil.Process) -> set[str]:
    inodes = set()
    with suppress(OSError):  # it ended meanwhile, or is another user's
        for entry in os.scandir(f"/proc/{process.pid}/fd"):
            with suppress(OSError):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    return inodes


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return process.name() if process.is_running() else "(ended)"
