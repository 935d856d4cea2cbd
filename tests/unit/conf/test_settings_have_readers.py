"""Every setting is read by code: one that nobody reads would be accepted and change nothing.

Generated from the settings models: in a copy of the packages their fields are renamed, and mypy, which knows the types
of all expressions, names each place that reads one.
"""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from support import ROOT

from conf.settings import SECTIONS, model_of
from training.settings import AugmentSettings
from training.tasks.augment import AUGMENTATIONS

PACKAGES = ("conf", "etl", "features", "training", "recsys", "tuning", "dags", "doctor")
MISSING = re.compile(r'"(\w+)" has no attribute "(\w+)"')
BY_NAME = {(AugmentSettings.__name__, name) for name in AUGMENTATIONS}  # `augment` reads them with getattr


def models_in(annotation: Any) -> set[type[BaseModel]]:
    """The settings models of an annotation, and those in their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}.union(*(models_in(field.annotation) for field in annotation.model_fields.values()))
    return set().union(*(models_in(part) for part in get_args(annotation)))


def rename_fields(folder: Path, models: Collection[type[BaseModel]]) -> None:
    """Append `_renamed` to the fields of the models in a copy of the packages."""
    for module in {model.__module__ for model in models}:
        names = {model.__name__ for model in models if model.__module__ == module}
        path = folder / f"{module.replace('.', '/')}.py"
        lines = path.read_text().splitlines(keepends=True)
        for statement in ast.parse("".join(lines)).body:
            if not isinstance(statement, ast.ClassDef) or statement.name not in names:
                continue
            for field in statement.body:
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and field.target.id != "section"
                ):
                    line, end = field.lineno - 1, field.target.end_col_offset
                    lines[line] = f"{lines[line][:end]}_renamed{lines[line][end:]}"
        path.write_text("".join(lines))


def _output(command: Sequence[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False).stdout


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.timeout(600)
def test_every_setting_is_read(tmp_path: Path) -> None:
    sections = {model_of(name) for name in SECTIONS}
    entries = set().union(*(models_in(model) for model in sections)) - sections
    readers: set[tuple[str, str]] = set(BY_NAME)
    # One level at a time: mypy knows no type of what is in a renamed field.
    for models in (sections, entries):
        for package in PACKAGES:
            shutil.rmtree(tmp_path / package, ignore_errors=True)
            shutil.copytree(ROOT / package, tmp_path / package)
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        rename_fields(tmp_path, models)
        packages = [word for package in PACKAGES for word in ("-p", package)]
        mypy = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), *packages]
        readers.update(MISSING.findall(_output(mypy, tmp_path)))
    fields = {(model.__name__, name) for model in sections | entries for name in model.model_fields}
    assert len(fields) > 200
    assert sorted(fields - readers) == []
