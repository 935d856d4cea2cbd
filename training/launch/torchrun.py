"""`python -m training.launch.torchrun …`: torch's `torchrun` for one machine, whose store listens on loopback alone.

As published, the store of rank 0's torchrun listens on every interface, and asks for no login. Spark's TorchDistributor
starts a torchrun for each task.
"""

import os
import signal
import socket
import threading
import time
from typing import Any

from conf.machine.network import LISTENING_INTERFACE, loopback_interface

POLL_S = 0.5


def main() -> None:
    """Run the processes, and end them when this one's parent has died, as PySpark's wrapper of torchrun does."""
    from torch.distributed import run
    from torch.distributed.elastic.rendezvous import static_tcp_rendezvous

    static_tcp_rendezvous.TCPStore = _store  # type: ignore[attr-defined, assignment]  # imported there
    os.environ |= dict.fromkeys(LISTENING_INTERFACE, loopback_interface())
    threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True).start()
    run.main()


def _store(host: str, port: int, world_size: int, is_master: bool, timeout: Any, **options: Any) -> Any:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in torch's list of names

    listener = socket.create_server((host, port)) if is_master else None
    descriptor = listener.detach() if listener else None
    return TCPStore(host, port, world_size, is_master, timeout, master_listen_fd=descriptor, **options)


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)  # torchrun passes it on to its processes


if __name__ == "__main__":
    main()
