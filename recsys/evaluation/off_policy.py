"""The day's lists judged by the site's own log: `millrace recsys evaluate --off-policy --date D`.

Every list of the day's ranking (each recall channel, merged, each ranker, the blend, the published one) is made again
for the held-out users, of models and candidates that know nothing of the test rows, and judged by these impressions
(`features.metrics.off_policy`). The numbers go to ads_off_policy.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError
from conf.runs import finished_runs, newest_run, read_json
from etl.tables import ads
from etl.warehouse.store import Warehouse
from features.metrics import off_policy
from features.metrics.off_policy import Estimate, Slots
from recsys.blend import rank
from recsys.blend.judge import CLIP, LOGGED, ListCollector, ListJudge, has_support
from recsys.blend.lists import all_orders, lists_to_publish, order_candidates, present_order, rank_to_publish
from recsys.blend.prices import published_lists
from recsys.blend.scoring import score_candidates, score_names
from recsys.blend.stack import Stack
from recsys.blend.weights import BLEND_FILE, MERGED
from recsys.dataset import candidates_folder
from recsys.settings import CoarseSettings, RecommendSettings

log = logging.getLogger(__name__)

LOGGED_LIST = "logged"  # the site's own
FAR_FROM_1 = 2.0  # mean weights beyond this, or below its inverse, say that propensities are wrong
RIGHT_BY = {LOGGED: "snips"}  # by benchmarks.off_policy its intervals have the truth most often; else sndr's
COLUMNS = ["user_id", "item_id", "rank", "attraction"]
CHANNEL = "recall:"  # before the name of a channel


@dataclass(frozen=True)
class Judgement:
    """Rows of ads_off_policy, and what the command prints."""

    rows: list[dict[str, Any]]
    report: dict[str, Any]


def newest_day(config: Config) -> date:
    """The newest day whose lists were ranked.

    Raises:
        UserError: there is none.
    """
    days = [run["dt"] for run in finished_runs(config.get(Paths).runs) if run["model"] == rank.MODEL]
    if not days:
        raise UserError("no lists were ranked yet: run `millrace recsys run --date DAY`")
    return date.fromisoformat(max(days))


def judge(config: Config, day: date, k: int) -> Judgement:
    """Estimate the clicks to expect of every list of a day, without Spark.

    Args:
        config: all settings.
        day: whose lists were ranked.
        k: length of the lists.

    Raises:
        UserError: nothing was ranked for the day, or its log says nothing of what was shown, or has too few clicks.
    """
    stack, order = _stack_of(config, day)
    test, predicted = rank.predict_test(config, day, stack)
    if not len(test.label):
        raise UserError(f"{day} has no test impressions to judge lists by: build its training set again")
    by_log = rank.judge_by_test(config, day, stack, test, predicted)
    shown = by_log.logged_lists(k)
    rows = [_row(LOGGED_LIST, "mean", k, shown, off_policy.estimate(shown)["ips"])]
    for name, slots in _judged_lists(config, day, stack, order, by_log, k).items():
        rows += _rows_of(name, slots, k)
    source = by_log.propensity_source
    _warn(rows, source)
    counts = {"date": str(day), "k": k, "propensities": source, "lists": len(shown.user), "users": rows[0]["users"]}
    return Judgement(
        [{**row, "propensity_source": source} for row in rows], counts | _summary(rows, RIGHT_BY.get(source, "sndr"))
    )


def _summary(rows: Sequence[Mapping[str, Any]], estimator: str) -> dict[str, Any]:
    """Every list's clicks by one estimator, with their intervals, and the lists that the log can't judge."""
    estimates = {
        row["list"]: {name: round(row[name], 4) for name in ("value", "low", "high")}
        for row in rows
        if row["estimator"] in (estimator, "mean") and row["value"] is not None
    }
    unanswered = sorted({row["list"] for row in rows if row["value"] is None})
    return {"estimator": estimator, "estimates": estimates, "unanswered": unanswered}


def write(spark: SparkSession, config: Config, day: date, rows: list[dict[str, Any]]) -> int:
    """Replace the day's partition of ads_off_policy; returns its number of rows."""
    table = ads.off_policy
    frame = spark.createDataFrame([tuple(row[name] for name in table.column_names) for row in rows], table.schema_text)
    return Warehouse(spark, config).write(table, table.with_partition(frame, day), [day], rebalance=False)[day]


def _stack_of(config: Config, day: date) -> tuple[Stack, str]:
    """The stack that the day's lists were ranked by, and the score that ordered the published ones."""
    folder = newest_run(config, rank.MODEL, day)
    if folder is None:
        raise UserError(f"no lists were ranked for {day}: run `millrace recsys run --date {day}`")
    blend = read_json(folder / "model" / BLEND_FILE, "kind", "order", "weights")
    if blend["kind"] != "stack":
        raise UserError(
            f"the log of {day} can't judge lists: it says nothing of what was shown and not clicked, or has too few "
            f"clicks; its lists are measured by `millrace metrics --date {day}`"
        )
    return Stack({name: float(weight) for name, weight in blend["weights"].items()}, float(blend["intercept"])), str(
        blend["order"]
    )


def _judged_lists(config: Config, day: date, stack: Stack, order: str, by_log: ListJudge, k: int) -> dict[str, Slots]:
    """What the log says of every list, by its name: recall's channels, then the scores, then the published one."""
    folder = candidates_folder(config, day)
    items = pd.read_parquet(folder / "items.parquet").set_index("item_id")
    collectors: dict[str, ListCollector] = {}
    for block in score_candidates(config, day, folder / "holdout", "test"):
        for name, ranked in _lists(config, day, block, stack, items, order):
            if name not in collectors:
                collectors[name] = by_log.collector(k)
            collectors[name].add(ranked)
    channels = sorted(name for name in collectors if name.startswith(CHANNEL))
    names = [*channels, *(name for name in collectors if name not in channels)]
    return {name: collectors[name].match() for name in names}


def _lists(
    config: Config, day: date, candidates: pd.DataFrame, stack: Stack, items: pd.DataFrame, order: str
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every list of a block of users: user_id, item_id, rank and attraction (click probability at the first place)."""
    scores = score_names(candidates)
    candidates = candidates.assign(attraction=stack.predict(candidates))
    merged = order_candidates(candidates, MERGED, stack, config.get(CoarseSettings).keep)
    channels = merged["channels"].str.split("+")
    for channel in sorted(set(channels.explode().dropna())):
        # In the order of the merged score: ranks of single channels end with recall.
        own = merged[channels.map(lambda names, channel=channel: channel in names).to_numpy(bool)]
        own = own.sort_values(["user_id", "rank"])
        # A ranker may have the name of a channel, as mf.
        yield f"{CHANNEL}{channel}", own.assign(rank=own.groupby("user_id").cumcount() + 1)[COLUMNS]
    for name, ranked in all_orders(config, candidates, scores, stack).items():
        yield name, ranked[COLUMNS]
    ranked = rank_to_publish(config, candidates, stack, items, day, present_order(order, scores, day))
    # And what each rule of re-ranking costs.
    for name, lists in published_lists(config.get(RecommendSettings), partial(lists_to_publish, ranked, stack)).items():
        yield name, lists.rename(columns={"score": "attraction"})[COLUMNS]


def _rows_of(name: str, slots: Slots, k: int) -> list[dict[str, Any]]:
    """A row for each estimator of a list; without values where the log can't answer."""
    if not has_support(slots):
        return [_row(name, estimator, k, slots, None) for estimator in off_policy.ESTIMATORS]
    estimates = off_policy.estimate(slots, clip=CLIP)
    # Users without a click among the test rows have no held-out list: of the click model alone, the others' mean.
    scale, direct = 1 / _coverage(slots), estimates["direct"]
    estimates["direct"] = Estimate(direct.value * scale, direct.low * scale, direct.high * scale)
    return [_row(name, estimator, k, slots, estimates[estimator]) for estimator in off_policy.ESTIMATORS]


def _row(name: str, estimator: str, k: int, slots: Slots, estimate: Estimate | None) -> dict[str, Any]:
    expected = slots.expected_weight
    return {
        "list": name,
        "estimator": estimator,
        "k": k,
        "value": estimate.value if estimate else None,
        "low": estimate.low if estimate else None,
        "high": estimate.high if estimate else None,
        "lists": len(slots.user),
        "users": len(np.unique(slots.user)),
        "coverage": _coverage(slots),
        "effective_sample_size": off_policy.effective_slots(slots, CLIP),
        "clipped_share": float((slots.weight > CLIP).mean()),
        "mean_weight": float(slots.weight.mean()) / expected if expected > 0 else None,
    }


def _coverage(slots: Slots) -> float:
    """Share of the logged lists whose users have a judged one, of which the click model expects something."""
    return float((slots.direct > 0).mean())


def _warn(rows: Sequence[Mapping[str, Any]], source: str) -> None:
    """One line for the lists that the log can't judge, and one for propensities that can't be right."""
    refused = {row["list"]: row["effective_sample_size"] for row in rows if row["value"] is None}
    if refused:
        sizes = ", ".join(f"{name} ({size:.0f})" for name, size in refused.items())
        log.warning(
            "the log can't judge %s: their effective sample size of lists (least %d) or the clicks on their items are "
            "too few",
            sizes,
            off_policy.MIN_EFFECTIVE_SLOTS,
        )
    wrong = {
        row["list"]: row["mean_weight"]
        for row in rows
        if row["value"] is not None
        and row["mean_weight"] is not None
        and not 1 / FAR_FROM_1 < row["mean_weight"] < FAR_FROM_1
    }
    if wrong:
        means = ", ".join(f"{name} ({mean:.2f})" for name, mean in wrong.items())
        log.warning("weights by %s propensities are not 1 on average: distrust the estimates of %s", source, means)
