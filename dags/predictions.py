"""Answers of the day's deep model, for `ads_prediction`: runs when a partition of `ads_model_metric` was written."""

from datetime import datetime

from airflow.sdk import DAG, Asset, PartitionedAssetTimetable

from dags.stages import PREDICTIONS
from dags.tasks import DEFAULTS, chain, params

dag = DAG(
    dag_id="millrace_predictions",
    description="Answers of the day's deep model",
    # Written by `publish` of the daily run, when the day's deep model has its run folder.
    schedule=PartitionedAssetTimetable(assets=Asset("ads_model_metric")),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params=params(PREDICTIONS),
    tags=["millrace"],
    doc_md=__doc__,
)
chain(dag, PREDICTIONS)
