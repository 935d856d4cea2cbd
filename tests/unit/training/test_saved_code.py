"""What a run folder names is imported only where the user allows it, and nothing in one is unpickled."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from data.training_sets import inputs_of, small_config
from support import ROOT

from conf import UserError, plugins
from conf.site.loading import SITE_VARIABLE
from training.models import model_named, saved_model
from training.saved import load_model, save_model
from training.tasks import TASKS

PACKAGES = ("conf", "etl", "features", "training", "recsys", "tuning", "dags")
NET = """
from pathlib import Path
import torch
Path(__file__).with_name("imported").touch()

class Net(torch.nn.Linear):
    def __init__(self, config, inputs):
        super().__init__(2, 1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `handed_over` on the path, and beside it a model folder whose net.json names its module `net`."""
    package = tmp_path / "handed_over"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text(NET)
    net = torch.nn.Linear(2, 1)
    save_model(tmp_path / "model", "handed_over.net:Net", net.state_dict(), inputs_of(TASKS["click"]), small_config())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(plugins, "_asked_for", set())
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "handed_over"]:
        del sys.modules[name]


def is_imported(folder: Path) -> bool:
    return (folder / "handed_over/imported").exists()


def test_a_run_s_own_word_is_not_enough(folder: Path) -> None:
    with pytest.raises(UserError) as refused:
        load_model(folder / "model", small_config())
    assert str(refused.value) == (
        f"{folder}/model/net.json names the model 'handed_over.net:Net', and to load it runs the code of "
        "handed_over.net: if you trust it, allow it with --set train.modules=[handed_over.net]"
    )
    assert not is_imported(folder)
    assert "handed_over" not in sys.modules


@pytest.mark.parametrize("modules", ["handed_over", "handed_over.net"])
def test_a_setting_allows_a_module_and_what_is_below_it(folder: Path, modules: str) -> None:
    load_model(folder / "model", small_config(f"train.modules=[{modules}]"))
    assert is_imported(folder)


@pytest.mark.parametrize("modules", ["handed", "handed_over.net.below", "handed_over.other", "net"])
def test_a_setting_allows_nothing_else(folder: Path, modules: str) -> None:
    with pytest.raises(UserError, match="if you trust it"):
        load_model(folder / "model", small_config(f"train.modules=[{modules}]"))
    assert not is_imported(folder)


def test_who_names_a_module_on_the_command_line_has_allowed_it(folder: Path) -> None:
    model_named("handed_over.net:Net")
    load_model(folder / "model", small_config())


@pytest.mark.parametrize(("site", "allowed"), [("site.py", True), ("sites/site.py", False)])
def test_modules_beside_the_site_are_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, site: str, allowed: bool
) -> None:
    (folder / "sites").mkdir()
    (folder / site).write_text("SITE = None\n")
    monkeypatch.setenv(SITE_VARIABLE, str(folder / site))
    if allowed:
        load_model(folder / "model", small_config())
    else:
        with pytest.raises(UserError, match="if you trust it"):
            load_model(folder / "model", small_config())
    assert is_imported(folder) is allowed


@pytest.mark.parametrize("name", ["os:system", "subprocess:run", "conf.plugins:import_object", "../x:y", "./x:y"])
def test_libraries_are_refused_and_our_own_models_are_not(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="if you trust it"):
        saved_model(name, folder / "model/net.json", small_config())
    assert saved_model("deepfm", folder, small_config()) == model_named("deepfm")
    assert saved_model("training.models.ctr.fm:FactorizationMachine", folder, small_config()).task is TASKS["click"]


def test_no_code_reads_a_pickle() -> None:
    """Calls that would run what a file says: none, or with the argument that keeps them from it."""
    calls = []
    for path in [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                calls.append((ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}))
    loads = [words for name, words in calls if name == "torch.load"]
    assert len(loads) >= 2
    assert all(words.get("weights_only") == "True" for words in loads)
    assert not [name for name, words in calls if name == "np.load" and words.get("allow_pickle", "False") != "False"]
    unpicklers = (
        "pickle.load",
        "pickle.loads",
        "joblib.load",
        "pd.read_pickle",
        "cloudpickle.load",
        "cloudpickle.loads",
    )
    assert not [name for name, _ in calls if name in unpicklers]
