"""The command line: names, exit codes, one line for each problem. Nothing here starts a JVM."""

import json
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from support import ROOT, run_front_door

import millrace as front
from conf.site import SITE_VARIABLE
from dags.stages import STAGES, TUNE


def test_help_imports_no_library_of_weight() -> None:
    code = "import sys, millrace; print(millrace.overview()); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "whole day" in done.stdout
    for heavy in ("pydantic", "typer", "pyspark", "torch", "ray", "airflow", "numpy"):
        assert f"'{heavy}'" not in done.stderr


def test_a_command_that_only_reads_settings_imports_no_library_of_weight(tmp_path: Path) -> None:
    code = "import sys, millrace; millrace.run_command(['runs', 'list']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "MILLRACE_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    for heavy in ("pyspark", "torch", "ray", "airflow", "numpy", "pandas"):
        assert f"'{heavy}'" not in done.stderr


@pytest.mark.parametrize("area", front.AREAS)
def test_every_area_answers_to_help(area: str) -> None:
    module, name = front.AREAS[area][0].split(":")
    assert isinstance(getattr(import_module(module), name), typer.Typer)
    code, out, _ = run_front_door(area, "--help")
    assert code == 0
    assert f"millrace {area}" in out


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("sing", 2, "unknown command 'sing'; choose from demo, simulate"),
        ("etl weblog --date yesterday", 2, "'yesterday' is not a date: write it as 2026-01-07"),
        ("etl weblog --date 20260107x", 2, "is not a date"),
        ("etl weblog --date 20260107", 2, "is not a date"),
        ("etl weblog --date 2026-W02-3", 2, "is not a date"),
        ("etl weblog --date 2026-02-30", 2, "is not a date"),
        ("train '\x1b[31m' --date 2026-01-07", 2, r"unknown model '\x1b[31m'"),
        ("etl weblog --date 2026-01-02 --since 2026-01-05", 2, "--since 2026-01-05 is after --date 2026-01-02"),
        ("etl weblog", 2, "name one day (--date), or take --all-dates"),
        ("etl weblog --date 2026-01-02 --all-dates", 2, "--all-dates names no day"),
        ("etl weblog --all-dates", 1, "--all-dates needs --source"),
        (
            "etl weblog --date 2026-01-07 --log-format combinde",
            1,
            "'combinde': no such format; give an nginx log_format",
        ),
        ("warehouse describe ods_nothing", 2, "unknown table 'ods_nothing'; tables are ads_ctr_daily"),
        ("train deepmf --date 2026-01-07", 2, "unknown model 'deepmf'; choose from lr, fm, wide_deep"),
        ("train no.such:net --date 2026-01-07", 2, "can't import model 'no.such:net'"),
        (
            "train deepfm --date 2026-01-07 --backend mpi",
            2,
            "unknown backend 'mpi'; choose from local, ray, horovod, spark",
        ),
        ("train deepfm --date 2026-01-07", 1, "run `millrace features build --date 2026-01-07` first"),
        ("train deepfm --date 2026-01-07 --check", 1, "run `millrace features build --date 2026-01-07` first"),
        ("run --date 2026-01-07 --only sing", 2, "unknown stage 'sing'; choose from collect, weblog"),
        ("run --date 2026-01-07 --from report --to weblog", 2, "--from report comes after --to weblog"),
        ("recsys evaluate --split odd", 2, "unknown split 'odd'; choose from time, random, leave-one-out"),
        ("recsys fine --date 2026-01-07", 1, "run `millrace features build --date 2026-01-07` first"),
        ("recsys recommend u1", 1, "no promoted lists"),
        ("tune dnn --date 2026-01-07", 2, "unknown model 'dnn'; choose from fm, lightgbm, recall"),
        ("tune fm --date 2026-01-07 --search luck", 2, "unknown search 'luck'; choose from grid, random, bayes"),
        ("tune lightgbm --date 2026-01-07 --search pbt", 2, "can't change its settings while it trains"),
        ("tune fm --date 2026-01-07", 1, "run `millrace features build --date 2026-01-07` first"),
        ("tune fm --date 2026-01-07 --set tune.limits=[fast]", 1, "'fast' is no limit"),
        ("tune fm --date 2026-01-07 --set tune.space.fm.k=3", 1, "range of fm"),
        ("etl collect", 2, "name files to follow, or set collect.patterns"),
        ("etl export x --date 2026-01-07", 2, "unknown export 'x'"),
        ("etl import x --date 2026-01-07", 2, "unknown import 'x'; choose from users, items"),
        ("etl stream x", 2, "unknown stream 'x'; choose from hot-topics, hot-products"),
        ("config show --set weblog.funnels.main=[(]", 1, "is no regular expression"),
        ("config show --set relational.exports.x.table=ads_pv_daily", 1, "needs either `to` (a table) or `path`"),
        ("config show --set 'relational.imports.x={table: t, mode: merge}'", 1, "mode merge needs check_column"),
        ("warehouse serve --set serve.host=0.0.0.0", 1, "serve.host 0.0.0.0 lets others in"),
        ("serve --host 0.0.0.0", 1, "serving.host 0.0.0.0 lets others in"),
        ("serve --port 70000", 2, "Invalid value for '--port'"),
        ("warehouse serve --set metastore.url=jdbc:oracle:x", 1, "setting metastore.url = 'jdbc:oracle:x'"),
        ("warehouse init", 1, "the embedded metastore needs no init"),
        ("warehouse move", 1, "set metastore.url to where the definitions are to go"),
        ("dags backfill --date 2026-01-01 --since 2026-01-02", 2, "is after --date"),
        ("submit train deepfm --date 2026-01-07", 1, "set ray.jobs to the job server"),
        ("submit etl events --date 2026-01-07", 1, "set spark.master to the cluster"),
        ("submit --on mars train", 2, "--on is ray or spark, not 'mars'"),
        ("config show --set fm.k=many", 1, "setting fm.k = 'many'"),
        ("config show --profile mars", 1, "unknown profile 'mars'"),
        ("config show --set", 2, "--set needs a value"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(line: str, code: int, message: str, tmp_path: object) -> None:
    found, out, err = run_front_door(*shlex.split(line), home=tmp_path)
    assert (found, out) == (code, "")
    assert message in err
    # Beside what a shared session of other tests says of its own work.
    assert len([line for line in err.strip().splitlines() if "still going on after" not in line]) == 1
    assert err.startswith("millrace: ")


def test_config_show_prints_every_section_as_yaml(tmp_path: object) -> None:
    code, out, _ = run_front_door("config", "show", "--set", "fm.k=3", home=tmp_path)
    assert code == 0
    assert "k: 3" in out
    assert "driver_memory: 4g" in out


def test_a_table_is_described_as_json(tmp_path: object) -> None:
    code, out, _ = run_front_door("warehouse", "describe", "ads_recommendation", "--format", "json", home=tmp_path)
    assert code == 0
    assert json.loads(out)[0]["column"] == "user_id"


@pytest.mark.parametrize("stage", [*STAGES, TUNE], ids=lambda stage: stage.name)
def test_every_stage_is_a_command_that_parses(stage: object) -> None:
    area, *arguments = stage.arguments("2026-01-07", "2026-01-01")  # type: ignore[attr-defined]
    module, name = front.AREAS[area][0].split(":")
    command = typer.main.get_command(getattr(import_module(module), name))
    context = command.make_context(area, list(arguments), resilient_parsing=False)
    if hasattr(command, "commands"):
        verb = arguments[0]
        assert verb in command.commands
        command.commands[verb].make_context(verb, list(arguments[1:]))
    assert context is not None


def test_each_fault_of_a_declaration_has_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SITE_VARIABLE, "")  # which the front door sets
    site = tmp_path / "site.py"
    site.write_text("from conf.site import *\nSITE = Site('shop', items=Items(key='a'),\n  users=Users(key='b'))\n")
    code, out, err = run_front_door("config", "show", "--site", str(site), home=tmp_path / "home")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        'millrace: site.py:2: Items: "source" is missing',
        'millrace: site.py:3: Users: "source" is missing',
    ]
