"""Rank the candidates of a day: recall -> coarse -> fine and deep -> blend -> re-rank; measure the held-out lists."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf import Config, UserError
from conf.atomic import write_atomically
from conf.plugins import import_object
from conf.runs import RECOMMENDATIONS, Run, newest_run, start_run
from conf.versions import describe_version
from features.metrics.ranking import diversity_metrics, ranking_intervals, ranking_metrics
from recsys.blend import blend
from recsys.blend.blend import Blend
from recsys.blend.rerank import rerank
from recsys.coarse import train as coarse
from recsys.dataset import Rows, candidates_folder, read_rows, statistics_of
from recsys.fine import deep
from recsys.fine import train as fine
from recsys.settings import CoarseSettings, RecommendSettings

MODEL = "recommend"
KEYS = ["user_id", "item_id", "channels", "score"]
KNOWN = (*KEYS, "label")  # columns of candidates that are no scores


def run(config: Config, day: date, *, at: int = 10) -> dict[str, Any]:
    """Rank with the newest models of the day; needs recall, coarse and fine; a deep model takes part when there is one.

    Returns the numbers of lists of length `at`; all lengths go to the run folder.
    """
    folder = candidates_folder(config, day)
    items = pd.read_parquet(folder / "items.parquet").set_index("item_id")
    with start_run(config, MODEL, day) as run:
        run.log_dataset(describe_version(folder))
        for model in (coarse.MODEL, fine.MODEL, config.get(RecommendSettings).deep):
            if used := newest_run(config, model, day):
                run.log_input_run(used.name)
        to_learn_from = scored(config, day, folder / "fit", "valid")
        steps = [name for name in to_learn_from if name not in KNOWN]
        weights = blend.fit(to_learn_from, steps, at)
        write_atomically(run.model_folder / "blend.json", json.dumps(weights.weights, indent=2))
        for name, value in weights.weights.items():
            run.log_metric("evaluate", "valid", "weight", value, len(to_learn_from), model=name)
        report: dict[str, Any] = {"run_id": run.run_id}
        report |= _measure(config, scored(config, day, folder / "holdout", "test"), weights, items, folder, run, at)
        if (folder / "serve").exists():
            lists = served(config, scored(config, day, folder / "serve", "serve"), weights, items, day)
            lists.to_parquet(run.folder / RECOMMENDATIONS, index=False)
            report |= {"users": int(lists["user_id"].nunique()), "rows_out": len(lists)}
    return report


def scored(config: Config, day: date, folder: Path, state: str) -> pd.DataFrame:
    """Candidates with the score of each ranker (merged, coarse, fine, a deep one, the user's own) and `label`.

    `state` is that of the fine model: one that has not learned what it is to be measured by.
    """
    rows = read_rows(folder, [*KEYS, *deep.lists(config)])
    frame = pd.DataFrame({name: rows.keys[name] for name in KEYS}).rename(columns={"score": "merged"})
    fitted = fine.load(_run_of(config, fine.MODEL, day), statistics_of(config, day), state)
    frame = frame.assign(
        coarse=coarse.load(_run_of(config, coarse.MODEL, day)).predict(rows),
        fine=fitted.predict(rows),
        label=rows.label,
    )
    deep_scores = deep.predict(config, config.get(RecommendSettings).deep, day, rows)
    if deep_scores is not None:
        frame["deep"] = deep_scores
    for name in config.get(RecommendSettings).rankers:
        frame[name] = _ranker(name)(config, day, rows)
    return frame


def _ranker(name: str) -> Callable[[Config, date, Rows], NDArray[np.floating]]:
    """A user's own: `score(config, day, rows)` -> (n,) chances of a click, from what was known before `rows`."""
    ranker: Callable[[Config, date, Rows], NDArray[np.floating]] = import_object(
        name, "the ranker of recommend.rankers"
    )
    return ranker


def ordered(candidates: pd.DataFrame, step: str, weights: Blend, keep: int) -> pd.DataFrame:
    """`candidates` with `order` and `rank` (from 1) for each user by `step`.

    Rankers after coarse get the `keep` best of coarse and merged together: a ranker that learned from what was shown
    knows little about what never was.
    """
    if step not in ("merged", "coarse"):
        passed = np.minimum(_rank(candidates, candidates["coarse"]), _rank(candidates, candidates["merged"])) <= keep
        candidates = candidates[passed]
    order = weights.score(candidates) if step == "blend" else candidates[step].to_numpy(np.float64)
    return candidates.assign(order=order, rank=_rank(candidates, pd.Series(order, index=candidates.index)))


def served(config: Config, candidates: pd.DataFrame, weights: Blend, items: pd.DataFrame, day: date) -> pd.DataFrame:
    """The lists to publish: user_id, rank, item_id, score (chance of a click), channels."""
    settings = config.get(RecommendSettings)
    step = settings.order if settings.order == "blend" or settings.order in candidates else "blend"
    ranked = ordered(candidates, step, weights, config.get(CoarseSettings).keep)
    tomorrow = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC).replace(tzinfo=None)
    age = tomorrow - pd.to_datetime(ranked["item_id"].map(items["published_at"]))
    ranked = ranked.assign(
        category=ranked["item_id"].map(items["category"]),
        is_fresh=(age <= pd.Timedelta(days=settings.fresh_days)).to_numpy(),
    )
    lists = rerank(ranked, settings)
    table = lists.assign(score=lists["fine"].astype(float), rank=lists["rank"].astype("int32"))
    return table[["user_id", "rank", "item_id", "score", "channels"]]


def _measure(
    config: Config, candidates: pd.DataFrame, weights: Blend, items: pd.DataFrame, folder: Path, run: Run, at: int
) -> dict[str, float]:
    """Quality of the held-out lists after each step, the last one with intervals, coverage, diversity and novelty."""
    settings = config.get(RecommendSettings)
    truth = pd.read_parquet(folder / "positives.parquet")
    users = truth["user_id"].nunique()
    popularity, category = items["popularity"].to_dict(), items["category"].to_dict()
    metrics: dict[str, float] = {}
    for step in [*weights.weights, "blend"]:
        ranked = ordered(candidates, step, weights, config.get(CoarseSettings).keep)
        for (metric, k), value in ranking_metrics(ranked, truth, settings.ks).items():
            run.log_metric("evaluate", "holdout", metric, value, users, k=k, model=step)
            if k == at:
                metrics[f"{step}_{metric}@{k}"] = value
        for metric, value in diversity_metrics(ranked, at, popularity, category).items():
            run.log_metric("evaluate", "holdout", metric, value, users, k=at, model=step)
    for metric, (low, high) in ranking_intervals(ranked, truth, at).items():
        run.log_metric("evaluate", "holdout", f"{metric}_low", low, users, k=at, model="blend")
        run.log_metric("evaluate", "holdout", f"{metric}_high", high, users, k=at, model="blend")
    return metrics


def _rank(candidates: pd.DataFrame, score: "pd.Series[float]") -> "pd.Series[int]":
    """Places within each user, best first, ties by item."""
    order = np.lexsort((candidates["item_id"], -score.to_numpy(), candidates["user_id"]))
    users = candidates["user_id"].to_numpy()[order]
    place = pd.Series(1, index=range(len(users))).groupby(users).cumsum().to_numpy()
    ranks = np.empty(len(users), np.int64)
    ranks[order] = place
    return pd.Series(ranks, index=candidates.index)


def _run_of(config: Config, model: str, day: date) -> Path:
    folder = newest_run(config, model, day)
    if folder is None:
        raise UserError(f"no {model} was trained for {day}: run `millrace recsys run --date {day}`")
    return folder
