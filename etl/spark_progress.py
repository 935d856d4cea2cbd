"""How far Spark is, for `conf.console.progress.waiting`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def spark_progress(spark: "SparkSession") -> Callable[[], str]:
    """A function that counts the tasks of the jobs that run: `12 of 40 Spark tasks`, or nothing between two jobs."""
    tracker = spark.sparkContext.statusTracker()

    def progress() -> str:
        jobs = [job for number in tracker.getActiveJobsIds() if (job := tracker.getJobInfo(number))]
        stages = [stage for job in jobs for number in job.stageIds if (stage := tracker.getStageInfo(number))]
        total = sum(stage.numTasks for stage in stages)
        return f"{sum(stage.numCompletedTasks for stage in stages)} of {total} Spark tasks" if total else ""

    return progress
