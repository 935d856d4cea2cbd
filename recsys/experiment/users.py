"""What the users of an experiment did, a row each, and the moments of that by arm.

Only the moments come to the driver, so that nothing there grows with the users.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError, file_url
from etl.tables import dwd
from etl.warehouse.store import Warehouse
from recsys.experiment.statistics import Sample

DAYS_BEFORE = 7  # whose clicks explain a part of those of the experiment
_SERVED = "kind string, user_id string, request_id string, experiment struct<name: string, arm: string>"


@dataclass(frozen=True)
class Metric:
    """How a metric is made of a user's row."""

    name: str
    value: str
    base: str | None = None
    before: str | None = None


# Of experiments of the server. Guard rails are among them: an arm that drives users away serves fewer lists.
SERVED_METRICS = (
    Metric("click_rate", "clicks", "shown", "clicks_before"),
    Metric("clicks_per_user", "clicks", before="clicks_before"),
    Metric("lists_per_user", "lists"),
)


def served_users(spark: SparkSession, config: Config, name: str, days: Sequence[date]) -> DataFrame:
    """Users to whom lists of an experiment were served, from `landing/served/` and dwd_impression.

    Returns:
        user_id, arm (null for a user of several), lists, shown and clicks of these days, and clicks_before of the
        seven days before.

    Raises:
        UserError: no list of the experiment was served on these days.
    """
    zone = config.get(Paths).root / "landing" / "served"
    # Of the hours' folders by UTC: the first and the last day of the site's clock reach into the neighbours'.
    first, last = days[0] - timedelta(days=1), days[-1] + timedelta(days=1)
    folders = [path for path in sorted(zone.glob("dt=*")) if str(first) <= path.name.removeprefix("dt=") <= str(last)]
    served = None
    if folders:
        paths = [file_url(path) for path in folders]
        lists = spark.read.schema(_SERVED).option("recursiveFileLookup", "true").json(paths)
        served = lists.where(F.col("experiment.name") == name).select(
            "user_id", "request_id", F.col("experiment.arm").alias("arm")
        )
    if served is None or served.isEmpty():
        raise UserError(f"no list of the experiment {name} was served from {days[0]} to {days[-1]}: see {zone}")
    warehouse = Warehouse(spark, config)
    arms = served.groupBy("user_id").agg(
        F.when(F.count_distinct("arm") == 1, F.first("arm")).alias("arm"), F.count_distinct("request_id").alias("lists")
    )
    # What was shown of them, as the clients say; a request that nobody looked at has no impressions.
    impressions = warehouse.read(dwd.impression, list(days)).select("user_id", "request_id", "is_clicked")
    happened = impressions.join(served.select("user_id", "request_id").distinct(), on=["user_id", "request_id"])
    counts = happened.groupBy("user_id").agg(F.count("*").alias("shown"), F.sum("is_clicked").alias("clicks"))
    earlier = warehouse.read(dwd.impression, [days[0] - timedelta(days=n) for n in range(1, DAYS_BEFORE + 1)])
    before = earlier.groupBy("user_id").agg(F.sum("is_clicked").alias("clicks_before"))
    users = arms.join(counts, on="user_id", how="left").join(before, on="user_id", how="left")
    return users.fillna(0, subset=["shown", "clicks", "clicks_before"])


def samples(users: DataFrame, metrics: Sequence[Metric]) -> tuple[dict[str, int], dict[str, dict[str, Sample]]]:
    """Number of users of each arm, and each metric's moments by arm, in one pass.

    Args:
        users: with `arm`, which has a few values, and the columns of the metrics; a missing value is none of them.
        metrics: what is summed up.
    """
    aggregates = [F.count("*").alias("users")]
    for number, metric in enumerate(metrics):
        aggregates += _moments(number, metric)
    rows = users.where("arm is not null").groupBy("arm").agg(*aggregates).orderBy("arm").collect()
    by_metric = {
        metric.name: {row["arm"]: _sample(row.asDict(), number, metric) for row in rows}
        for number, metric in enumerate(metrics)
    }
    return {row["arm"]: row["users"] for row in rows}, by_metric


def _moments(number: int, metric: Metric) -> list[Column]:
    columns = (metric.value, metric.base, metric.before)
    # Users without a value, or a part of a ratio, are left out of the metric alone.
    names = [name for name in columns if name is not None]
    is_there = F.lit(True)
    for name in names:
        is_there &= F.col(name).isNotNull()
    values = [F.when(is_there, F.col(name).cast("double") if name else F.lit(0.0)) for name in columns]
    moments = [F.count(values[0]).alias(f"n{number}")]
    for i in range(3):
        moments.append(F.avg(values[i]).alias(f"m{number}_{i}"))
        moments += [F.covar_samp(values[i], values[j]).alias(f"c{number}_{i}{j}") for j in range(i, 3)]
    return moments


def _sample(row: Mapping[str, float | None], number: int, metric: Metric) -> Sample:
    def value(name: str) -> float:
        moment = row[name]
        return np.nan if moment is None else float(moment)

    means = np.array([value(f"m{number}_{i}") for i in range(3)])
    covariances = np.array([[value(f"c{number}_{min(i, j)}{max(i, j)}") for j in range(3)] for i in range(3)])
    users = int(row[f"n{number}"] or 0)
    return Sample(users, means, covariances, metric.base is not None, metric.before is not None)
