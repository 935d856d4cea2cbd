"""`millrace dags up` and `down`: a local Airflow with SQLite under `<home>/airflow`, for laptops and tests."""

import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any, ClassVar

import psutil
from pydantic import Field
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from conf import Config, Paths, Settings, UserError
from conf.atomic import write_atomically
from conf.clock import day_start
from conf.machine.processes import free_port
from conf.settings import ENV_PREFIX, environment_variable
from dags.stages import POOL
from etl.metastore.settings import MetastoreSettings
from etl.settings import SiteSettings

log = logging.getLogger(__name__)

BIN = Path(sys.executable).parent
STARTS_WITHIN_S = 240.0
STOPS_WITHIN_S = 30.0
KILLED_WITHIN_S = 10.0
POLL_S = 0.5
NOTE = "up.json"
LOG = "airflow.log"
PASSWORDS = "simple_auth_manager_passwords.json.generated"


class DagsSettings(Settings):
    """The local Airflow."""

    section: ClassVar[str] = "dags"

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    """0 takes a free port."""
    parallel: int | None = Field(default=None, gt=0)
    """Tasks at a time; as many as the machine has cores, 2 at least, when not given."""
    metastore_slots: int = Field(default=4, gt=0)
    """Spark tasks at a time on a metastore on PostgreSQL; the embedded one serves one."""


def up(config: Config) -> dict[str, Any]:
    """Start Airflow and wait until it answers.

    Returns:
        Address, user, password and log file.

    Raises:
        UserError: it runs already, its port is taken, or it does not answer within four minutes.
    """
    home = _home(config)
    if process := _running(home):
        raise UserError(f"Airflow runs already (process {process.pid}): see `millrace dags down`")
    settings = config.get(DagsSettings)
    port = free_port(settings.host, settings.port, setting="dags.port")
    config.get(Paths).create_root()
    home.mkdir(exist_ok=True)
    home.chmod(0o700)  # Airflow's database and its configuration are in it
    for name in (PASSWORDS, LOG):  # Airflow writes its password to both
        (home / name).touch(mode=0o600)
        (home / name).chmod(0o600)
    about: dict[str, Any] = {"port": port, "secret": secrets.token_hex(32)}
    # Before Airflow starts: its environment has the port and the secret from there.
    write_atomically(home / NOTE, json.dumps(about), private=True)
    environment = environment_of(config)
    log.info("preparing Airflow's database in %s", home)
    # Each time, and not only at the first: Airflow or the metastore may be another since.
    _run(["db", "migrate"], environment)
    slots = 1 if config.get(MetastoreSettings).is_embedded else settings.metastore_slots
    _run(["pools", "set", POOL, str(slots), "Spark tasks on the metastore"], environment)
    with (home / LOG).open("ab") as out:
        # In a session of its own: Ctrl-C and the end of the terminal reach this command alone.
        process = subprocess.Popen(
            [sys.executable, "-m", "dags.standalone_airflow"], env=environment, cwd=home, stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    about |= {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    write_atomically(home / NOTE, json.dumps(about), private=True)
    try:
        _wait_until_healthy(settings.host, port, process, home)
    except BaseException:  # Ctrl-C as well: what has started so far must not stay behind
        down(config)
        raise
    report: dict[str, Any] = {"url": f"http://{settings.host}:{port}", "log": str(home / LOG)}
    passwords = home / PASSWORDS  # by Airflow's simple auth manager; another one has its own users
    if text := passwords.read_text():
        report |= {"user": "admin", "password": json.loads(text)["admin"]}
    return report


def down(config: Config) -> dict[str, Any]:
    """Stop Airflow and every process that it started; returns how many. Does nothing when it does not run."""
    home = _home(config)
    root = _running(home)
    tree = [root, *root.children(recursive=True)] if root else []
    # Tasks lead sessions of their own and outlive a killed parent: their AIRFLOW_HOME shows whose they are.
    # Without an environment: another user's process, or a zombie. This command may have the variable, too.
    others = [process for process in psutil.process_iter(["environ"]) if process.pid != os.getpid()]
    of_home = [other for other in others if (other.info["environ"] or {}).get("AIRFLOW_HOME") == str(home)]
    tree += [process for process in of_home if process not in tree]
    alive = _signal_all(tree, signal.SIGTERM, STOPS_WITHIN_S)
    _signal_all(alive, signal.SIGKILL, KILLED_WITHIN_S)
    (home / NOTE).unlink(missing_ok=True)
    return {"stopped": len(tree)}


def airflow(config: Config, words: Sequence[str]) -> int:
    """Airflow's own command line on this Airflow; returns its exit code."""
    process = subprocess.run([str(BIN / "airflow"), *words], env=environment_of(config), check=False)
    return process.returncode


def backfill(
    config: Config, days: Sequence[date], *, stages: Sequence[str], backwards: bool, again: bool, at_once: int
) -> int:
    """Create a backfill of the daily DAG and switch the DAG on; returns the number of days.

    Args:
        stages: only these stages; all when empty.
        backwards: newest day first.
        again: also days that have a run already.
        at_once: days at a time.
    """
    zone = config.get(SiteSettings).zone
    # A partition's run is at 02:15 by the site's clock, so the last day ends at its last second and not at midnight.
    first, last = day_start(days[0], zone), day_start(days[-1] + timedelta(days=1), zone) - timedelta(seconds=1)
    words = ["backfill", "create", "--dag-id", "millrace_daily", "--from-date", first.isoformat()]
    words += ["--to-date", last.isoformat(), "--max-active-runs", str(at_once)]
    words += ["--dag-run-conf", json.dumps({"stages": list(stages)})] if stages else []
    words += ["--run-backwards"] if backwards else []
    words += ["--reprocess-behavior", "completed"] if again else []
    _run(words, environment_of(config))
    # A new DAG is paused, and runs of a paused DAG stay queued.
    _run(["dags", "unpause", "millrace_daily", "-y"], environment_of(config))
    return len(days)


def environment_of(config: Config) -> dict[str, str]:
    """The environment of every Airflow process, and so of the tasks."""
    settings, home = config.get(DagsSettings), _home(config)
    about = json.loads((home / NOTE).read_text()) if (home / NOTE).exists() else {}
    port, secret = about.get("port", settings.port), about.get("secret", "")
    url = f"http://{settings.host}:{port}"
    dags = Path(__file__).resolve().parent
    root = str(config.get(Paths).root)
    explicit = config.with_values({"paths.home": root}).explicit  # absolute: tasks run in folders of their own
    # The environment's settings are in `explicit`, unless something came over them.
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return {
        **inherited,
        **dict(
            environment_variable(section, *item)
            for section, values in explicit.items()
            for item in (values or {}).items()
        ),
        # Tasks call `millrace`: this environment's, before any other on the path.
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        # DAG files import the package that they lie in.
        "PYTHONPATH": os.pathsep.join([str(dags.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "MILLRACE_HOME": root,
        # Not PYTHONPATH: a file there that is named like a library would take its place in all of Airflow.
        "MILLRACE_FOLDER": str(Path.cwd()),
        "MILLRACE_PROFILE": config.profile,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",  # tasks are processes of the scheduler: no broker to run
        "AIRFLOW__CORE__PARALLELISM": str(settings.parallel or max(os.cpu_count() or 2, 2)),
        # Tasks report to the API server: at this port, which may be any free one.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": settings.host,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",  # each is a process with all of Airflow in memory
        # The same for all of Airflow's processes, or they refuse one another's tokens.
        "AIRFLOW__API__SECRET_KEY": secret,
        "AIRFLOW__API_AUTH__JWT_SECRET": secret,
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",  # seconds; an installation changes the files
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # a task that has ended is often seen a whole interval later
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    }


def _home(config: Config) -> Path:
    return config.get(Paths).root / "airflow"


def _running(home: Path) -> psutil.Process | None:
    """The process that `up` started, when it is still that one."""
    try:
        about = json.loads((home / NOTE).read_text())
        process = psutil.Process(about["pid"])
        # Process ids are used again: only the start time tells that it is the same process.
        same = abs(process.create_time() - about["started"]) < 1
    except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return None
    return process if same and process.status() != psutil.STATUS_ZOMBIE else None


def _run(words: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        [str(BIN / "airflow"), *words], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        # The last line says what failed; above it are warnings and a stack trace.
        output = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise UserError(f"`airflow {' '.join(words)}` failed: {output[-1] if output else done.returncode}")


def _wait_until_healthy(host: str, port: int, process: "subprocess.Popen[bytes]", home: Path) -> None:
    """Until the API answers that scheduler, DAG processor and triggerer are alive.

    Raises UserError when the process has ended, or they are not within STARTS_WITHIN_S.
    """

    def is_healthy() -> bool:
        if process.poll() is not None:
            raise UserError(f"Airflow ended at once, with {process.returncode}; see {home / LOG}")
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/api/v2/monitor/health", timeout=5) as answer:
                health = json.load(answer)
        except (OSError, ValueError):  # it does not listen yet, or answers with a page of its own
            return False
        # The API server answers first: without the others no task would run, nor a DAG be parsed.
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    retrying = Retrying(
        retry=retry_if_result(lambda healthy: not healthy),
        wait=wait_fixed(POLL_S),
        stop=stop_after_delay(STARTS_WITHIN_S),
    )
    try:
        retrying(is_healthy)
    except RetryError:
        raise UserError(f"Airflow did not come up within {STARTS_WITHIN_S:.0f} s; see {home / LOG}") from None


def _signal_all(processes: Sequence[psutil.Process], number: int, timeout_s: float) -> list[psutil.Process]:
    """Send a signal to all, and return those that still live `timeout_s` seconds later."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it ended while the others were signalled
            process.send_signal(number)
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return list(alive)
