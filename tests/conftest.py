"""Fixtures that all tests share: one Spark session for the process, the real data, and the command line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conf import Config, load

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared/data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings of a home of this test session's own."""
    home = tmp_path_factory.mktemp("home")
    return load(overrides=[f"paths.home={home}", "features.files=4", "spark.driver_memory=2g"], environment={})


@pytest.fixture(scope="session")
def spark(config: Config) -> Iterator[object]:
    """The one Spark session of the process."""
    from etl.session import spark_session

    with spark_session(config) as session:
        yield session


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets; tests that need it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}")
    return DATA


class Millrace:
    """Runs `millrace …` as a user does, in its own process and home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str, timeout: float = 540, **environment: str) -> subprocess.CompletedProcess[str]:
        found = {"MILLRACE_HOME": str(self.home), **os.environ, "MILLRACE__SPARK__DRIVER_MEMORY": "2g", **environment}
        found["MILLRACE_HOME"] = str(self.home)
        command = [str(Path(sys.executable).parent / "millrace"), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=found, capture_output=True, text=True, timeout=timeout, check=False
        )


@pytest.fixture
def millrace(tmp_path: Path) -> Millrace:
    return Millrace(tmp_path / "home")
