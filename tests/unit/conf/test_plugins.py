"""Users' own modules: found in the current folder, and each way to fail is named in one line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

from conf import UserError
from conf.plugins import import_object


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_an_object_of_a_module_in_the_current_folder_is_found(folder: Path) -> None:
    (folder / "plugin_good").mkdir()
    (folder / "plugin_good/net.py").write_text("def build(): return 7\n")
    assert import_object("plugin_good.net:build", "model")() == 7


def test_a_file_named_like_a_library_does_not_take_its_place(folder: Path) -> None:
    (folder / "statistics.py").write_text("mean = 'shadowed'\n")
    sys.modules.pop("statistics", None)
    assert import_object("statistics:mean", "metric") != "shadowed"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plugin_good", "model 'plugin_good' is not written as package.module:function"),
        ("plugin_none:build", r"can't import model 'plugin_none:build': no module plugin_none in .* or on PYTHONPATH"),
        ("plugin.none:build", r"no module plugin\.none in "),
        ("plugin.needs:build", "plugin.needs needs a module that is missing: No module named 'plugin_absent'"),
        ("plugin.broken:build", r"importing plugin\.broken failed: ZeroDivisionError: division by zero"),
        ("plugin.typo:build", r"importing plugin\.typo failed: SyntaxError: "),
        ("plugin.empty:build", r"module plugin\.empty has no build"),
    ],
)
def test_each_way_to_fail_is_told_from_the_others(folder: Path, name: str, message: str) -> None:
    (folder / "plugin").mkdir()
    (folder / "plugin/needs.py").write_text("import plugin_absent\n")
    (folder / "plugin/broken.py").write_text("1 / 0\n")
    (folder / "plugin/typo.py").write_text("def build(:\n")
    (folder / "plugin/empty.py").write_text("")
    with pytest.raises(UserError, match=message) as caught:
        import_object(name, "model")
    assert "\n" not in str(caught.value)


def test_the_console_script_finds_modules_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/net.py").write_text("def build(config, inputs): ...\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MILLRACE_HOME": str(tmp_path / "home")}

    def train(model: str) -> str:
        command = [str(Path(sys.executable).with_name("millrace")), "train", model, "--date", "2026-01-07"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        return done.stderr

    # The model is found: what is missing then is the training set.
    assert "run `millrace features build --date 2026-01-07` first" in train("my_package.net:build")
    assert "can't import model 'my_package.nets:build': no module my_package.nets in " in train("my_package.nets:build")
