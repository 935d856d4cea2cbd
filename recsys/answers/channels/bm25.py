"""Okapi BM25 (Robertson and Zaragoza 2009) of the question's words in the answers.

Its idf is that of words among answers. Questions have other words than answers, and "how", "problem" or "help" are rare
in answers: `fit_weighted` weights a question's words by their idf among questions, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from recsys.answers.faq import Faq
from recsys.answers.settings import AnswersSettings
from recsys.answers.tokens import tokens


@dataclass(frozen=True)
class Bm25Scorer:
    """What each word of each answer is worth."""

    vectorizer: CountVectorizer
    query_weights: NDArray[np.float32]  # (words,)
    words: sparse.csr_matrix  # (words, answers)

    def score(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Sums over the question's words, each once."""
        counts = self.vectorizer.transform(questions)  # (questions, words)
        queries = sparse.csr_matrix(
            (self.query_weights[counts.indices], counts.indices, counts.indptr), shape=counts.shape
        )
        return np.asarray((queries @ self.words).toarray(), np.float32)


def fit(faq: Faq, settings: AnswersSettings) -> Bm25Scorer:
    """Index the answers."""
    return _index(faq.answers, settings.k1, settings.b)


def fit_weighted(faq: Faq, settings: AnswersSettings) -> Bm25Scorer:
    """Index the answers, and weight a question's words by their idf among the FAQ's questions."""
    plain = fit(faq, settings)
    weights = _idf(plain.vectorizer.transform(faq.questions).tocsr()).astype(np.float32)
    return Bm25Scorer(plain.vectorizer, weights, plain.words)


@lru_cache(maxsize=1)  # both channels, and all folds, have the same answers
def _index(answers: tuple[str, ...], k1: float, b: float) -> Bm25Scorer:
    vectorizer = CountVectorizer(analyzer=tokens, dtype=np.float32)
    counts = vectorizer.fit_transform(answers).tocsr()  # (answers, words)
    length = np.asarray(counts.sum(axis=1)).ravel()
    saturation = k1 * (1 - b + b * length / length.mean())  # (answers,)
    of_cell = np.repeat(saturation, np.diff(counts.indptr))
    counts.data *= (k1 + 1) / (counts.data + of_cell) * _idf(counts)[counts.indices]
    return Bm25Scorer(vectorizer, np.ones(counts.shape[1], np.float32), counts.T.tocsr())


def _idf(counts: sparse.csr_matrix) -> NDArray[np.float64]:
    """(words,) log of texts without the word over texts with it, above 0."""
    texts, words = counts.shape
    with_word = np.bincount(counts.indices, minlength=words)
    return np.asarray(np.log1p((texts - with_word + 0.5) / (with_word + 0.5)))
