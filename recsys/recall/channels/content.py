"""Content similarity: items whose words, topic and author are like those of the user's history (TF-IDF, cosine)."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.recall.channels.products import top_products
from recsys.recall.history import OWN_TEXTS, History, UserBatch
from recsys.recall.lists import TopItems
from recsys.settings import RecallSettings


@dataclass(frozen=True)
class ContentScorer:
    """TF-IDF vectors of the items."""

    words: sparse.csr_matrix  # (items, words), rows of length 1, or 0 for an item without text
    items: sparse.csr_matrix  # (words, items) the same by word

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by similarity to the time-decayed sum of the history; new items have one as well."""
        profiles = batch.recent @ self.words  # (users, words), sparse
        # An item without a word in common has no score here, rather than one of 0.
        return top_products(profiles, self.items, batch, k, zeros_count=False)


def fit(history: History, settings: RecallSettings) -> ContentScorer:
    """Fit the vocabulary on the driver: words of the titles, and topic, author and own texts as a word each."""
    items = history.items
    columns = [items["title"].fillna("")]
    for name in ("category", "author", *OWN_TEXTS):
        # A prefix keeps an author called "food" apart from the topic.
        words = name + "=" + items[name].astype(str).str.replace(" ", "_")
        columns.append(words.where(items[name].notna(), ""))
    texts = [" ".join(row) for row in zip(*columns, strict=True)]
    try:
        words = TfidfVectorizer(token_pattern=r"(?u)[\w=&-]+", max_features=settings.content_words).fit_transform(texts)
    except ValueError:  # scikit-learn refuses an empty vocabulary
        words = sparse.csr_matrix((len(texts), 1))
    words = sparse.csr_matrix(words, dtype=np.float32)
    return ContentScorer(words, words.T.tocsr())
