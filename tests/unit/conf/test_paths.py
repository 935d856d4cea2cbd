"""Names of a home: they work, or they are refused before anything is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, run_front_door

from conf import Paths, UserError, file_url, load, path_of_url
from conf.atomic import exchange
from conf.machine.processes import utf8_locale


def home_of(home: object) -> Path:
    return load(overrides=[], environment={"MILLRACE_HOME": str(home)}).get(Paths).root


@pytest.mark.parametrize("name", ["a b", "Käse ☃", "a&b(c)=,@!$~^+|<>", "x" * 200])
def test_a_home_may_have_blanks_and_any_letters(tmp_path: Path, name: str) -> None:
    assert home_of(tmp_path / name) == tmp_path / name
    assert path_of_url(file_url(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize("character", [*"*?[]{}#%;:'\"\\", "\n", "\x07", "\udcff"])
def test_what_spark_and_others_misread_is_refused_before_anything_is_written(tmp_path: Path, character: str) -> None:
    home = tmp_path / f"a{character}b"
    code, out, err = run_front_door("etl", "collect", "--once", home=home)
    assert (code, out) == (1, "")
    (message,) = err.splitlines()
    assert "setting paths.home" in message
    assert ascii(character)[1:-1] in message or character in message
    assert list(tmp_path.iterdir()) == []


def test_a_folder_above_the_home_counts_and_so_does_where_a_link_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a;b"
    odd.mkdir()
    (tmp_path / "link").symlink_to(odd)
    (tmp_path / "good").mkdir()
    (tmp_path / "other").symlink_to(tmp_path / "good")
    with pytest.raises(UserError, match="has ';' in its name"):
        home_of(tmp_path / "link")
    assert home_of(tmp_path / "other") == tmp_path / "good"
    monkeypatch.chdir(odd)
    with pytest.raises(UserError, match="has ';' in its name"):
        load(environment={})


def test_a_home_that_is_a_file_too_deep_or_a_circle_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for home, message in (
        (tmp_path / "file", "is not a folder"),
        (tmp_path / Path(*["deep" * 20] * 30), "has .* bytes, more than 2000"),
        (tmp_path / "circle", "Symlink loop"),
    ):
        with pytest.raises(UserError, match=message):
            home_of(home)


def test_a_home_that_cannot_be_written_to_is_one_line() -> None:
    """/proc takes no folders from anybody, as a read-only disk."""
    code, out, err = run_front_door("etl", "collect", "/etc/hostname", "--once", home="/proc/millrace")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "/proc/millrace" in err


def test_a_warehouse_elsewhere_is_a_url(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"paths\.warehouse_root"):
        load(overrides=[f"paths.warehouse_root={tmp_path}"], environment={})
    for url in ("s3a://bucket/tables", "hdfs:///tables", f"file://{tmp_path}"):
        assert load(overrides=[f"paths.warehouse_root={url}"], environment={}).get(Paths).warehouse == url


def test_a_child_process_can_open_names_beyond_ascii_under_lc_all_c(tmp_path: Path) -> None:
    code = (
        "import os, sys; from conf.machine.processes import utf8_locale\n"
        "with utf8_locale(): print(os.environ['LC_ALL'])\n"
        "print(os.environ['LC_ALL'])"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["C.UTF-8", "C"]


def test_a_locale_with_utf_8_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with utf8_locale():
        assert os.environ["LC_ALL"] == "de_DE.UTF-8"


def test_two_folders_get_each_others_name_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    if not exchange(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system can't exchange folders")
    assert (tmp_path / "one/file").read_text() == "two"
    assert (tmp_path / "two/file").read_text() == "one"
    assert not exchange(tmp_path / "one", tmp_path / "none")
