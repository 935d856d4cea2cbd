"""Stages as Airflow tasks: each a `millrace` command in a process of its own, so its JVM, lock and Ray end with it.

Where a task runs is said by the environment of Airflow, for it is read when the DAG is parsed:
  MILLRACE_SPARK_CONN    id of an Airflow connection of type spark: Spark stages go there by spark-submit
  MILLRACE_FOLDER        folder in which tasks run on this machine: modules of the user's own are found there
  MILLRACE_DAILY_STAGES  names with commas between: what a scheduled run takes when it is not the whole day
  MILLRACE__SITE__TIMEZONE  time zone by whose clocks the DAGs start, and days are over; UTC without it
  MILLRACE__RAY__JOBS    http://head:8265: Ray stages are sent there as jobs; logs stream back, cancelling stops the job
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, BaseOperator, Param
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowSkipException

from dags.alerts import day_late, task_failed
from dags.stages import POOL, Stage, upstream

ROOT = Path(__file__).resolve().parent.parent
SPARK_CONN = "MILLRACE_SPARK_CONN"
RAY_JOBS = "MILLRACE__RAY__JOBS"
FOLDER = "MILLRACE_FOLDER"
DAILY_STAGES = "MILLRACE_DAILY_STAGES"
# As settings are written in the environment: with or without quotes, `null` for none.
ZONE = os.environ.get("MILLRACE__SITE__TIMEZONE", "").strip("\"'").replace("null", "") or "UTC"
_RUN_AFTER = "dag_run.run_after"
if ZONE != "UTC":
    _RUN_AFTER += f".astimezone(macros.dateutil.tz.gettz('{ZONE}'))"
# The day that was asked for, or the run's partition, or the day of a run that was started by hand.
DAY = f"{{{{ params.date or partition_key or (ds if ds is defined else {_RUN_AFTER} | ds) }}}}"
DAY_BEFORE = f"{{{{ params.date or macros.ds_add({_RUN_AFTER} | ds, -1) }}}}"
TABLES = ("ods_", "dwd_", "dim_", "dws_", "ads_")

DEFAULTS: dict[str, Any] = {
    # Every stage may be repeated: it overwrites its partition, and what it had written is not visible before.
    "retries": 2,
    "retry_delay": timedelta(minutes=float(os.environ.get("MILLRACE_RETRY_MINUTES", "2"))),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=30),
    "on_failure_callback": task_failed,
}


def params(stages: tuple[Stage, ...]) -> dict[str, Param]:
    """Parameters of a run: the day, and the stages; what a scheduled run takes is `MILLRACE_DAILY_STAGES`, or all."""
    names = [stage.name for stage in stages]
    default = [name for name in os.environ.get(DAILY_STAGES, "").split(",") if name in names]
    return {
        "date": Param("", type="string", pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="the day; else the run's own"),
        "stages": Param(
            default, type="array", items={"type": "string", "enum": names}, examples=names,
            description="run these stages alone; all when empty",
        ),
    }  # fmt: skip


def late_after(dag_id: str, hours: int) -> DeadlineAlert:
    """Says that a run is late, through `dags/alerts.py`."""
    # Asynchronous: the triggerer runs it, while a synchronous one would wait for a worker like any task.
    callback = AsyncCallback(day_late, kwargs={"dag": dag_id, "hours": hours})
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(hours=hours), callback=callback
    )


def task(stage: Stage, day: str) -> BaseOperator:
    """The stage as a task for `day`, a template; tables that it writes are assets, of the run's partition."""
    common: dict[str, Any] = {
        "task_id": stage.name,
        # A task that hangs would keep its slot of the pool from all others.
        "execution_timeout": timedelta(minutes=stage.minutes),
        # Tables alone: no DAG waits for run folders and data sets.
        "outlets": [Asset(name) for name in stage.outputs if name.startswith(TABLES)],
        "doc_md": _about(stage),
        "trigger_rule": "none_failed",  # a stage that was not asked for is skipped, what follows it is not
        "pre_execute": skip_unless_chosen,
    }
    words = [word.format(date=day) for word in stage.command.split()]
    if stage.engine == "spark":
        common["pool"] = POOL
        if conn := os.environ.get(SPARK_CONN):
            return _spark_submit(stage, conn, words, common)
    # Airflow itself has no operator for Ray: the task is a client that waits for the job and passes its log on.
    sent = "submit --on ray " if stage.engine == "ray" and os.environ.get(RAY_JOBS) else ""
    # `exec`: the command is the process that Airflow ends. The last line, the stage's counts, becomes its XCom.
    return BashOperator(
        bash_command=f"exec millrace {sent}{' '.join(words)}",
        cwd=os.environ.get(FOLDER),
        append_env=True,
        do_xcom_push=True,
        **common,
    )


def skip_unless_chosen(context: Any) -> None:
    """With the parameter `stages`, only these run."""
    chosen = context["params"].get("stages")
    if chosen and context["ti"].task_id not in chosen:
        raise AirflowSkipException("not among the stages that were asked for")


def chain(dag: DAG, stages: tuple[Stage, ...], day: str = DAY) -> None:
    """Make the tasks of `dag`; one that reads what another writes comes after it."""
    with dag:
        tasks = {stage.name: task(stage, day) for stage in stages}
    for stage in stages:
        for before in upstream(stage, stages):
            tasks[before.name] >> tasks[stage.name]


def _spark_submit(stage: Stage, conn: str, words: list[str], common: dict[str, Any]) -> BaseOperator:
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

    return SparkSubmitOperator(
        conn_id=conn,
        application=str(ROOT / "millrace.py"),
        application_args=words,
        name=f"millrace-{stage.name}",
        # Fixed when spark-submit starts the JVM, before Millrace reads its settings.
        driver_memory=os.environ.get("MILLRACE__SPARK__DRIVER_MEMORY", "4g"),
        conf={"spark.ui.enabled": "false"},  # drivers side by side would compete for its port
        **common,
    )


def _about(stage: Stage) -> str:
    reads = ", ".join(f"`{name}`" for name in stage.inputs) or "the landing zone"
    writes = ", ".join(f"`{name}`" for name in stage.outputs) or "nothing in the warehouse"
    by_hand = stage.command.format(date="DAY")
    return f"**{stage.about}**\n\nBy hand: `millrace {by_hand}`\n\nReads {reads}.\n\nWrites {writes}."
