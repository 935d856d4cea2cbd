"""Recall: many channels, each one file, merged with quotas.

A channel is a function (history, users, settings, k) -> user_id, item_id, score: up to k unseen items for each user.
`history` has user_id, item_id, at (a positive each); `users` has user_id.
"""

from collections.abc import Callable

from pyspark.sql import DataFrame

from recsys.recall import hot, item_cf
from recsys.settings import RecallSettings

Channel = Callable[[DataFrame, DataFrame, RecallSettings, int], DataFrame]

CHANNELS: dict[str, Channel] = {"item_cf": item_cf.recall, "hot": hot.recall}
