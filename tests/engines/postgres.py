"""A real PostgreSQL server of the tests' own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conf.machine.processes import free_port

DRIVER = Path("/usr/share/java/postgresql.jar")


class Postgres:
    """A server of the tests' own, in a folder of its own."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self.port = free_port()
        (folder / "password").write_text("secret")
        self._run("initdb", "-D", f"{folder}/data", "-U", "shop", "-A", "scram-sha-256", f"--pwfile={folder}/password")
        options = f"-p {self.port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", f"{folder}/data", "-w", "-t", "60", "-l", f"{folder}/log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=self._folder)
        assert done.returncode == 0, done.stderr + done.stdout

    def sql(self, statement: str) -> list[str]:
        """Run SQL by `psql`; rows with | between the cells."""
        command = [
            "psql",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "shop",
            "-d",
            "postgres",
            "-qAt",
            "-c",
            statement,
        ]
        environment = {**os.environ, "PGPASSWORD": "secret"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
        return done.stdout.splitlines()

    @property
    def as_metastore(self) -> dict[str, str]:
        """Environment variables of a command whose metastore this is; several tasks can use it at once."""
        settings = {"URL": self.url, "USER": "shop", "PASSWORD": "secret"}
        return {f"MILLRACE__METASTORE__{name}": value for name, value in settings.items()}

    @property
    def url(self) -> str:
        return f"jdbc:postgresql://127.0.0.1:{self.port}/postgres"


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    found = shutil.which("initdb") or next(
        iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))), None
    )
    if found is None or not DRIVER.exists() or not shutil.which("psql"):
        pytest.skip("PostgreSQL or its JDBC driver is not installed (`make setup` as root installs both)")
    folder = Path(tempfile.mkdtemp(prefix="millrace-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    server = Postgres(Path(found).resolve().parent, folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
