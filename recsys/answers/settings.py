"""Settings of `recsys answers`."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from conf import Settings


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("each channel once")
    return names


class AnswersSettings(Settings):
    """Ranking the answers of an FAQ."""

    section: ClassVar[str] = "answers"

    channels: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)] = (
        "bm25",
        "weighted_bm25",
        "similar",
        "known",
        "network",
    )
    """Scores that are blended: of `recsys.answers.channels.CHANNELS`, or `package.module:function`; the first one is
    what the blend has to beat."""
    length: int = Field(default=10, gt=0)
    """Answers per question in the lists."""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the questions that the lists are measured on, which nothing is fitted on."""
    folds: int = Field(default=4, gt=1)
    """Folds of the other questions: the blend is fitted on what channels score that saw only the other folds."""
    seeds: tuple[int, ...] = Field(default=(7,), min_length=1)
    """Of the splits; metrics are of the questions of all of them, weights their mean."""
    candidates: int = Field(default=50, gt=0)
    """Best answers by each channel that the blend is fitted on."""
    k1: float = Field(default=0.8, ge=0)
    """BM25: how soon more of the same word in an answer count no more."""
    b: float = Field(default=0.75, ge=0, le=1)
    """BM25: how much long answers are discounted."""
    similar_l2: float = Field(default=1.0, gt=0)
    """λ of the ridge regression on similar questions."""
    similar_questions: int = Field(default=6000, gt=0)
    """Most questions in that regression, the last ones of the file; time grows with the cube."""
    encoder: Literal["text_mean", "text_gru", "text_lstm"] = "text_mean"
    """Text network that reads questions and answers."""
    dim: int = Field(default=64, gt=0)
    """Dimension of the network's words and texts."""
    epochs: int = Field(default=8, gt=0)
    """Passes of the network over the pairs."""
    batch_size: int = Field(default=128, gt=1)
    """Pairs of a step; the answers of the others are negatives."""
    learning_rate: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=1e-3, ge=0)
    word_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the words that a training step leaves out."""
    temperature: float = Field(default=0.1, gt=0)
    """What cosines are divided by in the softmax."""
    negatives: int = Field(default=2, ge=0)
    """Negatives of each pair beside those of its batch, drawn from BM25's best 20 other answers."""
    words: int = Field(default=60, gt=0)
    """Last tokens of a text that the network reads."""
