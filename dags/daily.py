"""The daily DAG: one task a stage of `dags/stages.py`, each a `millrace` command for the finished day.

Every task has its own process, so its JVM, metastore lock and Ray end with it. The embedded metastore serves one
process at a time: tasks that need it wait for its lock.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable

from dags.stages import STAGES, upstream

with DAG(
    dag_id="millrace_daily",
    description="From raw logs to recommendations, every day",
    # The plain cron text would mean the day of the run; this timetable's {{ ds }} is the finished day.
    schedule=CronDataIntervalTimetable("15 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=2), "retry_exponential_backoff": True},
    tags=["millrace"],
    doc_md=__doc__,
) as dag:
    tasks = {
        stage.name: BashOperator(
            task_id=stage.name,
            bash_command="millrace " + stage.command.format(date="{{ ds }}"),
            append_env=True,
            do_xcom_push=True,  # the last line: the stage's counts as JSON
            execution_timeout=timedelta(minutes=stage.minutes),
            outlets=[
                Asset(name) for name in stage.outputs if name.startswith(("ods_", "dwd_", "dim_", "dws_", "ads_"))
            ],
            doc_md=f"{stage.about}: `millrace {stage.command}`, reads {', '.join(stage.inputs) or 'the landing zone'}",
        )
        for stage in STAGES
    }
    for stage in STAGES:
        for before in upstream(stage):
            tasks[before.name] >> tasks[stage.name]
