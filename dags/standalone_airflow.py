"""`python -m dags.standalone_airflow`: `airflow standalone` without the log servers of scheduler and triggerer.

They listen on all interfaces, on ports 8793 and 8794, and nothing can change the address. Nobody needs them here: the
API server reads the logs from the same disk.
"""

import sys
from typing import Any

from airflow.__main__ import main
from airflow.cli.commands import standalone_command

OPTIONS = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}


class SubCommand(standalone_command.SubCommand):  # type: ignore[misc]  # Airflow's types are not read
    """One of the four processes."""

    def __init__(self, parent: Any, name: str, command: list[str], env: dict[str, str]) -> None:
        super().__init__(parent, name, [*command, *OPTIONS.get(name, [])], env)


if __name__ == "__main__":
    standalone_command.SubCommand = SubCommand
    sys.argv[1:] = ["standalone"]
    main()
