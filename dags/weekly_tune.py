"""Searches the settings of the rankers once a week; what it finds is used from the next day on (`tuned/MODEL.yaml`)."""

from datetime import datetime

from airflow.sdk import DAG, CronTriggerTimetable

from dags.stages import WEEKLY
from dags.tasks import DAY_BEFORE, DEFAULTS, ZONE, chain, late_after, params

DAG_ID = "millrace_weekly_tune"

dag = DAG(
    dag_id=DAG_ID,
    description="Searches over the rankers' settings",
    # Sundays at 06:30: the run of the day before, which it searches on, started at 02:15.
    schedule=CronTriggerTimetable("30 6 * * 0", timezone=ZONE),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # each search takes the machine's cores
    deadline=late_after(DAG_ID, hours=12),
    default_args=DEFAULTS,
    params=params(WEEKLY),
    tags=["millrace"],
    doc_md=__doc__,
)
chain(dag, WEEKLY, DAY_BEFORE)
