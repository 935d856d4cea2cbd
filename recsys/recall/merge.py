"""How channels are merged: a weighted sum of their standardised scores, with weights fitted on held-out positives.

The weights make the best lists of candidates from what was known before the validation rows, judged by what users chose
in these; no test row is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.coordinate_ascent import fit_weights

RRF_K = 60.0  # of reciprocal rank fusion: Σ 1 / (60 + rank) over the channels (Cormack et al. 2009)


@dataclass(frozen=True)
class ChannelWeights:
    """Weight of each channel in the merged score, in the order of `recall.quota`."""

    values: NDArray[np.float64] | None  # (channels,); None: reciprocal rank fusion
    cold_channel: int  # position of the channel that ranks cold users' items

    def merge(
        self, scores: NDArray[np.float32], ranks: NDArray[np.int32], is_cold: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Merge the channels into one score per user and item.

        Args:
            scores: (channels, users, items) standardised within channel and user.
            ranks: (channels, users, items) from 1; 0 where a channel does not rank the item.
            is_cold: (users,) users without a history.

        Returns:
            (users, items), larger is better.
        """
        fused: NDArray[np.float64] = np.where(ranks > 0, 1 / (RRF_K + ranks), 0).sum(axis=0)
        if self.values is None:
            return fused
        merged = np.tensordot(self.values, scores.astype(np.float64), axes=1)
        # What other channels propose to a cold user (new items, say) is a random draw: it only breaks ties.
        return np.where(is_cold[:, None], scores[self.cold_channel] + 1e-3 * fused, merged)


def initial_weights(channels: Sequence[str], cold_channel: str = "hot") -> ChannelWeights:
    """Weights before any are fitted: reciprocal rank fusion; `cold_channel` ranks for cold users, or the first one."""
    position = channels.index(cold_channel) if cold_channel in channels else 0
    return ChannelWeights(None, position)


def fit_channel_weights(
    candidates: pd.DataFrame, channels: Sequence[str], k: int, cold_channel: str = "hot"
) -> ChannelWeights:
    """Fit the channels' weights on labelled candidates, for nDCG at k.

    Args:
        candidates: user_id, channel_scores (an array, standardised) and label (1: the user chose it).
        channels: names, in the order of the scores.
        k: length of the list.
        cold_channel: the channel that ranks for users without a history.

    Returns:
        `initial_weights` when there are too few positives.
    """
    weights = initial_weights(channels, cold_channel)
    if candidates.empty:
        return weights
    scores = np.stack(list(candidates["channel_scores"]))  # (candidates, channels)
    user = candidates["user_id"].factorize()[0]  # (candidates,) codes from 0
    values = fit_weights(scores, candidates["label"].to_numpy(), user, k)
    return ChannelWeights(values, weights.cold_channel)
