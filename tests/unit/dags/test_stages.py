import ast
from pathlib import Path

import pytest
import yaml
from support import ROOT

from conf import UsageError, load
from dags.stages import HOURLY, NAMES, PREDICTIONS, STAGES, TUNE, WEEKLY, Stage, upstream
from dags.walk import chosen, engines, walk
from etl.tables import ALL


def test_what_a_stage_reads_is_written_before_it() -> None:
    for stage in STAGES:
        assert all(NAMES.index(before.name) < NAMES.index(stage.name) for before in upstream(stage, STAGES))


@pytest.mark.parametrize("stage", [*STAGES, TUNE, *WEEKLY, *HOURLY, *PREDICTIONS], ids=lambda stage: stage.name)
def test_inputs_and_outputs_that_look_like_tables_are_tables(stage: object) -> None:
    for name in (*stage.inputs, *stage.outputs):  # type: ignore[attr-defined]
        if name.split("_")[0] in ("ods", "dwd", "dim", "dws", "ads", "ops"):
            assert name in ALL


def test_a_part_of_the_day_can_be_chosen() -> None:
    assert [stage.name for stage in chosen("coarse", "train", None)] == ["coarse", "fine", "train"]
    assert [stage.name for stage in chosen(None, None, "recall")] == ["recall"]
    assert len(chosen(None, None, None)) == len(STAGES)
    with pytest.raises(UsageError, match="--only stands alone"):
        chosen("coarse", None, "fine")


DAG_FILES = ["daily.py", "weekly_tune.py", "hourly_hot_topics.py", "predictions.py"]


@pytest.mark.parametrize("name", ["stages.py", "tasks.py", "alerts.py", *DAG_FILES])
def test_a_dag_file_imports_airflow_and_the_standard_library_only(name: str) -> None:
    tree = ast.parse((ROOT / "dags" / name).read_text())
    roots = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert roots <= {"airflow", "collections", "dags", "dataclasses", "datetime", "pathlib", "typing"}


def test_a_walk_runs_its_stages_with_its_own_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load(overrides=["train.epochs=37", f"paths.home={tmp_path}"], environment={})
    with engines(config) as opened:
        walk(opened, [Stage("show", "config show", "every setting")], "2026-01-07")
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["train"]["epochs"], shown["paths"]["home"]) == (37, str(tmp_path))
