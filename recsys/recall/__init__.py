"""Recall: many channels, each one file, merged with quotas.

A channel is a function `fit(history, settings) -> Scorer`: it learns from `History` (on Spark, or on the driver from
what grows with items only) and returns something small that scores every item for a batch of users in Spark's workers.
A name with a colon, `my_pkg.mod:fit`, is imported. Channels are fitted side by side, each in a thread.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from conf import UserError
from conf.plugins import import_object
from recsys.recall.channels import als, content, ease, hot, item_cf, new_items, tags, two_tower, user_cf, user_ease
from recsys.recall.history import Batch, History
from recsys.settings import RecallSettings


class Scorer(Protocol):
    """What a channel learned; pickled to the workers."""

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """(users, items), larger is better; −inf for what the channel does not propose."""


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


def channel_of(name: str) -> Channel:
    """The channel called `name`. Raises UserError that lists the channels otherwise."""
    if ":" in name:
        channel: Channel = import_object(name, "the channel of recall.quota")
        return channel
    if name not in CHANNELS:
        raise UserError(f"recall.quota names unknown channel '{name}'; choose from {', '.join(CHANNELS)}")
    return CHANNELS[name]
