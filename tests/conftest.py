"""Fixtures that all tests share: one Spark session for the process, the real data, and the command line."""

import os
import shutil
import subprocess
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


# Files whose tests share a process, one file after the other. They start first, each group in a process of its own.
TOGETHER = {
    # They share one finished day.
    "days": (
        "e2e/test_demo.py",
        "e2e/test_serve.py",
        "e2e/test_serve_machines.py",
        "e2e/test_serve_ray.py",
        "e2e/test_clusters.py",
        "e2e/test_tuning.py",
    ),
    # They mostly wait for a scheduler, servers and workers of their own to start: the other processes have the cores,
    # and never are two of these engines slow to start because of each other.
    "engines": (
        "e2e/test_airflow.py",
        "integration/warehouse/test_metastore.py",
        "e2e/test_backends.py",
        "e2e/test_faults.py",
    ),
}
# Then the others that take more than a minute, so that no process ends long after the rest.
LONG = tuple(
    f"integration/{path}.py"
    for path in (
        "weblog/test_tables",
        "features/test_features",
        "recsys/test_candidates",
        "sources/test_events",
        "sources/test_ingest",
        "weblog/test_weblog",
        "warehouse/test_changes",
        "sources/test_tiny_sites",
    )
)
ORDER = [file for files in (*TOGETHER.values(), LONG) for file in files]


def file_of(nodeid: str) -> str:
    """A test's file, below `tests`."""
    return nodeid.split("::")[0].removeprefix("tests/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")
    ranks = {file: rank for rank, file in enumerate(ORDER)}
    items.sort(key=lambda item: ranks.get(file_of(item.nodeid), len(ranks)))


class LongestFirst(LoadFileScheduling):
    """A process takes the next file, or group of files, when it is nearly done with its last one."""

    def _split_scope(self, nodeid: str) -> str:
        file = file_of(nodeid)
        return next((group for group, files in TOGETHER.items() if file in files), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst:
    return LongestFirst(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells what the machine was like, and why Spark's JVM has ended if it has."""
    report = yield
    if report.failed:
        free, room = psutil.virtual_memory().available >> 20, shutil.disk_usage("/tmp").free >> 20
        machine = f"{free} MB of memory free, {room} MB of /tmp, {len(psutil.pids())} processes"
        report.sections.append(("machine", machine))
        if reason := close_ended_session(item):
            report.sections.append(("the shared session of Spark", f"{reason}\nThe next test has another."))
    return report


def close_ended_session(item: pytest.Item) -> str | None:
    """If the JVM of the fixture `spark` has ended, close it and all that depend on it; returns why the JVM ended."""
    gateway = sys.modules["pyspark"].SparkContext._gateway if "pyspark" in sys.modules else None
    fixtures = item._fixtureinfo.name2fixturedefs.get("spark") if isinstance(item, pytest.Function) else None
    if gateway is None or not fixtures:
        return None
    try:
        gateway.proc.wait(timeout=3)  # a JVM that is out of memory first tells Python
        fixtures[-1].finish(item._request)  # type: ignore[attr-defined]  # pytest has no public way
    except subprocess.TimeoutExpired:
        return None
    except Exception as error:
        return "; ".join(map(str, getattr(error, "exceptions", (error,))))
    return f"Spark's JVM ended with exit code {gateway.proc.returncode}"


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


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Numba's parallel loops set OpenMP's number of threads, which torch has in common with them."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


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
    """The whole of a small day, walked once; its tests are in one process, see `TOGETHER`.

    Who adds to it adds what nobody else counts: the demo's own test comes first.
    """
    return demo(Millrace(tmp_path_factory.mktemp("finished") / "home"))
