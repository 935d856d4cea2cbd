"""Every direct dependency is imported or says why it is not, and every import is declared."""

import ast
import re
import runpy
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from support import ROOT

PACKAGES = ("conf", "etl", "features", "training", "recsys", "tuning", "dags")
# Needed by what is imported, or started as a program; never imported by name.
NOT_IMPORTED = {"apache-airflow", "httptools", "onnx", "onnxscript"}
# Distributions that share their import names with the one that is declared.
SHARED = {"mlflow-skinny": "mlflow", "mlflow-tracing": "mlflow"}
AIRFLOW = re.compile(r"apache-airflow(-core|-task-sdk|-providers-.*)?")
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
DECLARED = tomllib.loads(PYPROJECT)["project"]["dependencies"]


def normalised(requirement: str) -> str:
    """Name of a distribution, as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def top_level_imports(files: Iterable[Path]) -> set[str]:
    names = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {*PACKAGES, "millrace"}


@pytest.fixture(scope="module")
def imported() -> set[str]:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    owners = packages_distributions()
    names = top_level_imports([*files, ROOT / "millrace.py"])
    owned = {normalised(owner) for name in names for owner in owners[name]}
    return {SHARED.get(name, "apache-airflow" if AIRFLOW.fullmatch(name) else name) for name in owned}


def test_every_dependency_is_imported(imported: set[str]) -> None:
    declared = {normalised(line) for line in DECLARED}
    unused = declared - imported - NOT_IMPORTED
    assert {name for name in unused if not AIRFLOW.fullmatch(name)} == set()
    assert declared >= NOT_IMPORTED


def test_every_import_is_declared(imported: set[str]) -> None:
    assert imported - {normalised(line) for line in DECLARED} == set()


def test_every_dependency_says_what_it_is_for() -> None:
    lines = PYPROJECT.partition("dependencies = [\n")[2].partition("\n]")[0].splitlines()
    assert len(lines) == len(DECLARED)
    assert [line for line in lines if not re.search(r'",  # \w[\w .:,;\'’`&-]{3,}', line)] == []


def test_our_own_wheels_are_made_of_one_known_file_and_anew_when_a_patch_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    setup = runpy.run_path(str(ROOT / "tools/setup.py"))
    for recipe in (setup["HOROVOD"], setup["PETASTORM"]):
        assert any(re.search(r'^SHA256 = "[0-9a-f]{64}"', (ROOT / part).read_text(), re.MULTILINE) for part in recipe)
        for part in recipe:
            (tmp_path / part).parent.mkdir(exist_ok=True)
            (tmp_path / part).write_bytes((ROOT / part).read_bytes())
        setup["wheel_cache"].__globals__["ROOT"] = tmp_path
        before = setup["wheel_cache"]("wheel", recipe)
        (tmp_path / recipe[-1]).write_text("another patch")
        assert setup["wheel_cache"]("wheel", recipe) != before
