"""Counts topics and products of the last hours: the streams take what has landed, and end."""

from datetime import datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from dags.stages import HOURLY
from dags.tasks import DEFAULTS, chain, params

dag = DAG(
    dag_id="millrace_hourly_hot_topics",
    description="What is hot, hour by hour",
    schedule=CronTriggerTimetable("5 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,  # a stream takes all that has landed, whenever it runs
    max_active_runs=1,  # a stream's checkpoint has one writer
    dagrun_timeout=timedelta(hours=1),
    default_args=DEFAULTS,
    params=params(HOURLY),
    tags=["millrace"],
    doc_md=__doc__,
)
chain(dag, HOURLY)
