"""`python -m training.launch.horovodrun …`: Horovod's own `horovodrun`, whose rendezvous listens at one address alone.

That is the address which the workers are sent: loopback where all hosts are this machine.
"""

from typing import Any

from horovod.runner import gloo_run
from horovod.runner.launch import run_commandline

from training.compat import horovod_rendezvous_on

_launch_gloo = gloo_run.launch_gloo


def _launch_on_one_address(
    command: Any, exec_command: Any, settings: Any, nics: Any, env: dict[str, str], server_ip: str
) -> None:
    with horovod_rendezvous_on(server_ip):
        _launch_gloo(command, exec_command, settings, nics, env, server_ip)


if __name__ == "__main__":
    gloo_run.launch_gloo = _launch_on_one_address
    run_commandline()
