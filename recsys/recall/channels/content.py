"""Content similarity: items whose words, topic and author are like those of the user's history (TF-IDF, cosine)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.recall.history import History, UserBatch
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class ContentScorer:
    """TF-IDF vectors of the items."""

    words: sparse.csr_matrix  # (items, words), rows of length 1, or 0 for an item without text

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Similarity (users, items) to the time-decayed sum of the history; new items have one as well."""
        scores = np.asarray((batch.recent @ self.words @ self.words.T).todense())
        return batch.mask_cold(np.where(scores > 0, scores, -np.inf))


def fit(history: History, settings: RecallSettings) -> ContentScorer:
    """Fit the vocabulary on the driver: words of the titles, and topic and author as a word each."""
    items = history.items
    columns = [items["title"].fillna("")]
    for name in ("category", "author"):
        # A prefix keeps an author called "food" apart from the topic.
        words = name + "=" + items[name].astype(str).str.replace(" ", "_")
        columns.append(words.where(items[name].notna(), ""))
    texts = [" ".join(row) for row in zip(*columns, strict=True)]
    try:
        words = TfidfVectorizer(token_pattern=r"(?u)[\w=&-]+", max_features=settings.content_words).fit_transform(texts)
    except ValueError:  # scikit-learn refuses an empty vocabulary
        words = sparse.csr_matrix((len(texts), 1))
    return ContentScorer(sparse.csr_matrix(words, dtype=np.float32))
