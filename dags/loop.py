"""`millrace demo --loop 7`: days on which the generated site shows the lists that were published the day before."""

import logging
import math
import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf import Config, Paths, file_url
from dags.stages import STAGES
from dags.walk import engines, walk

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys.experiment.statistics import Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArmFigures:
    """What the users of one arm were shown on a day."""

    click_rate: float
    """Clicks an impression."""
    true_rate: float
    """The same by the true click probabilities of what was shown: without the chance of the clicks."""
    coverage: float
    """Share of the items that exist which any of them was shown."""
    gini: float
    """Of the impressions over these items: 0 when all are shown alike, near 1 when all are of one."""


def run(config: Config, *, days: int, loop: int, scale: float, seed: int) -> dict[str, Any]:
    """Simulate days of the site's own lists and run the last one; then simulate and run days with published lists.

    Args:
        config: all settings.
        days: days before the first lists are published, at least 3.
        loop: days after these.
        scale: of the site.
        seed: of the site.

    Returns:
        The last day, the seconds, and as `loop` a row for each day that was run; see `day_row`.
    """
    from etl.report.job import report_console, rows_table
    from etl.session import spark_session
    from etl.simulator import simulate
    from etl.simulator.published import PublishedPolicy

    started, rows = time.monotonic(), []
    simulated = simulate.run(config, days=days, scale=scale, seed=seed)
    since: str | None = str(simulated["first_day"])
    with engines(config) as open_engines:
        for number in range(loop + 1):
            if number:
                # The days before were loaded with the first one.
                since, simulated = None, simulate.append(config, days=1, policy=PublishedPolicy())
            day = str(simulated["last_day"])
            walk(open_engines, STAGES, day, since=since)
            with spark_session(config) as spark:
                rows.append(day_row(spark, config, date.fromisoformat(day)))
            log.info("%s", "  ".join(f"{name} {_text(value)}" for name, value in rows[-1].items()))
    report_console().print(rows_table("Published lists beside the site's own", rows))
    return {"date": day, "total_s": round(time.monotonic() - started, 1), "loop": rows}


def day_row(spark: "SparkSession", config: Config, day: date) -> dict[str, Any]:
    """Compare the arms of a simulated day whose events are loaded.

    Returns:
        day, the click rates of both arms, their ratio with a 95 % interval, the ratio of the true click probabilities,
        coverage and Gini of both. All of the published arm are None on a day that showed the site's lists alone.
    """
    from etl.simulator.published import PUBLISHED, SITE

    arms, samples = arm_figures(spark, config, day)
    arm, site = arms.get(PUBLISHED), arms.get(SITE)
    low = high = None
    if PUBLISHED in samples and SITE in samples:
        low, high = ratio_interval(samples[PUBLISHED], samples[SITE])
    return {
        "day": str(day),
        "click_rate": arm and arm.click_rate,
        "site's": site and site.click_rate,
        "ratio": arm.click_rate / site.click_rate if arm and site and site.click_rate else None,
        "low": low,
        "high": high,
        "true_ratio": arm.true_rate / site.true_rate if arm and site else None,
        "coverage": arm and arm.coverage,
        "gini": arm and arm.gini,
        "site's coverage": site and site.coverage,
        "site's gini": site and site.gini,
    }


def arm_figures(spark: "SparkSession", config: Config, day: date) -> tuple[dict[str, ArmFigures], dict[str, "Sample"]]:
    """Figures of each arm of a day, and its click rate with its variance over users.

    Only the site's, and no rate with a variance, when the day has no published lists.
    """
    from pyspark.sql import functions as F

    from etl.simulator.events import EXPOSURES
    from etl.simulator.published import EXPERIMENT, SITE
    from etl.simulator.truth import read_world
    from etl.tables import dwd
    from etl.warehouse.store import Warehouse
    from recsys.experiment.users import Metric, samples, served_users

    paths = config.get(Paths)
    impressions = Warehouse(spark, config).read(dwd.impression, [day])
    by_arm: dict[str, Sample] = {}
    if any(paths.landing("served", day).glob(f"{EXPOSURES}-*")):
        users = served_users(spark, config, EXPERIMENT, [day]).persist()
        by_arm = samples(users, [Metric("click_rate", "clicks", "shown")])[1]["click_rate"]
        shown = impressions.join(users.select("user_id", "arm"), on="user_id", how="inner")
    else:
        shown = impressions.withColumn("arm", F.lit(SITE))
    truth = spark.read.parquet(file_url(paths.truth / f"dt={day.isoformat()}"))
    sums = (F.count("*").alias("shown"), F.sum("is_clicked").alias("clicks"), F.sum("probability").alias("expected"))
    # As many rows as items in each arm.
    items: pd.DataFrame = shown.join(truth, on="impression_id").groupBy("arm", "item_id").agg(*sums).toPandas()
    world = read_world(paths.truth)
    num_items = int((world.item_birth <= (day - world.settings.start).days).sum())
    figures = {}
    for arm, rows in items.groupby("arm"):
        counts = rows["shown"].to_numpy(np.float64)
        total = counts.sum()
        figures[str(arm)] = ArmFigures(
            float(rows["clicks"].sum() / total),
            float(rows["expected"].sum() / total),
            len(counts) / num_items,
            gini(counts, num_items),
        )
    return figures, by_arm


def gini(counts: NDArray[np.float64], num_items: int) -> float:
    """Gini coefficient of how often items are shown; the items without a count are shown never."""
    ordered = np.sort(np.concatenate([np.zeros(num_items - len(counts)), counts]))
    rank = np.arange(1, num_items + 1)
    # G = 2 Σ i x_i / (n Σ x) − (n + 1) / n, of x in ascending order.
    return float(2 * (rank @ ordered) / (num_items * ordered.sum()) - (num_items + 1) / num_items)


def ratio_interval(arm: "Sample", site: "Sample") -> tuple[float | None, float | None]:
    """95 % interval of the ratio of two arms' rates, by the delta method on its logarithm; None where one has none."""
    if not (arm.estimate > 0 and site.estimate > 0):
        return None, None
    relative = [one.variance(one.weights) / one.estimate**2 for one in (arm, site)]
    width = 1.96 * math.sqrt(sum(relative))
    ratio = arm.estimate / site.estimate
    return ratio * math.exp(-width), ratio * math.exp(width)


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
