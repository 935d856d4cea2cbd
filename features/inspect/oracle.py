"""Expected AUC and log loss of the true click probabilities of a generated day: `millrace features oracle`.

No model is expected to do better. The only reader of the simulator's truth; on real data there is none, and the stage
does nothing.
"""

from datetime import date
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from conf import Config, Paths, UserError, file_url
from conf.runs import start_run
from etl.warehouse.store import Warehouse
from features.dataset.build import split_examples
from features.dataset.names import examples_version
from features.metrics.spark import auc_and_log_loss
from features.settings import FeatureSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MODEL = "best_possible"


def run(spark: "SparkSession", config: Config, day: date) -> dict[str, float]:
    """Measure the truth on the held-out rows of the day's training set and leave a run folder for `etl results`.

    Returns:
        auc and log_loss of the validation and the test rows; nothing on real data.

    Raises:
        UserError: when the truth is of other impressions, or there is no training set of `day`.
    """
    paths = config.get(Paths)
    if not any(paths.truth.glob("dt=*")):  # only the simulator writes it
        return {}
    _, metadata = examples_version(config, day)
    # The same rows as those of the models, by the same split.
    examples = split_examples(Warehouse(spark, config), config.get(FeatureSettings), day, metadata["split"])
    truth = spark.read.parquet(file_url(paths.truth)).withColumnRenamed("impression_id", "example_id")
    scored = examples.join(truth, on="example_id", how="inner").select(
        "split", "label", F.col("probability").alias("score")
    )
    results: dict[str, float] = {}
    with start_run(config, MODEL, day) as run_folder:
        for split in ("valid", "test"):
            measured = auc_and_log_loss(scored.where(F.col("split") == split))
            rows = int(measured["rows"])
            # An inner join drops impressions without a truth: numbers of a part would flatter or hurt every model.
            if rows != metadata["rows"][split]:
                raise UserError(f"the truth has {rows} of {metadata['rows'][split]} {split} rows: simulate again")
            metrics: dict[str, float] = {name: measured[name] for name in ("auc", "log_loss") if name in measured}
            results |= run_folder.log_metrics("evaluate", split, metrics, rows)
    return results
