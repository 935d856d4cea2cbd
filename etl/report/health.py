"""How a day went: whether and why its models were promoted, what failed or waits, and what became of its rows."""

import json
from dataclasses import dataclass

from pyspark.sql import functions as F

from conf import Paths
from conf.runs import PROMOTED, promotion_decision, read_json
from etl.report.day_tables import DayTables, Rows, collect_rows
from etl.report.parts import Cell, Table, share
from etl.tables import ads, dim, ods, ops

EARLIER_DAYS = 7  # whose stages a day is expected to run
REASONS = 15  # of quarantine, the commonest
MISMATCH = 0.001  # p of the arms' sizes below which an experiment's assignment is broken
ROW_COUNTS = ("rows_in", "rows_out", "rows_invalid", "rows_quarantined", "rows_other_date")


@dataclass(frozen=True)
class Promotion:
    """What was decided about a day's models: one sentence, and the reasons against them."""

    sentence: str
    reasons: list[str]


def promotion(tables: DayTables) -> Promotion:
    """Whether the day's models were promoted, by the record of `recsys promote`, and whether that was taken back.

    Raises:
        UserError: the record is damaged.
    """
    runs = tables.config.get(Paths).runs
    decision = promotion_decision(runs, tables.day)
    if decision is None:
        return Promotion("No decision about this day's models is recorded.", [])
    sentence = "The day's models were promoted." if decision["promoted"] else "The day's models were not promoted."
    if "loss_change" in decision:
        sentence += (
            f" Log loss of the fine model against the champion {decision['champion']}: {decision['loss_change']:+.2%}"
            f" (95 % interval {decision['loss_change_low']:+.2%} to {decision['loss_change_high']:+.2%})."
        )
    if "list_gain" in decision:
        sentence += (
            f" By the log, lists of {decision['list_k']} earn {decision['list_value']:.2f} clicks,"
            f" {decision['list_gain']:+.2f} against those of {decision['lists']}"
            f" (95 % interval {decision['list_gain_low']:+.2f} to {decision['list_gain_high']:+.2f})."
        )
    path = runs / PROMOTED / f"{tables.day}.json"
    if path.exists() and (at := read_json(path).get("rolled_back_at")):
        sentence += f" The promotion was rolled back at {at}."
    return Promotion(sentence, decision.get("reasons", []))


def models(tables: DayTables) -> Table | None:
    """The day's runs with their part (champion, challenger …) and metrics; None without a run."""
    # By Spark, in the session's zone, UTC: a collected timestamp is in the machine's.
    trained_at = F.date_format("trained_at", "yyyy-MM-dd HH:mm").alias("trained_at")
    rows = collect_rows(tables.read(dim.model).select("model", "part", "run_id", trained_at, "metrics"))
    if not rows:
        return None
    # The runs that the decision was about, promoted or not.
    decision = promotion_decision(tables.config.get(Paths).runs, tables.day) or {}
    challengers = {value for value in decision.values() if isinstance(value, str)} - {decision.get("champion")}
    for row in rows:
        metrics = json.loads(row["metrics"])
        row |= {name: metrics.get(name) for name in ("auc", "log_loss", "recall@10")}
        row["part"] = row["part"] or ("challenger" if row["run_id"] in challengers else "")
    header = {"model": "model", "part": "part", "auc": "test AUC", "log_loss": "test log loss"}
    header |= {"recall@10": "recall@10", "trained_at": "trained at (UTC)", "run_id": "run"}
    # Champions first.
    return Table.of(header, sorted(rows, key=lambda row: (row["part"] != "champion", row["model"], row["run_id"])))


def troubles(tables: DayTables) -> Table | None:
    """Stages that failed, even if a later run succeeded, and those that ran for the week before and not for the day."""
    runs = _runs_by_stage(tables)
    day = ops.run.partition_value(tables.day)
    today = {row["stage"]: row for row in runs if row["dt"] == day}
    rows = []
    for stage, row in sorted(today.items()):
        if row["failures"]:
            state = "failed" if row["status"] != "done" else "failed, then done"
            rows.append({"stage": stage, "state": state, "failures": row["failures"], "reason": row["error"]})
    last = {row["stage"]: row["dt"] for row in sorted(runs, key=lambda row: str(row["dt"]))}
    for stage in sorted(set(last) - set(today)):
        rows.append({"stage": stage, "state": "waits", "failures": None, "reason": f"last ran for {last[stage]}"})
    header = {"stage": "stage", "state": "state", "failures": "failed runs", "reason": "reason"}
    return Table.of(header, rows) if rows else None


def _runs_by_stage(tables: DayTables) -> Rows:
    """One row per day and stage: status of its newest run, number of failed runs, error of the newest failed one."""
    runs = tables.read(ops.run, days=1 + EARLIER_DAYS).withColumn("has_failed", F.col("status") != "done")
    return collect_rows(
        runs.groupBy("dt", "stage").agg(
            F.max_by("status", "ended_at").alias("status"),
            F.count_if("has_failed").alias("failures"),
            F.max_by("error", F.when(F.col("has_failed"), F.col("ended_at"))).alias("error"),
        )
    )


def row_accounts(tables: DayTables) -> Table | None:
    """Rows in and out of the newest run of each stage, with shares of the rows in."""
    if not tables.stages:
        return None
    shares = {"rows_out": "out %", "rows_invalid": "invalid %", "rows_quarantined": "quarantined %"}
    header = {"stage": "stage", "status": "status"}
    for name in ROW_COUNTS:
        header[name] = name.removeprefix("rows_").replace("_", " ")
        if name in shares:
            header[f"{name} share"] = shares[name]
    header["seconds"] = "seconds"
    stages = [
        {**row, **{f"{name} share": share(row[name], row["rows_in"]) for name in shares}} for row in tables.stages
    ]
    return Table.of(header, stages)


def quarantine_reasons(tables: DayTables) -> Table | None:
    """The commonest reasons of the day's rejected lines, with their share of all of them; None without a line."""
    counts = collect_rows(tables.read(ods.quarantine).groupBy("stage", "reason").count())
    total = sum(row["count"] for row in counts)
    if not total:
        return None
    commonest = sorted(counts, key=lambda row: (-row["count"], str(row["stage"]), str(row["reason"])))[:REASONS]
    rows = [{**row, "share": share(row["count"], total)} for row in commonest]
    return Table.of({"stage": "stage", "reason": "reason", "count": "lines", "share": "share"}, rows)


def experiments(tables: DayTables) -> Table | None:
    """The day's comparisons of arms with their controls; None without one."""
    header = {"experiment": "experiment", "arm": "arm", "control": "control", "metric": "metric"}
    header |= {
        "relative": "difference",
        "interval": "95 % interval",
        "p_value": "p",
        "sequential_p_value": "p, read often",
    }
    rows = collect_rows(tables.read(ads.experiment_metric).orderBy("experiment", "arm", "metric"))
    for row in rows:
        if row["sample_ratio_p"] < MISMATCH:
            row["experiment"] += ": the arms' sizes are not as planned"
        scale = abs(row["value_control"] or 0.0)
        has_scale = scale > 0 and row["relative"] is not None and row["low"] is not None
        row["relative"] = Cell(f"{row['relative']:+.2%}", row["relative"]) if has_scale else None
        row["interval"] = f"{row['low'] / scale:+.2%} to {row['high'] / scale:+.2%}" if has_scale else None
        row["guardrail"] = row["guardrail"] or ""
    return Table.of({**header, "guardrail": "guard rail"}, rows) if rows else None
