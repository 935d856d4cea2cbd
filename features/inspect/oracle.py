"""The best AUC and log loss that any model could reach on a generated day: the true probabilities against the clicks.

The only reader of the simulator's truth. On real data there is none, and the stage does nothing.
"""

from datetime import date
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from conf import Config, Paths, UserError, file_url
from conf.runs import start_run
from conf.versions import current_version
from etl.warehouse.store import Warehouse
from features.dataset.build import split_examples
from features.dataset.kinds import EXAMPLES
from features.metrics.spark import auc_and_log_loss
from features.settings import FeatureSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MODEL = "best_possible"


def run(spark: "SparkSession", config: Config, day: date) -> dict[str, float]:
    """Measure the truth on the held-out rows of the day's training set and leave a run folder for `etl results`."""
    paths = config.get(Paths)
    if not any(paths.truth.glob("dt=*")):
        return {}
    _, about = current_version(paths.datasets(EXAMPLES, day), command=f"millrace features build --date {day}")
    rows = split_examples(Warehouse(spark, config), config.get(FeatureSettings), day, about["split"])
    truth = spark.read.parquet(file_url(paths.truth)).withColumnRenamed("impression_id", "example_id")
    joined = rows.join(truth, on="example_id", how="inner").select(
        "split", "label", F.col("probability").alias("score")
    )
    told: dict[str, float] = {}
    with start_run(config, MODEL, day) as found:
        for split in ("valid", "test"):
            numbers = auc_and_log_loss(joined.where(F.col("split") == split))
            if int(numbers["rows"]) != about["rows"][split]:
                raise UserError(
                    f"the truth knows {numbers['rows']:.0f} of {about['rows'][split]} {split} rows: simulate again"
                )
            kept: dict[str, float] = {metric: numbers[metric] for metric in ("auc", "log_loss") if metric in numbers}
            told |= found.log_metrics("evaluate", split, kept, int(numbers["rows"]))
    return told
