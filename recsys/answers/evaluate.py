"""How well answers are ranked for questions that nothing was fitted on: split by question, several seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from features.metrics.bootstrap import bootstrap_means, percentile_interval
from recsys.answers.channels import fit_channels
from recsys.answers.faq import Faq
from recsys.answers.ranker import fit_blend, score_blocks
from recsys.answers.settings import AnswersSettings

BLEND = "answers"  # the weighted sum, beside the channels
METRICS = ("top_1", "top_3", "mrr")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Ranks of the right answers of held-out questions, over all splits."""

    question: NDArray[np.int64]
    """(held out,) numbers of the questions; one may be held out in several splits."""
    ranks: dict[str, Floats]
    """Channel, or BLEND -> (held out,) rank of the right answer among all answers of the FAQ, from 1; a tie's mean."""
    new_ranks: dict[str, Floats]
    """The same among the answers that no question of the training part has: nothing is remembered of these."""
    weights: dict[str, float]
    """Channel -> its weight, mean over the splits."""


def hold_out(faq: Faq, settings: AnswersSettings) -> HeldOut:
    """Split the questions, fit channels and blend on one part, and rank the answers of the other, for each seed.

    Raises:
        UserError: too few questions are left for the folds.
    """
    rows, ranks, new_ranks, weights = [], [], [], []
    for seed in settings.seeds:
        order = np.random.default_rng(seed).permutation(len(faq.questions))
        number = max(1, round(settings.held_out * len(order)))
        if len(order) - number < settings.folds:
            raise UserError(
                f"{len(order)} questions, {number} of them held out (answers.held_out), are too few for "
                f"{settings.folds} folds (answers.folds): give more questions, or hold out fewer"
            )
        held_out, training = np.sort(order[:number]), faq.with_questions(np.sort(order[number:]))
        seeded = settings.model_copy(update={"seeds": (seed,)})
        blend = fit_blend(training, seeded, seed)
        of_all, of_new = _ranks(faq, training, held_out, seeded, blend)
        rows.append(held_out)
        ranks.append(of_all)
        new_ranks.append(of_new)
        weights.append(blend)
    return HeldOut(
        np.concatenate(rows),
        {name: np.concatenate([part[name] for part in ranks]) for name in ranks[0]},
        {name: np.concatenate([part[name] for part in new_ranks]) for name in new_ranks[0]},
        {name: float(np.mean([part[name] for part in weights])) for name in settings.channels},
    )


def _ranks(
    faq: Faq, training: Faq, held_out: NDArray[np.int64], settings: AnswersSettings, blend: Mapping[str, float]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Of each channel and the blend; ranks among the new answers are NaN where the right one is not among these."""
    is_new = ~np.isin(np.arange(len(faq.answers)), training.answer_of)
    all_parts, new_parts, done = [], [], 0
    for texts, scores in score_blocks(fit_channels(training, settings), [faq.questions[row] for row in held_out]):
        right = faq.answer_of[held_out[done : done + len(texts)]]
        total = np.tensordot(np.array(list(blend.values()), np.float32), scores, axes=1)[None]
        every = np.concatenate([scores, total])  # (channels + 1, questions, answers)
        right_score = np.take_along_axis(every, right[None, :, None], axis=2)
        all_parts.append(_mid_ranks(every, right_score))
        new_parts.append(np.where(is_new[right], _mid_ranks(every[:, :, is_new], right_score), np.nan))
        done += len(texts)
    names = [*settings.channels, BLEND]
    of_all, of_new = (np.concatenate(parts, axis=1) for parts in (all_parts, new_parts))
    return dict(zip(names, of_all, strict=True)), dict(zip(names, of_new, strict=True))


def _mid_ranks(scores: NDArray[np.float32], right: NDArray[np.float32]) -> Floats:
    """Mean rank among ties, the right answer being one of them: a channel that scores all alike ranks in the middle."""
    ties = (scores == right).sum(axis=2)
    return np.asarray(1 + (scores > right).sum(axis=2) + (ties - 1) / 2, np.float64)


def rank_metrics(ranks: Floats) -> dict[str, Floats]:
    """METRICS of each question: whether the right answer is first, among the first three, and 1 / its rank."""
    return {"top_1": (ranks <= 1).astype(np.float64), "top_3": (ranks <= 3).astype(np.float64), "mrr": 1 / ranks}


def with_intervals(
    question: NDArray[np.int64], ranks: Floats, baseline: Floats | None = None
) -> dict[str, tuple[float, float, float]]:
    """Means of METRICS with 95 % intervals by bootstrap over questions; those of differences, with a baseline.

    Args:
        question: (held out,).
        ranks: (held out,), NaN for a question that is left out.
        baseline: (held out,) ranks by what they are compared with.
    """
    present = ~np.isnan(ranks)
    _, codes = np.unique(question[present], return_inverse=True)
    result = {}
    for name, values in rank_metrics(ranks[present]).items():
        gains = values if baseline is None else values - rank_metrics(baseline[present])[name]
        means = bootstrap_means(np.bincount(codes, gains), np.bincount(codes))
        result[name] = (float(gains.mean()), *percentile_interval(means))
    return result
