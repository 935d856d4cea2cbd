"""The ranking stage: score the day's candidates, blend, measure the held-out lists, make the lists to publish.

`millrace recsys rank --date D`, after recall, coarse and fine.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf import Config, UserError
from conf.atomic import write_atomically
from conf.clock import day_start
from conf.runs import FUNNEL, RANKED_LISTS, RECOMMENDATIONS, UNKNOWN_USER, Run, newest_run, start_run
from conf.versions import describe_version
from features.dataset.names import PROPENSITY
from features.metrics import off_policy
from features.metrics.classification import click_metrics
from features.metrics.ranking import diversity_metrics, ranking_intervals, ranking_metrics
from recsys.blend import stack, weights
from recsys.blend.funnel import funnel_rows
from recsys.blend.judge import CLIP, POSITION, ListJudge, at_first_place
from recsys.blend.prices import lists_without_rules, log_prices
from recsys.blend.rankers import configured_rankers
from recsys.blend.rerank import rerank
from recsys.blend.stack import Stack
from recsys.blend.unknown_user import unknown_user_list
from recsys.blend.weights import BLEND_FILE, MERGED, Blend
from recsys.dataset import (
    HOT_ITEMS,
    Rows,
    candidates_folder,
    concatenate,
    dataset_timezone,
    examples_folder,
    read_rows,
)
from recsys.settings import CoarseSettings, RecommendSettings

log = logging.getLogger(__name__)

MODEL = "recommend"
BLEND = "blend"
ESTIMATOR = "sndr"  # that lists are chosen by
KEYS = ["user_id", "item_id", "channels", "score"]


def run(config: Config, day: date, *, k: int = 10) -> dict[str, Any]:
    """Rank the day's candidates by its newest models; the factorisation and a deep model take part when there are any.

    The stack or blend, the metrics of every k of `recommend.ks`, what the log says of each list, and the lists go to
    the run folder.

    Args:
        config: all settings.
        day: the day; recall, coarse and fine must have run for it.
        k: length of the lists that the blend is fitted for.

    Returns:
        Run id, `<score>_<metric>@k` of the held-out lists (`off_policy_clicks` where the log can tell), what each rule
        of `recommend` costs (see `prices.log_prices`), numbers of users and rows of the lists to publish.

    Raises:
        UserError: the day has no candidates or no coarse or fine model, or `recommend.order` names no score.
    """
    check_order(config)
    settings = config.get(RecommendSettings)
    folder = candidates_folder(config, day)
    items = pd.read_parquet(folder / "items.parquet").set_index("item_id")
    with start_run(config, MODEL, day) as run:
        run.log_dataset(describe_version(folder))
        for ranker in configured_rankers(config).values():
            if ranker.model is not None and (model_run := newest_run(config, ranker.model(config), day)):
                run.log_input_run(model_run.name)
        # The models must not have learned the rows that a set is labelled by: hence a split for each.
        fitted, judge = fit_stack(config, day, run)
        blend = fitted or _fit_blend(config, day, folder / "fit", run, k)
        held_out, scores = score_candidates(config, day, folder / "holdout", "test")
        holdout = all_orders(config, held_out, scores, blend)
        report: dict[str, Any] = {"run_id": run.run_id}
        truth = pd.read_parquet(folder / "positives.parquet")
        report |= _log_list_metrics(holdout, items, truth, settings.ks, run, k)
        order = settings.order
        if fitted and judge:
            best, estimates = judge_lists(holdout, fitted, judge, run, k)
            report |= estimates
            order = best if order == BLEND else order
        kind = "stack" if isinstance(blend, Stack) else "blend"
        text = json.dumps({"kind": kind, "order": order, **vars(blend)}, indent=2)
        write_atomically(run.model_folder / BLEND_FILE, text)
        make_held_out = partial(served_lists, config, held_out, blend, items, day, order)
        report |= log_prices(settings, make_held_out, truth, judge, run, k)
        if (folder / "serve").exists():
            report |= _publish_lists(config, day, folder, blend, items, order, run)
            ranked = holdout.get(order, holdout[BLEND])
            _write_funnel(run, truth, held_out, ranked, make_held_out(settings), settings.length)
    return report


def _publish_lists(
    config: Config, day: date, folder: Path, blend: Stack | Blend, items: pd.DataFrame, order: str, run: Run
) -> dict[str, int]:
    """Write the lists to publish, the first ranks of all that may be judged, and the list of unknown users."""
    settings = config.get(RecommendSettings)
    candidates, scores = score_candidates(config, day, folder / "serve", "serve")
    make = partial(served_lists, config, candidates, blend, items, day, order)
    lists = make(settings)
    lists.to_parquet(run.folder / RECOMMENDATIONS, index=False)
    shown = {**all_orders(config, candidates, scores, blend), "published": lists, **lists_without_rules(settings, make)}
    first_ranks(shown, settings.length).to_parquet(run.folder / RANKED_LISTS, index=False)
    if (folder / HOT_ITEMS).exists():  # candidates of an older version have none
        hot = pd.read_parquet(folder / HOT_ITEMS)
        hot = unknown_user_list(hot[~hot["item_id"].isin(settings.exclude_items)], settings.length)
        hot.to_parquet(run.folder / UNKNOWN_USER, index=False)
    return {"users": int(lists["user_id"].nunique()), "rows_out": len(lists)}


def score_candidates(config: Config, day: date, folder: Path, split: str) -> tuple[pd.DataFrame, list[str]]:
    """Score a set of candidates by recall and by every ranker that was trained for the day.

    Args:
        config: all settings.
        day: the day of the models.
        folder: the set.
        split: what its lists are compared with; see `Ranker`.

    Returns:
        user_id, item_id, channels, label and one column per score; and the names of the scores.

    Raises:
        UserError: the coarse or the fine ranker was not trained for the day.
    """
    rankers = configured_rankers(config)
    columns = [column for ranker in rankers.values() for column in ranker.columns(config)]
    rows = read_rows(folder, [*KEYS, *columns])
    candidates = pd.DataFrame({name: rows.keys[name] for name in KEYS}).rename(columns={"score": MERGED})
    candidates["label"] = rows.label
    scores = [MERGED]
    for name, ranker in rankers.items():
        probabilities = ranker.predict(config, day, rows, split)
        if probabilities is not None:
            candidates[name] = probabilities
            scores.append(name)
    return candidates, scores


def fit_stack(config: Config, day: date, run: Run) -> tuple[Stack | None, ListJudge | None]:
    """Fit the stack of the rankers on the validation impressions, and log its metrics on the test impressions.

    Returns:
        The stack, and a judge of lists by the test impressions; None where nothing was shown (negatives were sampled),
        or clicked too rarely.

    Raises:
        UserError: there is no training set for the day, or the coarse or the fine ranker was not trained for it.
    """
    folder = examples_folder(config, day)
    columns = {column for ranker in configured_rankers(config).values() for column in ranker.columns(config)}
    keys = ["user_id", "item_id", "at_s", *sorted(columns)]
    valid = read_rows(folder / "valid", keys)
    if not valid.sparse[:, POSITION].any():
        return None, None
    predictions = _predictions(config, day, valid, "valid")
    fitted = stack.fit(predictions, valid.label, valid.keys["user_id"].factorize()[0])
    if not fitted:
        return None, None
    _log_weights(run, fitted, len(valid.label))
    test, predicted = predict_test(config, day, fitted)
    if not len(test.label):
        return fitted, None
    for name, value in click_metrics(test.label, predicted, test.keys["user_id"]).items():
        run.log_metric("evaluate", "test", name, value, len(test.label), model=BLEND)
    return fitted, judge_by_test(config, day, fitted, test, predicted)


def predict_test(config: Config, day: date, fitted: Stack) -> tuple[Rows, NDArray[np.float64]]:
    """The day's test impressions, with the propensities that the site logged, and (rows,) what the stack predicts."""
    columns = {column for ranker in configured_rankers(config).values() for column in ranker.columns(config)}
    keys = ["user_id", "item_id", "at_s", *sorted(columns)]
    test = read_rows(examples_folder(config, day) / "test", keys, optional=(PROPENSITY,))
    return test, fitted.predict(_predictions(config, day, test, "test")) if len(test.label) else np.zeros(0)


def judge_by_test(config: Config, day: date, fitted: Stack, test: Rows, predicted: NDArray[np.float64]) -> ListJudge:
    """A judge of lists by the impressions of `predict_test`."""
    folder = examples_folder(config, day)
    attraction = fitted.predict(_predictions(config, day, at_first_place(test), "test"))
    earlier = [read_rows(folder / split, ["user_id"]) for split in ("valid", "train")]
    # The weights of a sampled training set, which only one of them may have, play no part.
    users = [replace(rows, keys={"user_id": rows.keys["user_id"]}) for rows in earlier]
    propensity = test.keys.get(PROPENSITY)
    logged = None if propensity is None else propensity.to_numpy(np.float64)
    return ListJudge(test, concatenate(*users), predicted, attraction, logged)


def _write_funnel(
    run: Run,
    truth: pd.DataFrame,
    candidates: pd.DataFrame,
    ranked: pd.DataFrame,
    published: pd.DataFrame,
    length: int,
) -> None:
    """Write the rows of ads_recall_funnel, as `funnel_rows` makes them."""
    rows = funnel_rows(truth, candidates, ranked, published, length)
    write_atomically(run.folder / FUNNEL, "".join(f"{json.dumps(row)}\n" for row in rows))


def _fit_blend(config: Config, day: date, folder: Path, run: Run, k: int) -> Blend:
    """Fit the blend on labelled candidates: what there is without impressions."""
    candidates, scores = score_candidates(config, day, folder, "valid")
    blend = weights.fit(candidates, scores, k)
    _log_weights(run, blend, len(candidates))
    return blend


def _log_weights(run: Run, blend: Stack | Blend, rows: int) -> None:
    for name, value in blend.weights.items():
        run.log_metric("evaluate", "valid", "weight", value, rows, model=name)


def _predictions(config: Config, day: date, rows: Rows, split: str) -> dict[str, NDArray[np.float64]]:
    """What each trained ranker predicts of rows of a split that it has not learned from."""
    predictions = {
        name: ranker.predict(config, day, rows, split) for name, ranker in configured_rankers(config).items()
    }
    return {name: np.asarray(values, np.float64) for name, values in predictions.items() if values is not None}


def judge_lists(
    lists: dict[str, pd.DataFrame], fitted: Stack, judge: ListJudge, run: Run, k: int
) -> tuple[str, dict[str, float]]:
    """Log the clicks to expect of the lists by each score, and choose the score to publish by.

    The stack, unless a single score is better by an interval above 0: then the day's line says so.

    Args:
        lists: of `all_orders`.
        fitted: whose probability at the first place is an item's attraction.
        judge: of the test impressions.
        run: of the day.
        k: length of the lists that are judged.

    Returns:
        The score, and `<score>_off_policy_clicks@k`.
    """
    report: dict[str, float] = {}
    slots = {}
    for score, ranked in lists.items():
        ranked = ranked[ranked["rank"] <= k]
        if judged := judge.slots(ranked.assign(attraction=fitted.predict(ranked)), k):
            slots[score] = judged
            estimates = off_policy.estimate(judged, clip=CLIP)
            for name, estimate in estimates.items():
                for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                    metric = f"off_policy_{name}{suffix}"
                    run.log_metric("evaluate", "holdout", metric, value, len(judged.user), k=k, model=score)
            report[f"{score}_off_policy_clicks@{k}"] = estimates[ESTIMATOR].value
    if BLEND not in slots:
        return BLEND, report
    gains = {
        score: off_policy.difference(judged, slots[BLEND], clip=CLIP)[ESTIMATOR]
        for score, judged in slots.items()
        if score != BLEND
    }
    better = {score: gain for score, gain in gains.items() if gain.low > 0}
    if not better:
        return BLEND, report
    best = max(better, key=lambda score: better[score].value)
    log.warning(
        "rank: lists by %s earn %.2f to %.2f clicks more than those of the stack: they are published",
        best,
        better[best].low,
        better[best].high,
    )
    return best, report


def all_orders(
    config: Config, candidates: pd.DataFrame, scores: list[str], blend: Stack | Blend
) -> dict[str, pd.DataFrame]:
    """The candidates as `order_candidates` ranks them by each score, and last by the blend."""
    keep = config.get(CoarseSettings).keep
    return {name: order_candidates(candidates, name, blend, keep) for name in [*scores, BLEND]}


def first_ranks(lists: dict[str, pd.DataFrame], length: int) -> pd.DataFrame:
    """The first ranks of each list: list (its name), user_id, rank and item_id.

    For `features oracle` and other judges of lists, which need no model then.
    """
    parts = [
        ranked.loc[ranked["rank"] <= length, ["user_id", "rank", "item_id"]].assign(list=name)
        for name, ranked in lists.items()
    ]
    return pd.concat(parts, ignore_index=True)[["list", "user_id", "rank", "item_id"]]


def order_candidates(candidates: pd.DataFrame, score: str, blend: Stack | Blend, keep: int) -> pd.DataFrame:
    """Rank each user's candidates by one score.

    Rankers after coarse get only the union of the `keep` best by coarse and by recall: a ranker that was trained on
    what was shown knows little about items that never were.

    Args:
        candidates: of `score_candidates`.
        score: one of its scores, or "blend".
        blend: weights, for "blend".
        keep: candidates per user, `coarse.keep`.

    Returns:
        The candidates with `order` (the score) and `rank` (from 1).
    """
    if score not in (MERGED, "coarse"):
        coarse_rank = _rank_within_users(candidates, candidates["coarse"])
        recall_rank = _rank_within_users(candidates, candidates[MERGED])
        candidates = candidates[np.minimum(coarse_rank, recall_rank) <= keep]
    order = blend.predict(candidates) if score == BLEND else candidates[score].to_numpy(np.float64)
    return candidates.assign(order=order, rank=_rank_within_users(candidates, pd.Series(order, index=candidates.index)))


def served_lists(
    config: Config,
    candidates: pd.DataFrame,
    blend: Stack | Blend,
    items: pd.DataFrame,
    day: date,
    order: str,
    settings: RecommendSettings | None = None,
) -> pd.DataFrame:
    """Make the lists to publish: ranked by one score, then re-ranked by the rules of `recommend`.

    Args:
        config: all settings.
        candidates: of `score_candidates`, for the set `serve`.
        blend: weights of the scores.
        items: category, author and published_at (UTC), by item_id.
        day: the day; freshness counts to its end by the clocks of its training set.
        order: the score that orders them, `recommend.order` or what `judge_lists` found better.
        settings: other rules than those of `recommend`.

    Returns:
        user_id, rank, item_id, score (the FM's click probability, which is comparable between users; ranks follow the
        blend and the re-ranking, so it does not fall with them) and channels.
    """
    settings = settings or config.get(RecommendSettings)
    score = order
    if score != BLEND and score not in candidates:
        log.warning("recommend.order=%s: no such model was trained for %s: lists follow the blend", score, day)
        score = BLEND
    ranked = order_candidates(candidates, score, blend, config.get(CoarseSettings).keep)
    # Parquet's timestamps come without a time zone, in UTC.
    end_of_day = day_start(day + timedelta(days=1), dataset_timezone(config, day)).replace(tzinfo=None)
    age = end_of_day - pd.to_datetime(ranked["item_id"].map(items["published_at"]))
    ranked = ranked.assign(
        category=ranked["item_id"].map(items["category"]),
        # Candidates of an older version have no authors.
        author=ranked["item_id"].map(items["author"]) if "author" in items else None,
        is_fresh=(age <= pd.Timedelta(days=settings.fresh_days)).to_numpy(),
    )
    lists = rerank(ranked, settings)
    # The stack's probability, or the FM's where there is none; both are comparable between users.
    probability = blend.predict(lists) if isinstance(blend, Stack) else lists["fine"]
    table = lists.assign(score=probability.astype(float), rank=lists["rank"].astype("int32"))
    return table[["user_id", "rank", "item_id", "score", "channels"]]


def check_order(config: Config) -> None:
    """Refuse a `recommend.order` that names no score, before minutes are spent on recall and training.

    Raises:
        UserError: the message lists the names to choose from.
    """
    order, names = config.get(RecommendSettings).order, [BLEND, MERGED, *configured_rankers(config)]
    if order not in names:
        raise UserError(f"unknown score '{order}' in recommend.order; choose from {', '.join(names)}")


def _log_list_metrics(
    lists: dict[str, pd.DataFrame], items: pd.DataFrame, truth: pd.DataFrame, ks: Sequence[int], run: Run, k: int
) -> dict[str, float]:
    """Log metrics of the held-out lists by each score and by the blend; returns those at k."""
    users = truth["user_id"].nunique()
    popularity, category = items["popularity"].to_dict(), items["category"].to_dict()
    metrics: dict[str, float] = {}
    for score, ranked in lists.items():
        for (metric, at), value in ranking_metrics(ranked, truth, ks).items():
            run.log_metric("evaluate", "holdout", metric, value, users, k=at, model=score)
            if at == k:
                metrics[f"{score}_{metric}@{at}"] = value
        for metric, value in diversity_metrics(ranked, k, popularity, category).items():
            run.log_metric("evaluate", "holdout", metric, value, users, k=k, model=score)
    # Intervals of the blend's lists only: a bootstrap is slow.
    for metric, (low, high) in ranking_intervals(lists[BLEND], truth, k).items():
        run.log_metric("evaluate", "holdout", f"{metric}_low", low, users, k=k, model=BLEND)
        run.log_metric("evaluate", "holdout", f"{metric}_high", high, users, k=k, model=BLEND)
    return metrics


def _rank_within_users(candidates: pd.DataFrame, score: "pd.Series[float]") -> "pd.Series[int]":
    """Ranks from 1 within each user, best first, ties by item."""
    # Codes, since sorting the ids themselves takes several times as long.
    user, item = candidates["user_id"].factorize()[0], candidates["item_id"].factorize(sort=True)[0]
    order = np.lexsort((item, -score.to_numpy(), user))  # the last key sorts first: user, then score, then item
    sizes = np.bincount(user)
    ranks = np.empty(len(user), np.int64)
    ranks[order] = np.arange(1, len(user) + 1) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return pd.Series(ranks, index=candidates.index)
