"""Fixtures that all tests share: one Spark session for the process, the real data, and the command line."""

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest
from support import ROOT, FinishedDay, Millrace, demo
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from conf import Config, load

DATA = ROOT.parent / "shared/data"

# Small tensors cost more to share out among threads than to compute, and two test processes share the cores already:
# the unit tests take half the CPU time. Read by OpenMP when torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")


class DaysAndFiles(LoadFileScheduling):
    """Of several processes one runs the whole days, one after the other, while the others run all else file by file."""

    def _split_scope(self, nodeid: str) -> str:
        return "days" if "/e2e/" in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> DaysAndFiles:
    return DaysAndFiles(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells what the machine was like."""
    report = yield
    if report.failed:
        free, room = psutil.virtual_memory().available >> 20, shutil.disk_usage("/tmp").free >> 20
        told = f"{free} MB of memory free, {room} MB of /tmp, {len(psutil.pids())} processes"
        if "pyspark" in sys.modules and (gateway := sys.modules["pyspark"].SparkContext._gateway) is not None:
            told += f", the shared JVM's exit code: {gateway.proc.poll()}"
        report.sections.append(("machine", told))
    return report


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings of a home of this test session's own."""
    home = tmp_path_factory.mktemp("home")
    return load(
        overrides=[f"paths.home={home}", "features.files=4", "spark.driver_memory=2g", "spark.compile_little=true"],
        environment={},
    )


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


@pytest.fixture
def millrace(tmp_path: Path) -> Millrace:
    return Millrace(tmp_path / "home")


@pytest.fixture(scope="session")
def finished_day(tmp_path_factory: pytest.TempPathFactory) -> FinishedDay:
    """The whole of a small day, walked once; all whole days are in one process, see `DaysAndFiles`.

    Who adds to it adds what nobody else counts: the demo's own test comes first.
    """
    return demo(Millrace(tmp_path_factory.mktemp("finished") / "home"))
