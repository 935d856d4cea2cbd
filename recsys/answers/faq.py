"""The questions and answers of an FAQ, and the one reader of their files."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf import UserError
from etl.sources.detection import detect_dialect
from etl.sources.dialect import DialectOptions, bare_name
from etl.sources.sample import sample_rows
from recsys.answers.tokens import tokens

log = logging.getLogger(__name__)

QUESTION, ANSWER = "question", "answer"
MAX_ROWS = 1_000_000
MIN_QUESTIONS = 10  # below, nothing can be held out


@dataclass(frozen=True)
class Faq:
    """Questions, each with one answer; several may share one."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    """Distinct, in the order of their first questions."""
    answer_of: NDArray[np.int64]
    """(questions,) number of each question's answer."""

    def with_questions(self, rows: NDArray[np.int64]) -> "Faq":
        """The same answers with some of the questions alone."""
        return replace(self, questions=tuple(self.questions[row] for row in rows), answer_of=self.answer_of[rows])


@dataclass(frozen=True)
class RefusedPair:
    """A row of the file that is in no FAQ."""

    line_number: int
    reason: str
    """empty_question, empty_answer, duplicate_question, or why the row can't be read."""
    text: str


def read_faq(path: Path) -> tuple[Faq, list[RefusedPair]]:
    """Read questions and answers: columns `question` and `answer` of CSV, TSV, JSON lines or Parquet, packed or not.

    Rows without a question, without an answer or with a question that an earlier row has are refused, and one line of
    the log counts them.

    Raises:
        UserError: there is no such file, it has other columns or is too large, or fewer than 10 rows are of use.
    """
    rows, refused = _read_columns(path, (QUESTION, ANSWER))
    frame = rows.assign(reason="", key=rows[QUESTION].map(question_key))
    frame.loc[rows[ANSWER].map(lambda text: not tokens(text)), "reason"] = "empty_answer"
    frame.loc[frame["key"] == "", "reason"] = "empty_question"
    # Of a question whose first answer is empty a later answer counts.
    is_usable = frame["reason"] == ""
    frame.loc[is_usable & frame["key"].where(is_usable).duplicated(), "reason"] = "duplicate_question"
    for reason, row in zip(frame["reason"], frame.itertuples(), strict=True):
        if reason:
            refused.append(RefusedPair(int(row.Index), reason, f"{row.question}\t{row.answer}"[:200]))
    pairs = frame[frame["reason"] == ""]
    if refused:
        counts = Counter(row.reason for row in refused)
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()))
        log.warning("%s: %d rows are quarantined: %s", path, len(refused), reasons)
    if len(pairs) < MIN_QUESTIONS:
        raise UserError(f"{path} has {len(pairs)} questions with an answer; at least {MIN_QUESTIONS} are needed")
    answer_of, answers = pairs[ANSWER].factorize()
    if len(answers) == 1:
        raise UserError(f"{path} has one answer to all of its questions: there is nothing to rank")
    return Faq(tuple(pairs[QUESTION]), tuple(answers), answer_of.astype(np.int64)), refused


def read_questions(path: Path) -> list[str]:
    """Read the column `question` of a file, each question once; rows without one are counted in a line of the log.

    Raises:
        UserError: there is no such file, it has no such column, or no row has a question.
    """
    rows, refused = _read_columns(path, (QUESTION,))
    questions = [text for text in dict.fromkeys(rows[QUESTION]) if tokens(text)]
    if left_out := len(rows) + len(refused) - len(questions):
        log.warning("%s: %d rows without a question, or with one of an earlier row, are left out", path, left_out)
    if not questions:
        raise UserError(f"{path} has no question")
    return questions


def question_key(text: str) -> str:
    """What two spellings of one question have in common: empty for a text without letters and digits."""
    return " ".join(tokens(text))


def _read_columns(path: Path, names: Sequence[str]) -> tuple[pd.DataFrame, list[RefusedPair]]:
    """Columns of texts, "" for an empty cell, by number of the line; and the rows that can't be read."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    dialect = detect_dialect(path, DialectOptions(), names)
    columns = {bare_name(name): name for name in dialect.names}
    if missing := [name for name in names if name not in columns]:
        raise UserError(f"{path} has no column {' and '.join(missing)}, but {', '.join(dialect.names)}")
    sample = sample_rows(path, dialect, MAX_ROWS)
    if not sample.is_whole:
        raise UserError(f"{path} has about {sample.num_rows:,} rows; at most {2 * MAX_ROWS:,} are ranked: split it")
    frame = sample.frame[[columns[name] for name in names]].fillna("").set_axis(list(names), axis=1)
    frame = frame.apply(lambda column: column.str.strip())
    return frame, [RefusedPair(row.line_number, row.reason, row.line[:200]) for row in sample.refused]
