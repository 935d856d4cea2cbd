"""Rank the candidates of a day: recall -> coarse -> fine -> list; measure the held-out lists, leave those to serve."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conf import Config, UserError
from conf.runs import Run, newest_run, start_run
from recsys import coarse
from recsys.dataset import candidates_folder, read_rows
from recsys.fine import train as fine
from recsys.lists import measure_lists
from recsys.settings import CoarseSettings, RecommendSettings

MODEL = "recommend"
KEYS = ["user_id", "item_id", "channels", "score"]


def run(config: Config, day: date, *, at: int = 10) -> dict[str, Any]:
    """Rank with the newest coarse and fine models of the day; needs recall, coarse and fine.

    Returns the numbers of lists of length `at`; all lengths go to the run folder.
    """
    folder = candidates_folder(config, day)
    settings = config.get(RecommendSettings)
    with start_run(config, MODEL, day) as found:
        told: dict[str, Any] = {"run_id": found.run_id}
        told |= _measure(config, day, folder, found, at)
        lists = ordered(scored(config, day, folder / "serve"), settings.order, config.get(CoarseSettings).keep)
        lists = lists[lists["rank"] <= settings.length]
        table = lists.assign(score=lists["fine"].astype(float), rank=lists["rank"].astype("int32"))
        table[["user_id", "rank", "item_id", "score", "channels"]].to_parquet(found.recommendations, index=False)
        told |= {"users": int(lists["user_id"].nunique()), "rows_out": len(lists)}
    return told


def _measure(config: Config, day: date, folder: Path, found: Run, at: int) -> dict[str, float]:
    """Recall, nDCG and MAP of the held-out lists after each step."""
    settings = config.get(RecommendSettings)
    truth = pd.read_parquet(folder / "positives.parquet")
    candidates = scored(config, day, folder / "holdout")
    told: dict[str, float] = {}
    for step in ("merged", "coarse", "fine", "blend"):
        ranked = ordered(candidates, step, config.get(CoarseSettings).keep)
        for (metric, k), value in measure_lists(ranked, truth, settings.ks).items():
            found.metric("evaluate", "holdout", metric, value, truth["user_id"].nunique(), k=k, model=step)
            if k == at:
                told[f"{step}_{metric}@{k}"] = value
    return told


def scored(config: Config, day: date, folder: Path) -> pd.DataFrame:
    """Candidates with the score of each step: merged, coarse, fine."""
    rows = read_rows(folder, KEYS)
    booster = coarse.load(_run_of(config, coarse.MODEL, day))
    model, encoder = fine.load(_run_of(config, fine.MODEL, day))
    frame = pd.DataFrame(rows.keys).rename(columns={"score": "merged"})
    return frame.assign(coarse=coarse.predict(booster, rows), fine=model.predict(*encoder.encode(rows)))


def ordered(candidates: pd.DataFrame, step: str, keep: int) -> pd.DataFrame:
    """`candidates` with `rank` (from 1) for each user by `step`; fine ranks only the `keep` best of coarse."""
    if step == "fine":
        passed = _rank(candidates, candidates["coarse"]) <= keep
        candidates = candidates[passed]
    if step == "blend":
        ranks = [_rank(candidates, candidates[name]) for name in ("merged", "coarse", "fine")]
        score = sum(1 / (60 + rank) for rank in ranks)
    else:
        score = candidates[step]
    return candidates.assign(rank=_rank(candidates, pd.Series(score, index=candidates.index)))


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
