"""Run ids that lead out of `runs/` are refused wherever one is read: on the command line, in settings, in files."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support import run_front_door

from conf import Config, UserError, load
from conf.runs import INPUTS, PROMOTED, finished_runs, new_run_id, run_folder, start_run
from conf.unfinished import DONE
from conf.versions import current_version
from recsys.registry.promote import champion_run_id
from recsys.registry.runs import describe_run
from recsys.serve.recommend import recommend
from recsys.serve.state.publication import newest_publication
from training.finished.trained import load_trained_model
from training.train import model_folder

DAY = date(2026, 1, 7)
ELSEWHERE = ["../../x", "../x", "..", ".", "", "/etc", "runs/x", "x/", "x/../y", ".hidden", "x\ny", "a\\b", "a\0b"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A home beside which lies what looks like a finished run: `../../x` from the folder of runs."""
    outside = tmp_path / "x"
    (outside / "model").mkdir(parents=True)
    about = {"run_id": "../../x", "model": "fm", "dt": str(DAY), "ended_at": "2026-01-07T00:00:00+00:00"}
    (outside / DONE).write_text(json.dumps(about))
    (outside / "model/net.json").write_text('{"model": "deepfm", "net": {}}')
    config = load(overrides=[f"paths.home={tmp_path / 'home'}"], environment={})
    (tmp_path / "home/runs" / PROMOTED).mkdir(parents=True)
    return config


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_id_is_the_name_of_one_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is not the name of a folder in") as refused:
        run_folder(tmp_path, name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("model", ["deepfm", "predict-my.net.build", "tune-fm", "größe_2"])
def test_the_ids_that_we_give_are_accepted(tmp_path: Path, model: str) -> None:
    name = f"{model}-{new_run_id()}"
    assert run_folder(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "line",
    [
        ("runs", "show", "../../x"),
        ("model", "export", "../../x"),
        ("model", "compress", "../../x", "--how", "int8"),
        ("model", "ensemble", "../../x", "../../x"),
        ("model", "gap", "../../x"),
        ("predict", "deepfm", "--date", str(DAY), "--run", "../../x"),
    ],
    ids=" ".join,
)
def test_commands_refuse_it_in_one_line(config: Config, tmp_path: Path, line: tuple[str, ...]) -> None:
    code, out, err = run_front_door(*line, home=tmp_path / "home")
    assert (code, out) == (1, "")
    assert "run id '../../x' is not the name of a folder in" in err
    assert "Traceback" not in err


READERS: dict[str, Callable[[Config], Any]] = {
    "lineage": lambda config: describe_run(config, "../../x"),
    "deep model": lambda config: load_trained_model(config, "../../x"),
    "teacher or transfer.run": lambda config: model_folder(config, "../../x"),
    "lists": lambda config: recommend(config, "u1", DAY),
    "served": newest_publication,
    "champion": lambda config: champion_run_id(config_runs(config), date(2026, 1, 8)),
}


def config_runs(config: Config) -> Path:
    return Path(str(config.values["paths"]["home"])) / "runs"


@pytest.mark.parametrize("reader", READERS)
def test_what_a_promotion_names_is_not_followed(config: Config, reader: str) -> None:
    promotion = {"recommend": "../../x", "fm": "../../x"}
    (config_runs(config) / PROMOTED / f"{DAY}.json").write_text(json.dumps(promotion))
    with pytest.raises(UserError, match=r"run id '\.\./\.\./x' is not the name of a folder in"):
        READERS[reader](config)


def test_what_a_run_names_as_its_input_is_not_followed(config: Config) -> None:
    with start_run(config, "recommend", DAY) as lists:
        lists.log_input_run("../../x")
    promotion = config_runs(config) / PROMOTED / f"{DAY}.json"
    promotion.write_text(json.dumps({"recommend": lists.run_id}))
    for read in (newest_publication, lambda config: describe_run(config, lists.run_id)):
        with pytest.raises(UserError, match="is not the name of a folder in"):
            read(config)
    assert (lists.folder / INPUTS).exists()


def test_a_run_that_says_to_be_another_is_left_out(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with start_run(config, "fm", DAY) as run:
        pass
    about = json.loads((run.folder / DONE).read_text())
    (run.folder / DONE).write_text(json.dumps({**about, "run_id": "../../x"}))
    assert finished_runs(config_runs(config)) == []
    assert "is of another run, '../../x'; the run is left out" in caplog.text


def test_a_version_that_leads_elsewhere_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "current.json").write_text('{"version": "../../x"}')
    with pytest.raises(UserError, match=r"version '\.\./\.\./x' is not the name of a folder in"):
        current_version(tmp_path, command="millrace features build")
