"""The ranking stage: score the day's candidates, blend, measure the held-out lists, make the lists to publish.

`millrace recsys rank --date D`, after recall, coarse and fine.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.runs import FUNNEL, RANKED_LISTS, RECOMMENDATIONS, UNKNOWN_USER, Run, newest_run, start_run
from conf.versions import describe_version
from features.dataset.names import PROPENSITY
from features.metrics import off_policy
from features.metrics.classification import click_metrics
from features.metrics.off_policy import Slots
from features.settings import FeatureSettings
from recsys.blend import reliability, stack, weights
from recsys.blend.incumbent import IncumbentComparison, incumbent_run
from recsys.blend.judge import CLIP, POSITION, ListJudge, at_first_place, judge_after
from recsys.blend.lists import BLEND, all_orders, first_ranks, lists_to_publish, present_order, rank_to_publish
from recsys.blend.measure import HoldoutMeasures, hits_of
from recsys.blend.prices import PUBLISHED, RulePrices, published_lists
from recsys.blend.rankers import configured_rankers, load_rankers, ranker_columns
from recsys.blend.scoring import BlockFile, predict_all, score_candidates, score_names
from recsys.blend.stack import Stack
from recsys.blend.unknown_user import unknown_user_list
from recsys.blend.weights import BLEND_FILE, MERGED, Blend
from recsys.dataset import HOT_ITEMS, Rows, candidates_folder, examples_folder, read_rows
from recsys.settings import RecommendSettings

log = logging.getLogger(__name__)

MODEL = "recommend"
ESTIMATOR = "sndr"  # that lists are chosen by
RankBlock = Callable[[pd.DataFrame], pd.DataFrame]


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
        of `recommend` costs (see `prices.RulePrices`), numbers of users and rows of the lists to publish.

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
        report: dict[str, Any] = {"run_id": run.run_id}
        truth = pd.read_parquet(folder / "positives.parquet")
        measures = HoldoutMeasures(items, truth, k, fitted, judge)
        with TemporaryDirectory(dir=run.folder, prefix="scores-") as scratch:
            held_out = BlockFile(Path(scratch) / "holdout.parquet")
            _measure_lists(config, day, folder / "holdout", blend, measures, held_out)
            report |= measures.log_metrics(settings.ks, run)
            order = present_order(settings.order, measures.scores(), day)
            if fitted and judge:
                best, estimates = judge_lists(measures.slots(), run, k)
                report |= estimates
                order = best if order == BLEND else order
            _write_blend(run, blend, order)
            rank_block = partial(rank_to_publish, config, blend=blend, items=items, day=day, order=order)
            prices, published = RulePrices(settings, judge, k), []
            incumbent = incumbent_run(config.get(Paths).runs, day, config.get(FeatureSettings).test_days)
            comparison = IncumbentComparison(incumbent, judge, k) if incumbent and judge else None
            for block in held_out.blocks():
                lists = published_lists(settings, partial(lists_to_publish, rank_block(block), blend))
                lists = {name: measures.mark_positives(ranked) for name, ranked in lists.items()}
                prices.add(lists)
                published.append(hits_of(lists[PUBLISHED]))
                if comparison:
                    comparison.add(lists[PUBLISHED])
            if comparison:
                comparison.write(run)
            report |= prices.log_metrics(truth, run)
            if (folder / "serve").exists():
                report |= _write_lists(config, day, folder, blend, rank_block, run)
                rows = measures.funnel(order, pd.concat(published), settings.length)
                write_atomically(run.folder / FUNNEL, "".join(f"{json.dumps(row)}\n" for row in rows))
    return report


def _measure_lists(
    config: Config, day: date, folder: Path, blend: Stack | Blend, measures: HoldoutMeasures, scored: BlockFile
) -> None:
    """Measure the lists of the held-out users by each score; their scores are written to a file for later steps."""
    with scored:
        for candidates in score_candidates(config, day, folder, "test"):
            block = measures.mark_positives(candidates)
            measures.add(block, all_orders(config, block, score_names(block), blend))
            scored.append(block)


def _write_blend(run: Run, blend: Stack | Blend, order: str) -> None:
    kind = "stack" if isinstance(blend, Stack) else "blend"
    write_atomically(run.model_folder / BLEND_FILE, json.dumps({"kind": kind, "order": order, **vars(blend)}, indent=2))


def _write_lists(
    config: Config,
    day: date,
    folder: Path,
    blend: Stack | Blend,
    rank_block: Callable[[pd.DataFrame], pd.DataFrame],
    run: Run,
) -> dict[str, int]:
    """Write the lists to publish, the first ranks of every list, and the list of unknown users.

    Args:
        config: all settings.
        day: the day.
        folder: the day's candidates.
        blend: that orders them.
        rank_block: `rank_to_publish` of a block of candidates.
        run: of the day.

    Returns:
        Numbers of users and rows of the lists to publish.
    """
    settings, users, rows = config.get(RecommendSettings), 0, 0
    with BlockFile(run.folder / RECOMMENDATIONS) as published, BlockFile(run.folder / RANKED_LISTS) as shown:
        for block in score_candidates(config, day, folder / "serve", "serve"):
            lists = published_lists(settings, partial(lists_to_publish, rank_block(block), blend))
            published.append(lists[PUBLISHED])
            orders = all_orders(config, block, score_names(block), blend)
            shown.append(first_ranks({**orders, **lists}, settings.length))
            users, rows = users + lists[PUBLISHED]["user_id"].nunique(), rows + len(lists[PUBLISHED])
    if (folder / HOT_ITEMS).exists():  # candidates of an older version have none
        hot = pd.read_parquet(folder / HOT_ITEMS)
        hot = unknown_user_list(hot[~hot["item_id"].isin(settings.exclude_items)], settings.length)
        hot.to_parquet(run.folder / UNKNOWN_USER, index=False)
    return {"users": users, "rows_out": rows}


def fit_stack(config: Config, day: date, run: Run) -> tuple[Stack | None, ListJudge | None]:
    """Fit the stack of the rankers on the validation impressions, and log its metrics on the test impressions.

    Returns:
        The stack, and a judge of lists by the test impressions; None where nothing was shown (negatives were sampled),
        or clicked too rarely.

    Raises:
        UserError: there is no training set for the day, or the coarse or the fine ranker was not trained for it.
    """
    folder = examples_folder(config, day)
    keys = ["user_id", "item_id", "at_s", *ranker_columns(config)]
    valid = read_rows(folder / "valid", keys)
    if not valid.sparse[:, POSITION].any():
        return None, None
    predictions = predict_all(load_rankers(config, day, "valid"), valid)
    fitted = stack.fit(predictions, valid.label, valid.keys["user_id"].factorize()[0])
    if not fitted:
        return None, None
    _log_weights(run, fitted, len(valid.label))
    test, predicted = predict_test(config, day, fitted)
    if not len(test.label):
        return fitted, None
    for name, value in click_metrics(test.label, predicted, test.keys["user_id"]).items():
        run.log_metric("evaluate", "test", name, value, len(test.label), model=BLEND)
    is_sampled = config.get(FeatureSettings).balance in ("under_sample", "over_sample")
    groups = reliability.buckets(test, reliability.exposures(folder, test, is_sampled=is_sampled))
    reliability.log_reliability(run, BLEND, test.label, predicted, groups)
    return fitted, judge_by_test(config, day, fitted, test, predicted)


def predict_test(config: Config, day: date, fitted: Stack) -> tuple[Rows, NDArray[np.float64]]:
    """The day's test impressions, with the propensities that the site logged, and (rows,) what the stack predicts."""
    keys = ["user_id", "item_id", "at_s", *ranker_columns(config)]
    test = read_rows(examples_folder(config, day) / "test", keys, optional=(PROPENSITY,))
    if not len(test.label):
        return test, np.zeros(0)
    return test, fitted.predict(predict_all(load_rankers(config, day, "test"), test))


def judge_by_test(config: Config, day: date, fitted: Stack, test: Rows, predicted: NDArray[np.float64]) -> ListJudge:
    """A judge of lists by the impressions of `predict_test`."""
    attraction = fitted.predict(predict_all(load_rankers(config, day, "test"), at_first_place(test)))
    return judge_after(examples_folder(config, day), ("valid", "train"), test, predicted, attraction)


def _fit_blend(config: Config, day: date, folder: Path, run: Run, k: int) -> Blend:
    """Fit the blend on labelled candidates: what there is without impressions."""
    blocks = [block.drop(columns=["item_id", "channels"]) for block in score_candidates(config, day, folder, "valid")]
    candidates = pd.concat(blocks, ignore_index=True)
    blend = weights.fit(candidates, score_names(candidates), k)
    _log_weights(run, blend, len(candidates))
    return blend


def _log_weights(run: Run, blend: Stack | Blend, rows: int) -> None:
    for name, value in blend.weights.items():
        run.log_metric("evaluate", "valid", "weight", value, rows, model=name)


def judge_lists(slots: Mapping[str, Slots], run: Run, k: int) -> tuple[str, dict[str, float]]:
    """Log the clicks to expect of the lists by each score, and choose the score to publish by.

    The stack, unless a single score is better by an interval above 0: then the day's line says so.

    Args:
        slots: of the lists by each score that the log can judge.
        run: of the day.
        k: length of the lists that are judged.

    Returns:
        The score, and `<score>_off_policy_clicks@k`.
    """
    report: dict[str, float] = {}
    for score, judged in slots.items():
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


def check_order(config: Config) -> None:
    """Refuse a `recommend.order` that names no score, before minutes are spent on recall and training.

    Raises:
        UserError: the message lists the names to choose from.
    """
    order, names = config.get(RecommendSettings).order, [BLEND, MERGED, *configured_rankers(config)]
    if order not in names:
        raise UserError(f"unknown score '{order}' in recommend.order; choose from {', '.join(names)}")
