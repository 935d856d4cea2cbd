"""Recall channels, a file each; `CHANNELS` is the one place that a new channel is added to.

A channel is a function `fit(history, settings) -> Scorer`. It is fitted from histories on the driver where these fit
one process, else on Spark or from what grows with the items only, side by side with the others, each in a thread. It
returns something small that lists the best items of a batch of users, on the driver's cores or in Spark's workers.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from conf.plugins import choose_object
from recsys.recall.channels import als, content, ease, hot, item_cf, mf, new_items, tags, two_tower, user_cf, user_ease
from recsys.recall.channels.dense import DenseLists, DenseScorer
from recsys.recall.history import History, UserBatch
from recsys.recall.lists import TopItems
from recsys.settings import RecallSettings


@runtime_checkable
class Scorer(Protocol):
    """A fitted channel. It is pickled to the workers, so it holds arrays and no DataFrame."""

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """List the k best items of each user of a batch, without what the batch excludes.

        A user's list must not depend on who else is in the batch.
        """


Channel = Callable[[History, RecallSettings], Scorer | DenseScorer]

CHANNELS: dict[str, Channel] = {
    "mf": mf.fit,
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
    return choose_object(name, CHANNELS, "channel", "recall.quota")


def fit_channel(name: str, history: History, settings: RecallSettings) -> Scorer:
    """Fit a channel by its name; one of one's own may have `score`, for every item, in place of `top_items`."""
    scorer = channel_named(name)(history, settings)
    return DenseLists(scorer) if not isinstance(scorer, Scorer) else scorer
