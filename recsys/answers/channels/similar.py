"""What similar questions of the FAQ say of an answer: a ridge regression on questions, by their kernel.

Dual weights of the FAQ's questions for a new one are k (K + λI)⁻¹, by cosines k and K of TF-IDF vectors. Two channels
add them up:

- `similar`: an answer by how much it is like the answers of similar questions, its own questions left out. So an answer
  that has no question yet, and one that has many, are judged alike.
- `known`: an answer by its own questions, for FAQs whose answers have several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.answers.faq import Faq
from recsys.answers.settings import AnswersSettings
from recsys.answers.tokens import tokens

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Regression:
    """Dual weights of questions, and vectors of the answers."""

    vectorizer: TfidfVectorizer
    questions: sparse.csr_matrix  # (known questions, words) of length 1
    inverse: Floats  # (known, known) (K + λI)⁻¹
    answers: sparse.csr_matrix  # (answers, words) of length 1
    owners: sparse.csr_matrix  # (known, answers) 1 where the question has the answer

    def weights(self, questions: Sequence[str]) -> Floats:
        """(questions, known questions) dual weights."""
        kernel = (self.vectorizer.transform(questions) @ self.questions.T).toarray()
        return np.asarray(kernel @ self.inverse, np.float32)


@dataclass(frozen=True)
class SimilarScorer:
    """Answers by their likeness to those of similar questions."""

    regression: Regression

    def score(self, questions: Sequence[str]) -> Floats:
        """Σ over known questions of weight · cosine of the two answers, without the answer's own questions."""
        model = self.regression
        by_answer = model.weights(questions) @ model.owners  # (questions, answers)
        expected = (by_answer @ model.answers) @ model.answers.T
        # An answer's cosine with itself is 1.
        return np.asarray(expected - by_answer, np.float32)


@dataclass(frozen=True)
class KnownScorer:
    """Answers by their own questions."""

    regression: Regression

    def score(self, questions: Sequence[str]) -> Floats:
        """Σ of the weights of the answer's questions; 0 for an answer without one."""
        return np.asarray(self.regression.weights(questions) @ self.regression.owners, np.float32)


def fit_similar(faq: Faq, settings: AnswersSettings) -> SimilarScorer:
    """Fit the regression, for `similar`."""
    return SimilarScorer(_fit(faq, settings))


def fit_known(faq: Faq, settings: AnswersSettings) -> KnownScorer:
    """Fit the regression, for `known`."""
    return KnownScorer(_fit(faq, settings))


def _fit(faq: Faq, settings: AnswersSettings) -> Regression:
    return _fit_texts(
        faq.questions[-settings.similar_questions :],
        faq.answers,
        tuple(faq.answer_of[-settings.similar_questions :].tolist()),
        settings.similar_l2,
    )


@lru_cache(maxsize=1)  # both channels of one fold share it: the inverse takes the time
def _fit_texts(
    questions: tuple[str, ...], answers: tuple[str, ...], answer_of: tuple[int, ...], l2: float
) -> Regression:
    vectorizer = TfidfVectorizer(analyzer=tokens, sublinear_tf=True, dtype=np.float32).fit([*questions, *answers])
    vectors = vectorizer.transform(questions)
    kernel = (vectors @ vectors.T).toarray() + l2 * np.eye(len(questions), dtype=np.float32)
    rows = np.arange(len(questions))
    owners = sparse.csr_matrix(
        (np.ones(len(questions), np.float32), (rows, np.array(answer_of))), shape=(len(questions), len(answers))
    )
    return Regression(vectorizer, vectors, np.linalg.inv(kernel), vectorizer.transform(answers), owners)
