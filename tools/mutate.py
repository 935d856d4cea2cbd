"""Mutation tests: `make mutants [MODULES="recsys/recall/merge.py …"]`, of the modules in tools/mutants.toml.

Each mutant of a module (tools/mutants.py) is written into a copy of the tree, and the module's tests run on it in a
process forked from one that has imported the heavy libraries, and started Spark, already. Prints the mutants that no
test caught and the table of shares, and exits with 1 where a group is below the limit.
"""

import argparse
import contextlib
import difflib
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MUTMUT = "mutmut==3.8.1"  # isolated by uvx: none of its packages is the product's
COPIED = (
    "conf",
    "etl",
    "features",
    "training",
    "recsys",
    "tuning",
    "dags",
    "tests",
    "docs",
    "millrace.py",
    "pyproject.toml",
)
# Imported before the fork, so once; nothing of Millrace that may be mutated.
LIBRARIES = (
    "pandas",
    "sklearn.metrics",
    "scipy.stats",
    "numba",
    "hypothesis",
    "pytest",
    "pyspark.sql",
    "pyarrow.parquet",
)
PLUGINS = ("xdist.plugin", "pytest_timeout", "_hypothesis_pytestplugin")  # others take half of a small test's time
# A call without an argument that it needs, or what Numba can't compile, is no program: it is counted nowhere.
INVALID = re.compile(r"^E +TypeError: .* missing \d+ required|^E +numba.*TypingError", re.MULTILINE)
SEED = 7
LIMIT = 0.85


def main(modules: list[str], is_verbose: bool) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without removing the copy
    settings = tomllib.loads((ROOT / "tools/mutants.toml").read_text())
    rows = []
    # Removed last: the Spark session, which is opened after it, writes there when it ends.
    folder = _AT_END.enter_context(tempfile.TemporaryDirectory(prefix="millrace-mutants-"))
    copy = _copy_tree(Path(folder) / "tree")
    # Spark last: without its threads, a fork is cheap.
    for module in sorted(settings["module"], key=lambda module: "spark" in module):
        if not modules or module["path"] in modules:
            count, caught = _measure(copy, module, settings["equivalent"], is_verbose)
            print(f"{module['path']}: {caught} of {count} mutants caught", flush=True)
            rows.append((module["group"], module["path"], count, caught))
    return _report(rows)


def _copy_tree(copy: Path) -> Path:
    """Copy what tests need: the checkout itself is never changed. From here on, Millrace is imported from the copy."""
    ignored = shutil.ignore_patterns("__pycache__")
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    # Spark's Python processes, too. The tests' helpers come through pyproject.toml.
    os.environ |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.dont_write_bytecode = True  # two mutants within a second would share a stale .pyc
    for name in LIBRARIES:
        importlib.import_module(name)
    return copy


def _measure(
    copy: Path, module: dict[str, Any], equivalents: list[dict[str, str]], is_verbose: bool
) -> tuple[int, int]:
    """Mutants that were run, and how many of them the module's tests caught; prints the others (verbose: all)."""
    path, tests = module["path"], module["tests"]
    source = (copy / path).read_text()
    if path.removesuffix(".py").replace("/", ".") in sys.modules:
        raise SystemExit(f"{path} is imported already: a forked process would not see its mutants")
    mutants = _without_equivalents(path, source, _mutants_of(path), equivalents)
    random.Random(SEED).shuffle(mutants)
    config = _spark_config(copy) if module.get("spark") else None
    start = time.monotonic()
    _require_success(copy, module, config)
    limit = 60 + 4 * (time.monotonic() - start)
    results: Counter[str] = Counter()
    for mutant in mutants:
        if results["caught"] + results["not caught"] == module["sample"]:
            break
        with _written(copy / path, mutant["source"], source):
            code, output = _run_tests(copy, tests, config, limit)
        result = "invalid" if INVALID.search(output) else "caught" if code else "not caught"
        results[result] += 1
        if result == "not caught" or is_verbose:
            print(f"{result}: {path}:{mutant['line']}\n{_difference(source, mutant['source'])}", flush=True)
            print(*re.findall("^E  .*", output, re.MULTILINE)[:1])
    # Again: had an earlier mutant's run spoilt something, all later ones would count as caught.
    _require_success(copy, module, config)
    return results["caught"] + results["not caught"], results["caught"]


def _require_success(copy: Path, module: dict[str, Any], config: Any) -> None:
    code, output = _run_tests(copy, module["tests"], config, 1200)
    if code:
        raise SystemExit(f"the tests of {module['path']} fail without a mutant, with code {code}:\n{output}")


def _mutants_of(module: str) -> list[dict[str, Any]]:
    uvx = Path(sys.executable).parent / "uvx"
    command = [str(uvx), "--from", MUTMUT, "python", str(ROOT / "tools/mutants.py"), str(ROOT / module)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    lines = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()
    return [json.loads(line) for line in lines]


def _without_equivalents(
    module: str, source: str, mutants: list[dict[str, Any]], equivalents: list[dict[str, str]]
) -> list[dict[str, Any]]:
    """Mutants but those that tools/mutants.toml lists, each with a reason, as no change of behaviour.

    Raises SystemExit for an entry that is no mutant any more.
    """
    entries = [entry for entry in equivalents if entry["module"] == module]
    changes = [_first_change(source, mutant["source"]) for mutant in mutants]
    for entry in entries:
        if not any(entry.get("line") == new or entry.get("original") == old for old, new in changes):
            raise SystemExit(f"tools/mutants.toml: {module} has no such mutant: {entry}")
    new_lines, old_lines = ({entry.get(name) for entry in entries} for name in ("line", "original"))
    return [
        mutant
        for mutant, (old, new) in zip(mutants, changes, strict=True)
        if new not in new_lines and old not in old_lines
    ]


def _first_change(source: str, mutated: str) -> tuple[str, str]:
    """First line that differs, of the module and of a mutant, without indentation: as in tools/mutants.toml."""
    pairs = zip(source.splitlines(), mutated.splitlines(), strict=False)
    return next(((old.strip(), new.strip()) for old, new in pairs if old != new), ("", ""))


def _difference(source: str, mutated: str) -> str:
    lines = difflib.unified_diff(source.splitlines(), mutated.splitlines(), lineterm="", n=0)
    return "\n".join(f"    {line}" for line in lines if line[:3] not in ("---", "+++") and line[:2] != "@@")


@contextlib.contextmanager
def _written(path: Path, text: str, source: str) -> Iterator[None]:
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(source)


@lru_cache
def _spark_config(copy: Path) -> Any:
    """The configuration of the one session that all mutants share, which the first call starts."""
    from conf import load
    from etl.session import spark_session

    values = [f"paths.home={copy / 'home'}", "features.files=4", "spark.driver_memory=2g", "spark.compile_little=true"]
    values += ["spark.master=local[1]", "spark.shuffle_partitions=1"]  # a task costs more than the rows of these tests
    config = load(overrides=values, environment={})
    _AT_END.enter_context(spark_session(config))
    return config


def _run_tests(copy: Path, tests: list[str], config: Any, limit: float) -> tuple[int, str]:
    """Exit code of the tests in a forked process, -1 past the limit in seconds, and what they print."""
    log = copy / "tests.log"
    child = os.fork()
    if not child:
        os.setsid()
        _run_in_child(copy, tests, config, log)
    deadline, is_done = time.monotonic() + limit, False
    try:
        while time.monotonic() < deadline:
            is_done, status = os.waitpid(child, os.WNOHANG)
            if is_done:
                return os.waitstatus_to_exitcode(status), log.read_text()
            time.sleep(0.05)
    finally:
        if not is_done:  # over the limit, or interrupted
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if config is not None:
        from pyspark.sql import SparkSession

        SparkSession.getActiveSession().sparkContext.cancelAllJobs()
    return -1, "over the limit"


def _run_in_child(copy: Path, tests: list[str], config: Any, log: Path) -> None:
    """Run pytest, and end the process without any of the parent's clean-up."""
    code = 3
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        import pytest
        from numba.core import config as numba_config

        # Numba looks for changes in a kernel's own file alone: callers of a mutant would come from a shared cache.
        kernels = hashlib.sha256((copy / "recsys/fine/ftrl.py").read_bytes()).hexdigest()
        numba_config.CACHE_DIR = str(copy / "numba" / kernels)
        if config is not None:
            _connect_anew()
        options = ["-x", "-q", "--disable-warnings", "--hypothesis-profile=ci", f"--basetemp={copy / 'tmp'}"]
        for plugin in ("no:cacheprovider", *PLUGINS):
            options += ["-p", plugin]
        code = int(pytest.main([*options, *tests], plugins=[SharedSession(config)]))
    finally:
        sys.stdout.flush()
        os._exit(code)


class SharedSession:
    """A pytest plugin: the fixture `config` is that of the session which the parent process opened."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> object | None:
        if fixturedef.argname != "config" or self.config is None:
            return None
        fixturedef.cached_result = (self.config, fixturedef.cache_key(request), None)
        return self.config


def _connect_anew() -> None:
    """Give a forked process a connection of its own to the JVM: two on one would read each other's answers."""
    from pyspark import SparkContext

    client = SparkContext._gateway._gateway_client
    _PARENTS_CONNECTIONS.extend(client.deque)  # referenced on, or they would be closed: the parent's, too
    client.thread_connection = threading.local()
    client.deque.clear()


def _report(rows: list[tuple[str, str, int, int]]) -> int:
    """Print the table; 1 if any group is below the limit."""
    totals: dict[str, Counter[str]] = {}
    print(f"\n{'module':42} {'mutants':>8} {'caught':>7} {'share':>7}")
    for group, module, count, caught in rows:
        totals.setdefault(group, Counter()).update(mutants=count, caught=caught)
        print(f"{module:42} {count:8} {caught:7} {caught / max(count, 1):7.1%}")
    print()
    for group, total in totals.items():
        print(f"{group:42} {total['mutants']:8} {total['caught']:7} {total['caught'] / max(total['mutants'], 1):7.1%}")
    return int(any(total["caught"] < LIMIT * total["mutants"] for total in totals.values()))


_AT_END = contextlib.ExitStack()
_PARENTS_CONNECTIONS: list[object] = []

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="paths of tools/mutants.toml; all when none is named")
    parser.add_argument("--verbose", action="store_true", help="print every mutant, and what caught it")
    arguments = parser.parse_args()
    with _AT_END:
        code = main(arguments.modules, arguments.verbose)
    sys.exit(code)
