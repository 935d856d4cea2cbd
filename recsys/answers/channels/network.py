"""The pair network: question and answer read by one text network, and scored by the cosine of what it makes of them.

Trained by softmax over the answers of the batch and answers that BM25 ranks high for the question without being its own
(hard negatives, Karpukhin et al. 2020). Answers without a question in the training pairs are never negatives: the net
would learn that they answer nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recsys.answers.channels import bm25
from recsys.answers.faq import Faq
from recsys.answers.settings import AnswersSettings
from recsys.answers.tokens import tokens
from training.inputs.schema import Inputs
from training.models.text.text_mean import TextMean
from training.models.text.text_rnn import TextGRU, TextLSTM
from training.net_settings import NetSettings

HARD = 20  # best other answers by BM25 that negatives are drawn from
BLOCK = 2048  # texts that are read at a time

ENCODERS: dict[str, Callable[[Inputs, NetSettings], TextMean | TextGRU | TextLSTM]] = {
    "text_mean": TextMean,
    "text_gru": TextGRU,
    "text_lstm": TextLSTM,
}


class PairNet(nn.Module):
    """(Q, L) and (A, L) word ids -> (Q, A) cosines."""

    def __init__(self, num_words: int, settings: AnswersSettings) -> None:
        super().__init__()
        inputs = Inputs(lists=("words",), list_buckets=num_words, classes=("answer",), list_length=settings.words)
        shapes = NetSettings(dim=settings.dim, attention_dim=settings.dim, blocks=1)
        self.encoder = ENCODERS[settings.encoder](inputs, shapes)

    def encode(self, words: Tensor) -> Tensor:
        """(B, L) -> (B, dim) of length 1."""
        return functional.normalize(self.encoder.features(words), dim=1)

    def forward(self, questions: Tensor, answers: Tensor) -> Tensor:
        return self.encode(questions) @ self.encode(answers).T


@dataclass(frozen=True)
class NetworkScorer:
    """The trained network, and what it makes of the answers."""

    vocabulary: dict[str, int]
    net: PairNet
    answers: NDArray[np.float32]  # (answers, dim)
    length: int

    def score(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Cosines."""
        return _encode(self.net, _word_ids(questions, self.vocabulary, self.length)) @ self.answers.T


def fit(faq: Faq, settings: AnswersSettings) -> NetworkScorer:
    """Train on the FAQ's pairs, on the CPU, the same for the same seed."""
    # A word of a single text connects nothing.
    texts_with = Counter(word for text in (*faq.questions, *faq.answers) for word in set(tokens(text)))
    shared = sorted(word for word, number in texts_with.items() if number > 1)
    vocabulary = {word: number for number, word in enumerate(shared)}
    questions, answers = (_word_ids(texts, vocabulary, settings.words) for texts in (faq.questions, faq.answers))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seeds[0])
        net = PairNet(len(vocabulary) + 1, settings)
        _train(net, faq, questions, answers, settings)
    return NetworkScorer(vocabulary, net, _encode(net, answers), settings.words)


def _train(net: PairNet, faq: Faq, questions: Tensor, answers: Tensor, settings: AnswersSettings) -> None:
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    rng = np.random.default_rng(settings.seeds[0])
    hard = _hard_negatives(faq, settings)
    net.train()
    for _ in range(settings.epochs):
        order = rng.permutation(len(faq.questions))
        for rows in np.array_split(order, max(1, len(order) // settings.batch_size)):
            negatives = hard[rows[:, None], rng.integers(0, hard.shape[1], (len(rows), settings.negatives))].ravel()
            candidates = np.concatenate([faq.answer_of[rows], negatives])
            cosines = net(
                _drop_words(questions[rows], settings.word_dropout),
                _drop_words(answers[candidates], settings.word_dropout),
            )
            # An answer that several questions of the batch share is right wherever it stands.
            is_same = torch.from_numpy(candidates[None, :] == faq.answer_of[rows][:, None])
            is_same[torch.arange(len(rows)), torch.arange(len(rows))] = False
            logits = (cosines / settings.temperature).masked_fill(is_same, -torch.inf)
            loss = functional.cross_entropy(logits, torch.arange(len(rows)))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    net.eval()


def _hard_negatives(faq: Faq, settings: AnswersSettings) -> NDArray[np.int64]:
    """(questions, HARD or fewer) the best other answers by BM25 among those that a question of the FAQ has."""
    present, own = np.unique(faq.answer_of, return_inverse=True)
    texts = tuple(faq.answers[number] for number in present)
    scorer = bm25.fit(Faq(faq.questions, texts, own), settings)
    number = min(HARD, max(len(present) - 1, 1))  # of a single answer: itself, which is masked
    blocks = []
    for start in range(0, len(faq.questions), BLOCK):
        scores = scorer.score(faq.questions[start : start + BLOCK])
        scores[np.arange(len(scores)), own[start : start + BLOCK]] = -np.inf
        blocks.append(np.argpartition(-scores, number - 1, axis=1)[:, :number])
    return np.asarray(present[np.concatenate(blocks)], np.int64)


def _drop_words(words: Tensor, share: float) -> Tensor:
    return words.masked_fill(torch.rand(words.shape) < share, 0)


def _word_ids(texts: Sequence[str], vocabulary: dict[str, int], length: int) -> Tensor:
    """(texts, length) ids from 1 of the last known words, right-aligned; 0 is padding."""
    ids = np.zeros((len(texts), length), np.int64)
    for row, text in enumerate(texts):
        present = [vocabulary[word] + 1 for word in tokens(text) if word in vocabulary][-length:]
        if present:
            ids[row, -len(present) :] = present
    return torch.from_numpy(ids)


@torch.no_grad()
def _encode(net: PairNet, words: Tensor) -> NDArray[np.float32]:
    blocks = [net.encode(words[start : start + BLOCK]).numpy() for start in range(0, len(words), BLOCK)]
    return np.concatenate(blocks)
