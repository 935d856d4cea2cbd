"""Rank the answers of an FAQ: `millrace recsys answers --date D --faq FILE`; of one question: `millrace recsys ask`."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from conf import Config, UserError
from conf.atomic import write_atomically
from conf.runs import PREDICTIONS, Run, newest_run, start_run
from recsys.answers.channels import fit_channels
from recsys.answers.evaluate import BLEND, HeldOut, hold_out, with_intervals
from recsys.answers.faq import question_key, read_faq, read_questions
from recsys.answers.ranker import AnswerRanker, load_ranker
from recsys.answers.settings import AnswersSettings

log = logging.getLogger(__name__)

QUARANTINE = "quarantine.jsonl"  # in the run folder: rows of the FAQ that were refused, with line number and reason
# As ads_model_metric has them.
_NAMES = {"top_1": ("hit_rate", 1), "top_3": ("hit_rate", 3), "mrr": ("mrr", None)}


def run(config: Config, day: date, faq_file: Path, questions_file: Path | None) -> dict[str, Any]:
    """Measure on held-out questions, fit on all, and list the best answers of each question, without Spark.

    `etl results` loads the metrics into ads_model_metric and the lists into ads_prediction, both as model `answers`;
    key is the question.

    Args:
        config: all settings; `answers.*`.
        day: partition of the tables.
        faq_file: columns question and answer.
        questions_file: column question; by default, the questions of the FAQ are ranked.

    Returns:
        Rows of the file in, out and quarantined; top-1, top-3 and MRR of the blend and of the first channel.

    Raises:
        UserError: a file is missing, empty or without its columns, or too few of its rows are of use.
    """
    settings = config.get(AnswersSettings)
    faq, refused = read_faq(faq_file)
    questions = read_questions(questions_file) if questions_file else list(faq.questions)
    with start_run(config, BLEND, day) as run:
        lines = [json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in refused]
        write_atomically(run.folder / QUARANTINE, "".join(lines))
        measured = hold_out(faq, settings)
        report = _log_metrics(run, measured, settings.channels[0])
        ranker = AnswerRanker(faq, fit_channels(faq, settings), measured.weights)
        ranker.save(run.model_folder, settings)
        lists = ranker.rank(questions, settings.length)
        _write_lists(run, lists)
    counts = {"rows_in": len(faq.questions) + len(refused), "rows_quarantined": len(refused)}
    return {"run_id": run.run_id, **counts, "rows_out": len(lists), "questions": len(questions), **report}


def ask(config: Config, question: str, day: date | None = None) -> list[dict[str, Any]]:
    """List the best answers to a question by the newest ranker, or that of a day.

    Returns:
        question, rank, answer, score and channels, by rank.

    Raises:
        UserError: no FAQ was ranked (on that day), or the question has neither a letter nor a digit.
    """
    settings = config.get(AnswersSettings)
    if not question_key(question):
        raise UserError("the question has no words")
    folder = newest_run(config, BLEND, day)
    if folder is None:
        of_day = f" for {day}" if day else ""
        raise UserError(f"no answers were ranked{of_day}: run `millrace recsys answers --date DAY --faq FILE`")
    rows = load_ranker(folder / "model", settings.channels).rank([question], settings.length)
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _log_metrics(run: Run, measured: HeldOut, baseline: str) -> dict[str, float]:
    """Log every channel's and the blend's metrics with intervals, and the blend's gain over the first channel."""
    report: dict[str, float] = {}
    number = len(measured.question)
    for name, ranks in measured.ranks.items():
        values = with_intervals(measured.question, ranks)
        _log_intervals(run, name, values, number)
        if name in (BLEND, baseline):
            report |= {f"{name}_{metric}": value for metric, (value, _, _) in values.items()}
    for name, weight in measured.weights.items():
        run.log_metric("evaluate", "valid", "weight", weight, number, model=name)
    gains = with_intervals(measured.question, measured.ranks[BLEND], measured.ranks[baseline])
    _log_intervals(run, BLEND, gains, number, "_gain")
    if gains["mrr"][1] <= 0:
        log.warning(
            "on held-out questions the blend is not surely better than %s: MRR %+.3f (%.3f to %.3f)",
            baseline, *gains["mrr"],
        )  # fmt: skip
    return report


def _log_intervals(
    run: Run, model: str, values: Mapping[str, tuple[float, float, float]], rows: int, suffix: str = ""
) -> None:
    for name, interval in values.items():
        metric, k = _NAMES[name]
        for end, value in zip(("", "_low", "_high"), interval, strict=True):
            run.log_metric("evaluate", "holdout", f"{metric}{suffix}{end}", value, rows, k=k, model=model)


def _write_lists(run: Run, lists: pd.DataFrame) -> None:
    named = lists.rename(columns={"question": "key"})
    named[["key", "answer", "score"]].to_parquet(run.folder / PREDICTIONS, index=False)
