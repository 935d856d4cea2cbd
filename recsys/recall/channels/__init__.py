"""Recall channels, a file each; `CHANNELS` is the one place that a new channel is added to.

A channel is a function `fit(history, settings) -> Scorer`. It is fitted on Spark, or on the driver from what grows with
the items only, side by side with the others, each in a thread; it returns something small that scores every item for a
batch of users in Spark's workers.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from conf.plugins import import_object
from recsys.recall.channels import als, content, ease, hot, item_cf, new_items, tags, two_tower, user_cf, user_ease
from recsys.recall.history import History, UserBatch
from recsys.settings import RecallSettings


class Scorer(Protocol):
    """A fitted channel. It is pickled to the workers, so it holds arrays and no DataFrame."""

    def score(self, batch: UserBatch) -> NDArray[np.float32]:
        """Score every item for every user of a batch.

        Returns:
            (users, items), larger is better; −inf for what the channel does not propose. A user's scores must not
            depend on who else is in the batch.
        """


Channel = Callable[[History, RecallSettings], Scorer]

CHANNELS: dict[str, Channel] = {
    "ease": ease.fit,
    "user_ease": user_ease.fit,
    "item_cf": item_cf.fit,
    "user_cf": user_cf.fit,
    "als": als.fit,
    "two_tower": two_tower.fit,
    "tags": tags.fit,
    "content": content.fit,
    "hot": hot.fit,
    "new": new_items.fit,
}


def channel_named(name: str) -> Channel:
    """Return a channel's `fit` by its key in CHANNELS, or import it from `package.module:function`.

    Raises:
        UserError: there is no such channel (the message lists them), or it can't be imported.
    """
    if ":" in name:
        channel: Channel = import_object(name, "the channel of recall.quota")
        return channel
    if name not in CHANNELS:
        raise UserError(f"recall.quota names unknown channel '{name}'; choose from {', '.join(CHANNELS)}")
    return CHANNELS[name]
