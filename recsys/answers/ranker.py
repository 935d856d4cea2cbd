"""Answers ranked by a weighted sum of the channels' standardised scores, as items are by the blend."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from conf import UserError
from conf.model_files import verify_model_file, write_model_file
from conf.runs import read_json
from recsys.answers.channels import Scorer, fit_channels
from recsys.answers.faq import Faq, question_key
from recsys.answers.settings import AnswersSettings
from recsys.coordinate_ascent import fit_weights

log = logging.getLogger(__name__)

FAQ_FILE, BLEND_FILE = "faq.parquet", "blend.json"
BLOCK = 256  # questions that are scored at a time: (BLOCK, answers) scores a channel are in memory
KNOWN = "known question"  # as the channel of an answer whose question is in the FAQ

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class AnswerRanker:
    """Channels fitted on an FAQ, and how much each counts."""

    faq: Faq
    scorers: Mapping[str, Scorer]
    weights: Mapping[str, float]

    def rank(self, questions: Sequence[str], length: int) -> pd.DataFrame:
        """List the best answers of each question.

        A question that the FAQ has, whatever its case and punctuation, gets its answer first.

        Returns:
            question, rank (from 1), answer, score (comparable within a question) and channels (the reasons: where the
            answer is among the first `length`, joined by +).
        """
        own = dict(zip(map(question_key, self.faq.questions), self.faq.answer_of.tolist(), strict=True))
        rows: list[tuple[str, int, str, float, str]] = []
        for texts, scores in score_blocks(self.scorers, questions):
            total = np.tensordot(np.array(list(self.weights.values()), np.float32), scores, axes=1)
            tops = np.sort(scores, axis=2)[:, :, -min(length, scores.shape[2])]  # (channels, questions)
            for row, text in enumerate(texts):
                answer = own.get(question_key(text))
                if answer is not None:
                    total[row, answer] = total[row].max() + 1
                for rank, number in enumerate(np.argsort(-total[row], kind="stable")[:length], start=1):
                    # Of answers that a channel scores all alike none is its choice: standardised, they are 0.
                    is_top = scores[:, row, number] >= np.maximum(tops[:, row], 1e-6)
                    reasons = [name for name, top in zip(self.scorers, is_top, strict=True) if top]
                    reasons = [KNOWN, *reasons] if number == answer else reasons
                    rows.append((text, rank, self.faq.answers[number], float(total[row, number]), "+".join(reasons)))
        return pd.DataFrame(rows, columns=["question", "rank", "answer", "score", "channels"])

    def save(self, folder: Path, settings: AnswersSettings) -> None:
        """Write texts, weights and settings into a run's model folder; loading fits the channels again."""
        answers = [self.faq.answers[number] for number in self.faq.answer_of]
        table = pa.table({"question": list(self.faq.questions), "answer": answers})
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        write_model_file(folder / FAQ_FILE, buffer.getvalue().to_pybytes())
        about = {"weights": dict(self.weights), "settings": settings.model_dump(mode="json")}
        write_model_file(folder / BLEND_FILE, json.dumps(about, indent=2))


def load_ranker(folder: Path, channels: tuple[str, ...]) -> AnswerRanker:
    """Fit the channels of a saved ranker again, with its own settings: the same scores.

    Args:
        folder: of the run's model.
        channels: today's `answers.channels`: code from outside is imported if these name it, not because a file does.

    Raises:
        UserError: a file is missing or corrupt, or the ranker has other channels.
    """
    for name in (FAQ_FILE, BLEND_FILE):
        verify_model_file(folder / name)
    about = read_json(folder / BLEND_FILE, "weights", "settings")
    settings = AnswersSettings(**about["settings"])
    if settings.channels != channels:
        raise UserError(
            f"the answers of {folder} are ranked by {', '.join(settings.channels)}, not by answers.channels "
            f"{', '.join(channels)}: set these, or run `millrace recsys answers --date DAY --faq FILE` again"
        )
    texts = pq.read_table(folder / FAQ_FILE).to_pandas()
    answer_of, answers = texts["answer"].factorize()
    faq = Faq(tuple(texts["question"]), tuple(answers), answer_of.astype(np.int64))
    return AnswerRanker(faq, fit_channels(faq, settings), about["weights"])


def score_blocks(scorers: Mapping[str, Scorer], questions: Sequence[str]) -> Iterator[tuple[Sequence[str], Floats]]:
    """Blocks of questions with their scores (channels, questions, answers), each standardised over the answers."""
    for start in range(0, len(questions), BLOCK):
        texts = questions[start : start + BLOCK]
        yield texts, np.stack([_standardize(scorer.score(texts)) for scorer in scorers.values()])


def _standardize(scores: Floats) -> Floats:
    """A channel that scores all answers alike says nothing: 0."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(scores.std(axis=1, keepdims=True), 1e-9), np.float32)


def fit_blend(faq: Faq, settings: AnswersSettings, seed: int) -> dict[str, float]:
    """Fit the channels' weights for the best nDCG at `answers.length`, on questions that the channels did not see.

    Weights are not negative: in an FAQ with one question an answer, an answer with a question that is like the new one
    would be ruled out for it.

    Args:
        faq: whose questions may be fitted on.
        settings: channels and folds.
        seed: of the folds.

    Returns:
        Weight of each channel, of sum 1; of fewer than 50 questions whose answers are among the candidates, equal ones.
    """
    fold = np.random.default_rng(seed).permutation(len(faq.questions)) % settings.folds
    parts = []
    for number in range(settings.folds):
        scorers = fit_channels(faq.with_questions(np.flatnonzero(fold != number)), settings)
        parts.append(_candidates(scorers, faq, np.flatnonzero(fold == number), settings))
    scores, label, question = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    fitted = fit_weights(scores, label, question, settings.length)
    weights = np.maximum(fitted, 0) if fitted is not None else np.zeros(len(settings.channels))
    if not weights.any():
        log.warning(
            "answers: only %d of %d right answers are among the candidates: all channels have equal weights",
            int(label.sum()),
            len(faq.questions),
        )
        weights = np.ones(len(settings.channels))
    return dict(zip(settings.channels, (weights / weights.sum()).tolist(), strict=True))


def _candidates(
    scorers: Mapping[str, Scorer], faq: Faq, rows: NDArray[np.int64], settings: AnswersSettings
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Scores (candidates, channels) of every channel's best answers to the questions `rows`, labels and question."""
    columns: list[tuple[Floats, NDArray[np.int64], NDArray[np.int64]]] = []
    done = 0
    for texts, scores in score_blocks(scorers, [faq.questions[row] for row in rows]):
        best = np.argsort(-scores, axis=2)[:, :, : settings.candidates]  # (channels, questions, candidates)
        for position in range(len(texts)):
            row = rows[done + position]
            answers = np.unique(best[:, position])
            label = (answers == faq.answer_of[row]).astype(np.int64)
            columns.append((scores[:, position, answers].T, label, np.full(len(answers), row)))
        done += len(texts)
    scores, label, question = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return scores, label, question
