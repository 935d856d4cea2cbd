"""`millrace submit COMMAND …`: the same command line on a cluster, as a Ray job or by spark-submit.

The code is sent as one archive, the settings as environment variables, secrets in neither: the home has them in
`secrets.yaml`, or the cluster in its own environment. The home must be a path that every node can read and write.
"""

import asyncio
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from conf import Config, Paths, UsageError, UserError, code
from conf.machine.processes import stop_signals, wait_or_kill
from conf.masking import has_secret, masked_text
from conf.settings import ENV_PREFIX, SECRETS, environment_variable
from conf.site.loading import submitted_site
from etl.settings import SparkSettings
from etl.spark_options import options_file, spark_options, spark_program
from training.settings import RaySettings

log = logging.getLogger(__name__)

# Commands that open a Spark session.
ON_SPARK = ("etl", "ingest", "features", "sql", "metrics", "warehouse", "report")
POLL_S = 0.5
MAX_MESSAGE = 300  # characters of another program's error
LOG_WITHIN_S = 30.0  # for the last lines of the log, after the job has ended
PREFIX = "millrace: "  # of the line that the front door prints for an error
ERROR_WITHIN = 200  # last lines of a log, among which that line is
_WAY = f"write it to {SECRETS} in the home (chmod 600), or give it in the cluster's own environment"


def run(config: Config, words: Sequence[str], on: str | None) -> dict[str, Any]:
    """Run a command line on the cluster, stream its log to standard error and return its counts.

    A job whose command is stopped here (SIGTERM, Ctrl-C) is stopped on the cluster, too.

    Args:
        words: the command line after `millrace`.
        on: `ray` or `spark`; by default Spark for the commands that need it, Ray for all others.

    Raises:
        UsageError: no command, one with a secret in it, or an unknown cluster.
        UserError: no cluster is set or reachable, or the job failed or was stopped; the job's last line says why.
    """
    if not words:
        raise UsageError("name the command to run on the cluster: millrace submit train deepfm --date D")
    if masked_text(shlex.join(words)) != shlex.join(words):
        raise UsageError(f"the command has a secret in it, and everybody can read a job's description: {_WAY}")
    # Recall alone needs Spark's executors; `recsys run` and `evaluate` start a local session on the Ray cluster.
    cluster = on or ("spark" if words[0] in ON_SPARK or list(words[:2]) == ["recsys", "recall"] else "ray")
    if cluster not in ("ray", "spark"):
        raise UsageError(f"--on is ray or spark, not '{on}'")
    return (_on_ray if cluster == "ray" else _on_spark)(config, words)


def settings_to_send(config: Config) -> dict[str, str]:
    """Every value that was set, as environment variables, without secrets: everybody can read job descriptions.

    What the job will lack is named in the log, with the way to give it.
    """
    public, omitted = config.without_secrets()
    if omitted:
        variables = ", ".join(f"{ENV_PREFIX}{name.replace('.', '__').upper()}" for name in omitted)
        log.warning("secrets are not sent: %s (%s)", _WAY, variables)
    return _variables(public)


def cluster_options(config: Config) -> dict[str, str]:
    """Spark's options for a driver in the cluster, which sets the secret ones itself: everybody there can read them."""
    options = {key: value for key, value in spark_options(config).items() if not has_secret(value, key)}
    there = {**settings_to_send(config), **submitted_site()}
    options |= {f"spark.yarn.appMasterEnv.{name}": value for name, value in there.items()}
    return options | {f"spark.kubernetes.driverEnv.{name}": value for name, value in there.items()}


def _variables(config: Config) -> dict[str, str]:
    """Every value that was set, as environment variables."""
    variables = {"MILLRACE_PROFILE": config.profile, "MILLRACE_HOME": str(config.get(Paths).root)}
    for section, values in config.values.items():
        # The home is in MILLRACE_HOME above, as an absolute path.
        items = [item for item in (values or {}).items() if (section, item[0]) != ("paths", "home")]
        variables |= dict(environment_variable(section, *item) for item in items)
    return variables


def error_among(lines: Sequence[str]) -> str:
    """What a command failed with: the front door's line, which Ray or Spark may log more after; else the last line."""
    errors = [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]
    return (errors or list(lines) or [""])[-1]


def _on_ray(config: Config, words: Sequence[str]) -> dict[str, Any]:
    from ray.job_submission import JobStatus, JobSubmissionClient

    address = config.get(RaySettings).jobs
    if address is None:
        raise UserError("set ray.jobs to the job server of the Ray cluster, as http://head:8265")
    archive = code.archive(config.get(Paths).root / "tmp")
    # auto: the command joins the cluster on one of whose nodes it runs.
    environment = {**settings_to_send(config), **submitted_site(), "MILLRACE__RAY__ADDRESS": "auto"}
    environment.pop("MILLRACE__RAY__JOBS", None)  # or the job would submit itself again
    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(
            entrypoint=f"{config.get(RaySettings).python or sys.executable} millrace.py {shlex.join(words)}",
            runtime_env={"working_dir": str(archive), "env_vars": environment},
        )
    except Exception as error:  # Ray's own, and those of its HTTP client
        raise UserError(f"the Ray cluster at {address} took no job: {_first_line(error)}") from None
    log.info("job %s on %s: %s", job, address, shlex.join(words))
    log_follower = _RayLog(client, job)
    log_follower.start()
    with stop_signals() as stopped:
        stop_requested = False
        while not (status := client.get_job_status(job)).is_terminal():
            if stopped and not stop_requested:
                stop_requested = True  # once; its end and the rest of its log are still to come
                log.info("stopping job %s", job)
                client.stop_job(job)
            time.sleep(POLL_S)
    log_follower.join(LOG_WITHIN_S)
    if status == JobStatus.STOPPED:
        raise UserError(f"job {job} was stopped")
    if status != JobStatus.SUCCEEDED:
        # The command's line of its error; without one, the job did not get as far.
        raise UserError(f"job {job} failed: {log_follower.error or client.get_job_info(job).message}")
    return {"job": job, **_counts(log_follower.last)}


class _RayLog(threading.Thread):
    """Writes the log of a job to standard error while it runs; `last` is its last line so far, `error` its error's."""

    def __init__(self, client: Any, job: str) -> None:
        super().__init__(daemon=True)  # a lost connection must not keep this process alive
        self.last = ""
        self._lines: list[str] = []
        self._client, self._job = client, job

    def run(self) -> None:
        try:
            asyncio.run(self._follow())
        except Exception as error:  # the job goes on, and its status is asked for apart from its log
            log.warning("the job's log can't be followed: %s", _first_line(error))

    async def _follow(self) -> None:
        async for text in self._client.tail_job_logs(self._job):
            sys.stderr.write(masked_text(text))
            lines = [line for line in text.splitlines() if line.strip()]
            self.last = lines[-1] if lines else self.last
            self._lines = [*self._lines, *lines][-ERROR_WITHIN:]

    @property
    def error(self) -> str:
        return error_among(self._lines)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:MAX_MESSAGE]


def _on_spark(config: Config, words: Sequence[str]) -> dict[str, Any]:
    settings = config.get(SparkSettings)
    if settings.is_local:
        raise UserError("set spark.master to the cluster: spark://host:7077, yarn, k8s://…")
    archive = code.archive(config.get(Paths).root / "tmp")
    options = cluster_options(config) if settings.deploy_mode == "cluster" else spark_options(config)
    variables = _variables(config)  # for spark-submit here, whose environment this user alone can read
    with options_file(options) as file, stop_signals() as stopped:
        command = [
            str(spark_program("spark-submit")),
            *("--properties-file", str(file), "--deploy-mode", settings.deploy_mode, "--py-files", str(archive)),
            *(str(code.ROOT / "millrace.py"), *words),
        ]
        python = settings.python or sys.executable
        # Executors have a Python of their own where `spark.python` says so; the driver runs this one.
        environment = {**os.environ, **variables, "PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": sys.executable}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        lines: list[str] = []
        errors: deque[str] = deque(maxlen=ERROR_WITHIN)

        def pass_on_errors() -> None:
            for line in process.stderr or ():
                sys.stderr.write(masked_text(line))
                errors.append(line.rstrip())

        # In threads: a full pipe would stop the driver, and this loop has to notice a signal.
        readers = [
            threading.Thread(target=lambda: lines.extend(line for line in process.stdout or () if line.strip())),
            threading.Thread(target=pass_on_errors),
        ]
        for reader in readers:
            reader.start()
        while process.poll() is None:
            if stopped:
                # The group: spark-submit's shell, its JVM and the driver's Python.
                os.killpg(process.pid, signal.SIGTERM)
                wait_or_kill(process, timeout_s=60)
                raise UserError("stopped")
            time.sleep(POLL_S)
        for reader in readers:
            reader.join()
    if process.returncode:
        raise UserError(
            f"spark-submit ended with {process.returncode}: {error_among(list(errors)) or 'its log says why'}"
        )
    return _counts(lines[-1] if lines else "")


def _counts(line: str) -> dict[str, Any]:
    """The JSON object that a command prints as its last line; empty for a command that prints none."""
    try:
        counts = json.loads(line)
    except ValueError:
        return {}
    return counts if isinstance(counts, dict) else {}
