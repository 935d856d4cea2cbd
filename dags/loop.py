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
    from pyspark.sql import DataFrame, SparkSession

    from recsys.experiment.statistics import Sample

log = logging.getLogger(__name__)

Z = 1.96  # of a 95 % interval


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
    from etl.report.job import format_cell, report_console, rows_table
    from etl.session import spark_session
    from etl.simulator import simulate
    from etl.simulator.published import PublishedPolicy

    # People of the generated site click the same items again: lists that leave these out run dry in a week.
    if "exclude" not in config.explicit.get("recall", {}):
        config = config.with_values({"recall.exclude": "none"})
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
                figures = day_row(spark, config, date.fromisoformat(day))
            rows.append({"day": day, "lists_of": simulated.get("lists_of"), **figures})
            log.info("%s", "  ".join(f"{name} {format_cell(value) or '-'}" for name, value in rows[-1].items()))
    report_console().print(rows_table("Published lists beside the site's own", [_line(row) for row in rows]))
    return {"date": day, "total_s": round(time.monotonic() - started, 1), "loop": rows}


def _line(row: dict[str, Any]) -> dict[str, object]:
    """A row with short headings, for a terminal."""
    low, high = row["ratio_low"], row["ratio_high"]
    return {
        "day": row["day"],
        "lists of": row["lists_of"],
        "click rate": row["click_rate"],
        "site's": row["site_click_rate"],
        "ratio": row["ratio"],
        "95 %": None if low is None else f"{low:.2f}–{high:.2f}",
        "true": row["true_ratio"],
        "coverage": row["coverage"],
        "Gini": row["gini"],
        "site's Gini": row["site_gini"],
    }


def day_row(spark: "SparkSession", config: Config, day: date) -> dict[str, float | None]:
    """Compare the arms of a simulated day whose events are loaded.

    Returns:
        The click rates of both arms, their ratio with its 95 % interval, the ratio of the true click probabilities,
        coverage and Gini of both. What needs an arm is None on a day that did not have it.
    """
    from etl.simulator.published import PUBLISHED, SITE

    users = _assigned_users(spark, config, day)
    arms = _arm_figures(spark, config, day, users)
    arm, site = arms.get(PUBLISHED), arms.get(SITE)
    row: dict[str, float | None] = dict.fromkeys(("ratio", "ratio_low", "ratio_high", "true_ratio"))
    if users is not None and arm and site:
        samples = _samples(users)
        low, high = ratio_interval(samples[PUBLISHED], samples[SITE])
        ratio = arm.click_rate / site.click_rate if site.click_rate else None
        row = {"ratio": ratio, "ratio_low": low, "ratio_high": high, "true_ratio": arm.true_rate / site.true_rate}
    rates = {"click_rate": _figure(arm, "click_rate"), "site_click_rate": _figure(site, "click_rate")}
    spread = {"coverage": _figure(arm, "coverage"), "gini": _figure(arm, "gini")}
    of_site = {"site_coverage": _figure(site, "coverage"), "site_gini": _figure(site, "gini")}
    return {**rates, **row, **spread, **of_site}


def _figure(arm: ArmFigures | None, name: str) -> float | None:
    return float(getattr(arm, name)) if arm else None


def _assigned_users(spark: "SparkSession", config: Config, day: date) -> "DataFrame | None":
    """user_id, arm, shown and clicks of a day; None when it has no published lists."""
    from etl.simulator.events import EXPOSURES
    from etl.simulator.published import EXPERIMENT
    from recsys.experiment.users import served_users

    if not any(config.get(Paths).landing("served", day).glob(f"{EXPOSURES}-*")):
        return None
    return served_users(spark, config, EXPERIMENT, [day])


def _samples(users: "DataFrame") -> "dict[str, Sample]":
    """Clicks an impression of each arm, as a ratio over its users."""
    from recsys.experiment.users import Metric, samples

    return samples(users, [Metric("click_rate", "clicks", "shown")])[1]["click_rate"]


def _arm_figures(spark: "SparkSession", config: Config, day: date, users: "DataFrame | None") -> dict[str, ArmFigures]:
    from pyspark.sql import functions as F

    from etl.simulator.published import SITE
    from etl.simulator.truth import read_world
    from etl.tables import dwd
    from etl.warehouse.store import Warehouse

    truth = config.get(Paths).truth
    shown = Warehouse(spark, config).read(dwd.impression, [day]).withColumn("arm", F.lit(SITE))
    if users is not None:
        shown = shown.drop("arm").join(users.select("user_id", "arm"), on="user_id", how="inner")
    probabilities = spark.read.parquet(file_url(truth / f"dt={day.isoformat()}"))
    sums = (F.count("*").alias("shown"), F.sum("is_clicked").alias("clicks"), F.sum("probability").alias("expected"))
    by_item = shown.join(probabilities, on="impression_id", how="inner").groupBy("arm", "item_id").agg(*sums)
    items: pd.DataFrame = by_item.toPandas()  # at most a row for each item and arm
    world = read_world(truth)
    num_items = int((world.item_birth <= (day - world.settings.start).days).sum())
    figures = {}
    for arm, rows in items.groupby("arm"):
        counts = rows["shown"].to_numpy(np.float64)
        clicks, expected = float(rows["clicks"].sum()), float(rows["expected"].sum())
        spread = len(counts) / num_items, gini(counts, num_items)
        figures[str(arm)] = ArmFigures(clicks / counts.sum(), expected / counts.sum(), *spread)
    return figures


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
    width = Z * math.sqrt(sum(relative))
    if math.isnan(width):  # of a single user
        return None, None
    ratio = arm.estimate / site.estimate
    return ratio * math.exp(-width), ratio * math.exp(width)
