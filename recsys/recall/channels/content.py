"""Content similarity: items whose words, topic and author are like those of what the user chose (TF-IDF, cosine)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.recall.history import Batch, History
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class Content:
    """`words` (items, words), each row of length 1 (or 0 for an item without any text)."""

    words: sparse.csr_matrix

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """Cosine to the mean of the recent history; also for items that nobody chose yet."""
        scores = np.asarray((batch.recent @ self.words @ self.words.T).todense())
        return batch.nothing_for_cold(np.where(scores > 0, scores, -np.inf))


def fit(history: History, settings: RecallSettings) -> Content:
    """Words of the title, and topic and author as words of their own."""
    items = history.items
    parts = [items["title"].fillna("")]
    for name in ("category", "author"):
        marked = name + "=" + items[name].astype(str).str.replace(" ", "_")
        parts.append(marked.where(items[name].notna(), ""))
    texts = [" ".join(row) for row in zip(*parts, strict=True)]
    try:
        words = TfidfVectorizer(token_pattern=r"(?u)[\w=&-]+", max_features=settings.content_words).fit_transform(texts)
    except ValueError:  # no words at all
        words = sparse.csr_matrix((len(texts), 1))
    return Content(sparse.csr_matrix(words, dtype=np.float32))
