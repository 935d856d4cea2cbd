"""Merging the recall channels: by rank until weights are fitted, then by standardised scores."""

import numpy as np
import pandas as pd
import pytest

from recsys.recall.merge import ChannelWeights, fit_channel_weights, initial_weights

RANKS = np.array([[[1, 2, 0], [1, 2, 0]], [[0, 1, 2], [3, 1, 2]]], np.int32)  # (channels, users, items)
SCORES = np.array([[[2, 1, -1], [2, 1, -1]], [[0.5, 4, 3], [5, 4, 4]]], np.float32)
NOBODY_COLD = np.array([False, False])


def test_without_weights_an_items_score_is_the_sum_of_its_reciprocal_ranks() -> None:
    merged = initial_weights(["cf", "hot"]).merge(SCORES, RANKS, NOBODY_COLD)
    expected = [[1 / 61, 1 / 62 + 1 / 61, 1 / 62], [1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 62]]
    np.testing.assert_allclose(merged, expected)


def test_weights_sum_the_channels_scores_and_a_cold_user_gets_one_channels_alone() -> None:
    weights = ChannelWeights(np.array([0.75, -0.25]), cold_channel=1)
    merged = weights.merge(SCORES, RANKS, np.array([False, True]))
    np.testing.assert_allclose(merged[0], [1.375, -0.25, -1.5])
    # The cold user's second and third item have equal scores: their ranks in all channels break the tie, and no more.
    np.testing.assert_allclose(merged[1], [5, 4, 4], atol=1e-4)
    assert merged[1, 1] - merged[1, 2] == pytest.approx(1e-3 * (1 / 62 + 1 / 61 - 1 / 62))


def test_cold_users_follow_what_is_hot_or_else_the_first_channel() -> None:
    assert initial_weights(["cf", "new", "hot"]) == ChannelWeights(None, 2)
    assert initial_weights(["cf", "new"]) == ChannelWeights(None, 0)


def labelled_candidates(users: int, each: int = 10) -> pd.DataFrame:
    """Candidates in rounds of all users; the second channel's score is the chance of a choice, the others are noise."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(users * each, 3))
    # A user's candidates have a level of their own, which tells nothing about the choice.
    user = np.tile(np.arange(users), each)
    label = (scores[:, 1] + 0.3 * rng.normal(size=len(scores)) > 1).astype(int)
    scores[:, 1] += 4 * rng.normal(size=users)[user]
    names = [f"u{number % users}" for number in range(len(scores))]
    return pd.DataFrame({"user_id": names, "channel_scores": list(scores), "label": label})


def test_fitted_weights_favour_the_channel_that_finds_what_users_choose() -> None:
    weights = fit_channel_weights(labelled_candidates(100), ["cf", "tags", "hot"], 3)
    assert weights.values is not None
    assert weights.values[1] > 0.6 > 4 * np.abs(weights.values[[0, 2]]).max()
    assert weights.cold_channel == 2


def test_the_length_of_the_list_decides_which_channel_is_worth_more() -> None:
    """The first channel has the chosen item at rank 1 for two users of five, else last; the second always at rank 2."""
    best, last = [[4, 5], [3, 9], [2, 0], [1, 0]], [[0, 5], [3, 9], [2, 0], [1, 0]]  # the chosen item first
    scores = [np.array(row, float) for user in range(100) for row in (best if user % 5 < 2 else last)]
    users = np.repeat([f"u{user}" for user in range(100)], 4)
    frame = pd.DataFrame({"user_id": users, "channel_scores": scores, "label": [1, 0, 0, 0] * 100})
    at_1, at_2 = (fit_channel_weights(frame, ["cf", "hot"], k).values for k in (1, 2))
    assert at_1 is not None
    assert at_2 is not None
    assert at_1[0] > at_1[1]
    assert at_2[1] > at_2[0]


def test_without_candidates_or_with_few_choices_the_ranks_go_on_deciding() -> None:
    few = labelled_candidates(5)
    for frame in (few, few[:0]):
        assert fit_channel_weights(frame, ["cf", "tags", "hot"], 3) == ChannelWeights(None, 2)
