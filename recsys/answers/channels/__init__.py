"""Channels that score answers, a file each; `CHANNELS` is the one place that a new channel is added to.

As with items, a channel is a function `fit(faq, settings) -> Scorer`, one from outside `package.module:function`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from conf.plugins import choose_object
from recsys.answers.channels import bm25, network, similar
from recsys.answers.faq import Faq
from recsys.answers.settings import AnswersSettings


class Scorer(Protocol):
    """A fitted channel."""

    def score(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """(questions, answers) scores, larger is better; a question's do not depend on the others."""
        ...


Channel = Callable[[Faq, AnswersSettings], Scorer]

CHANNELS: dict[str, Channel] = {
    "bm25": bm25.fit,
    "weighted_bm25": bm25.fit_weighted,
    "similar": similar.fit_similar,
    "known": similar.fit_known,
    "network": network.fit,
}


def fit_channels(faq: Faq, settings: AnswersSettings) -> dict[str, Scorer]:
    """Fit the channels of `answers.channels`; those from outside are imported.

    Raises:
        UserError: there is no such channel (the message lists them), or it can't be imported.
    """
    channels = {name: choose_object(name, CHANNELS, "channel", "answers.channels") for name in settings.channels}
    return {name: fit(faq, settings) for name, fit in channels.items()}
