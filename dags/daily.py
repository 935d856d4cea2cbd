"""The day, from raw logs to recommendations: one task a stage of `dags/stages.py`.

Every run is for one day, the run's partition, which is the partition of every table that it writes; tables are
assets, and DAGs that depend on one run when its partition is written. Backfill: `airflow backfill create --dag-id
millrace_daily --from-date … --to-date …`. One stage of a past day again: start the DAG with `date` and `stages`.
"""

from datetime import datetime

from airflow.sdk import DAG, CronPartitionTimetable

from dags.stages import STAGES
from dags.tasks import DEFAULTS, ZONE, chain, late_after, params

DAG_ID = "millrace_daily"

dag = DAG(
    dag_id=DAG_ID,
    description="From raw logs to recommendations, every day",
    # At 02:15 for the day that is over, both by the site's clock: its date is the run's partition key.
    schedule=CronPartitionTimetable("15 2 * * *", timezone=ZONE, run_offset=-1, key_format="%Y-%m-%d"),
    start_date=datetime(2026, 1, 1),
    catchup=False,  # days that were missed are run by a backfill, not all at once at the next start
    max_active_runs=4,  # other days' runs, started by hand, go on beside it; the pool limits their tasks
    deadline=late_after(DAG_ID, hours=6),
    default_args=DEFAULTS,
    params=params(STAGES),
    tags=["millrace"],
    doc_md=__doc__,
)
chain(dag, STAGES)
