"""Read an A/B experiment from the warehouse, or from a file with a row a user: `millrace experiment read NAME`."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from conf.site.sources import Files
from etl.ingest.sites.source_files import read_texts
from etl.sources.values import to_number, to_yes_no
from etl.stage import RowCounts, stage_run
from etl.tables import ads
from etl.warehouse.store import Warehouse
from recsys.experiment.statistics import MISMATCH, Difference, Sample, compare, sample_ratio_p_value
from recsys.experiment.users import SERVED_METRICS, Metric, samples, served_users
from recsys.serve.settings import ServingSettings

log = logging.getLogger(__name__)

BEFORE = "_before"  # end of a file's column with a metric's value before the experiment
MAX_ARMS = 20


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What is compared."""

    control: str | None = None
    """Arm that the others are compared with; the first by name without one."""
    weights: Mapping[str, float] | None = None
    """Planned share of each arm, in any unit; those of `serving.arms` without it, else equal ones."""
    guardrails: Mapping[str, float] | None = None
    """Metric -> share of the control's value that it may lose."""


def read_served(
    spark: SparkSession, config: Config, name: str, day: date, num_days: int, options: ReadOptions
) -> dict[str, Any]:
    """Read an experiment of the server: clicks of the lists that were served in each arm.

    Args:
        spark: the session.
        config: `serving.arms`, and the home.
        name: of the experiment, as `serving.experiment` had it.
        day: the last day.
        num_days: days up to it.
        options: control, shares and guard rails.

    Returns:
        Users, and p of their shares; the comparisons are in ads_experiment_metric.

    Raises:
        UserError: nothing was served, or there is no such arm.
    """
    days = [day - timedelta(days=n) for n in reversed(range(num_days))]
    users = served_users(spark, config, name, days).persist()
    try:
        return _read(spark, config, name, day, users, SERVED_METRICS, options)
    finally:
        users.unpersist()


def read_file(
    spark: SparkSession,
    config: Config,
    name: str,
    day: date,
    file: Path,
    columns: tuple[str, str],
    options: ReadOptions,
) -> dict[str, Any]:
    """Read an experiment of which a file has a row for each user: the other columns of numbers, or of yes and no.

    A column `x_before` is what `x` was before the experiment.

    Args:
        spark: the session.
        config: the home.
        name: of the experiment.
        day: that the results are of.
        file: a table in any layout.
        columns: of the user and of the arm.
        options: control, shares and guard rails.

    Raises:
        UserError: a column is missing, users have several rows, no column has numbers, or there is no such arm.
    """
    texts = read_texts(spark, config, Files(file.name), file.parent, None)
    if missing := [column for column in columns if column not in texts.columns]:
        raise UserError(f"{file}: no column {', '.join(missing)}; found {', '.join(texts.columns)}")
    names = [column for column in texts.columns if column not in columns]
    user, arm = columns
    typed = texts.select(F.col(f"`{user}`").alias("user_id"), F.col(f"`{arm}`").alias("arm"), *map(_number, names))
    users = typed.persist()
    try:
        filled = [F.count(F.col(f"`{column}`")).alias(f"n {column}") for column in names]
        counts = users.agg(F.count_distinct("user_id").alias("users"), F.count("*").alias("rows"), *filled)
        row = counts.collect()[0]
        if row["users"] < row["rows"]:
            raise UserError(f"{file}: {row['rows']} rows of {row['users']} users: write one for each")
        numeric = [column for column in names if row[f"n {column}"]]
        metrics = [
            Metric(column, column, before=f"{column}{BEFORE}" if f"{column}{BEFORE}" in numeric else None)
            for column in numeric
            if not column.endswith(BEFORE)
        ]
        if not metrics:
            raise UserError(f"{file}: no column of numbers, or of yes and no, beside {user} and {arm}")
        return _read(spark, config, name, day, users, metrics, options)
    finally:
        users.unpersist()


def _number(name: str) -> Any:
    text = F.col(f"`{name}`")
    # An empty cell is missing, though in a column of clicks it would be none.
    return F.when(text.isNotNull(), F.coalesce(to_number(text), to_yes_no(text).cast("double"))).alias(name)


def _read(
    spark: SparkSession,
    config: Config,
    name: str,
    day: date,
    users: DataFrame,
    metrics: Sequence[Metric],
    options: ReadOptions,
) -> dict[str, Any]:
    arms = [row["arm"] for row in users.select("arm").distinct().limit(MAX_ARMS + 1).collect() if row["arm"]]
    control = options.control or min(arms, default="")
    if control not in arms or not 2 <= len(arms) <= MAX_ARMS:
        listed = ", ".join(sorted(arms)[:MAX_ARMS]) or "none"
        wanted = control or "the control"
        raise UserError(f"the experiment {name} has the arms {listed}: it takes two or more, {wanted} among them")
    sizes, by_metric = samples(users, metrics)
    mixed = users.where("arm is null").count()
    if mixed:
        log.warning("%d users were in several arms, or in none: they are left out", mixed)
    ratio = sample_ratio_p_value(list(sizes.values()), _weights(config, name, sizes, options))
    if ratio < MISMATCH:
        log.warning(
            "the arms have %s users, which chance does not explain (p %.2g): don't trust the rest", sizes, ratio
        )
    guardrails = dict(options.guardrails or {})
    if unknown := sorted(set(guardrails) - set(by_metric)):
        raise UserError(f"no metric {', '.join(unknown)}; there are {', '.join(by_metric)}")
    rows = [
        _row(name, metric, (control, arm), by_arm, ratio, guardrails.get(metric))
        for metric, by_arm in by_metric.items()
        for arm in by_arm
        if arm != control
    ]
    _write(spark, config, name, day, rows)
    return {"users": sum(sizes.values()), "arms": sizes, "control": control, "sample_ratio_p": ratio, "metrics": rows}


def _weights(config: Config, name: str, sizes: Mapping[str, int], options: ReadOptions) -> list[float]:
    serving = config.get(ServingSettings)
    planned = options.weights or {}
    if not planned and serving.experiment == name:
        planned = {arm: settings.weight for arm, settings in serving.arms.items()}
    if planned and set(planned) != set(sizes):
        raise UserError(
            f"shares are planned of {', '.join(sorted(planned))}, and there are users of {', '.join(sizes)}"
        )
    return [planned.get(arm, 1.0) for arm in sizes]


def _row(
    name: str, metric: str, arms: tuple[str, str], by_arm: Mapping[str, Sample], ratio: float, allowed: float | None
) -> dict[str, Any]:
    control, arm = (by_arm[one] for one in arms)
    result = compare(control, arm)
    values = {key: value if math.isfinite(value) else None for key, value in asdict(result).items()}
    return {
        "experiment": name,
        "metric": metric,
        "control": arms[0],
        "arm": arms[1],
        "users_control": control.users,
        "users_arm": arm.users,
        "value_control": values["control"],
        "value_arm": values["arm"],
        "difference": result.difference if math.isfinite(result.difference) else None,
        "relative": result.relative if math.isfinite(result.relative) else None,
        **{key: values[key] for key in ("low", "high", "p_value", "sequential_p_value", "variance_reduction")},
        "guardrail": None if allowed is None else _verdict(result, allowed),
        "sample_ratio_p": ratio,
    }


def _verdict(result: Difference, allowed: float) -> str:
    """Whether a metric has lost no more than it may: kept, lost, or unclear."""
    bound = -allowed * abs(result.control)
    if result.low >= bound:
        return "kept"
    return "lost" if result.high < bound else "unclear"


def _write(spark: SparkSession, config: Config, name: str, day: date, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the experiment's rows of the day; others' stay."""
    warehouse = Warehouse(spark, config)
    table = ads.experiment_metric
    with stage_run(warehouse, "experiment", [day]) as counts:
        own = spark.createDataFrame([tuple(row[c.name] for c in table.columns) for row in rows], table.schema_text)
        others = warehouse.read(table, [day]).where(F.col("experiment") != name).localCheckpoint()
        warehouse.write(table, table.with_partition(own, day).unionByName(others), [day], rebalance=False)
        counts[day] = RowCounts(rows_in=len(rows), rows_out=len(rows))
