"""What a command leaves behind: a private home, and no secret in it, in its lines or on a command line."""

import logging
from datetime import date
from pathlib import Path

import pytest
from support import run_front_door

from conf import UserError, load
from conf.atomic import write_atomically
from conf.console.terminal import PrintableFormatter
from conf.masking import MASK, public_environment
from conf.paths import Paths
from conf.runs import start_run
from dags import alerts
from etl.metastore.lock import MetastoreLock, command_name


def test_a_new_home_is_for_its_user_alone_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    load(environment={"MILLRACE_HOME": str(home)}).get(Paths).create_root()
    assert home.stat().st_mode & 0o777 == 0o700
    home.chmod(0o750)  # shared with a group
    load(environment={"MILLRACE_HOME": str(home)}).get(Paths).create_root()
    assert home.stat().st_mode & 0o777 == 0o750


def test_a_command_creates_the_home_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code, _, _ = run_front_door("etl", "collect", "--once", "--set", "collect.patterns=[nothing*]", home=home)
    assert code == 1
    assert home.stat().st_mode & 0o777 == 0o700


def test_showing_the_settings_creates_no_home(tmp_path: Path) -> None:
    assert run_front_door("config", "show", home=tmp_path / "home")[0] == 0
    assert not (tmp_path / "home").exists()


def test_a_home_that_can_not_be_created_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't create the home"):
        load(environment={"MILLRACE_HOME": str(tmp_path / "file" / "home")}).get(Paths).create_root()


def test_a_run_by_python_creates_the_home_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start_run(load(environment={"MILLRACE_HOME": str(home)}), "fm", date(2026, 1, 7)):
        pass
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_private_file_is_never_open_to_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "secret", "x", private=True)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_the_lock_names_a_command_without_its_other_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["etl", "weblog", "--date", "2026-01-07", "--source", "https://me:geheim1@host/x", "geheim2"]
    monkeypatch.setattr("sys.argv", ["/opt/bin/millrace", *words])
    with MetastoreLock(tmp_path).hold(0):
        text = (tmp_path / "lock.json").read_text()
    assert "geheim" not in text
    assert '"command": "millrace etl weblog 2026-01-07"' in text
    assert command_name(["millrace", "sql", "select 'geheim1'"]) == "millrace sql"


def test_log_lines_and_stacks_are_masked() -> None:
    formatter = PrintableFormatter("%(message)s")
    try:
        raise ValueError("no answer from https://me:geheim1@host/x") from None  # of another test, in the same process
    except ValueError as error:
        trace = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "at %s", ("jdbc:x://h/d?password=geheim2",), trace)
    text = formatter.format(record)
    assert "Traceback" in text
    assert text.count(MASK) == 3  # the line of code, too
    assert "geheim" not in text


def test_a_program_that_writes_its_environment_on_command_lines_gets_a_public_one() -> None:
    environment = {"PATH": "/bin", "MILLRACE__SPARK__EXTRA": "{k: v}", "PGPASSWORD": "x", "X_URL": "https://a:b@host/"}
    assert public_environment(environment) == {"PATH": "/bin"}


def test_an_alert_that_fails_does_not_show_the_webhook(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for address in ("hooks.example.com/services/geheim1", "http://127.0.0.1:geheim1/x"):
        monkeypatch.setenv(alerts.URL, address)
        alerts.send("weblog failed")
    assert "is no address" in caplog.text
    assert "geheim" not in caplog.text
