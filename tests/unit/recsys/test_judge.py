"""Places in lists, as the judge of lists reads them from ids."""

import numpy as np
import pandas as pd
import pytest
from conftest import DATA

from features.catalog import SPARSE
from features.metrics import off_policy
from recsys.blend.judge import CATEGORY, POSITION, ListJudge, has_support, position_id, positions
from recsys.dataset import Rows


def test_every_place_of_a_long_list_is_a_place() -> None:
    """News lists have hundreds of items, more than there are ids: each id stands for the first place that has it."""
    places = np.arange(1, 400)
    sparse = np.zeros((len(places) + 1, len(SPARSE)), np.int64)  # the last row has no place
    sparse[:-1, POSITION] = [position_id(int(place)) for place in places]
    rows = Rows(sparse, np.zeros((len(sparse), 0), np.float32), np.zeros(len(sparse), np.float32), {})
    read = positions(rows)
    assert read[-1] == 0
    assert (read[:-1] >= 1).all()
    assert (read[:-1] <= places).all()
    assert read[:9].tolist() == list(range(1, 10))
    # Of two places with one id the first is meant.
    assert all(position_id(int(seen)) == position_id(int(place)) for seen, place in zip(read[:-1], places, strict=True))


def lists_of(users: int) -> Rows:
    """A list of two a user and hour: a of five items first, and its neighbour second."""
    at = np.arange(20 * users)
    item = np.stack([at % 5, (at + 1) % 5], axis=1).ravel()
    sparse = np.zeros((2 * len(at), len(SPARSE)), np.int64)
    sparse[:, POSITION] = np.tile([position_id(1), position_id(2)], len(at))
    keys = {
        "user_id": np.repeat(at % users, 2).astype(str),
        "item_id": item.astype(str),
        "at_s": np.repeat(at, 2) * 3600.0,
    }
    label = (item == 3).astype(np.float32)
    return Rows(
        sparse, np.zeros((len(sparse), 0), np.float32), label, {name: pd.Series(of) for name, of in keys.items()}
    )


def earlier_of(rows: Rows) -> pd.DataFrame:
    return pd.DataFrame({"user_id": rows.keys["user_id"], "category": rows.sparse[:, CATEGORY]})


def test_a_judge_takes_the_propensities_that_are_logged_and_estimates_the_others() -> None:
    rows = lists_of(users=50)
    earlier, half = earlier_of(rows), np.full(len(rows.label), 0.5)
    logged = np.full(len(half), 0.2)  # each of five items at each place
    some = np.where(np.arange(len(half)) % 2, logged, np.nan)
    ranked = pd.DataFrame({"user_id": np.arange(50).astype(str), "item_id": "3", "rank": 1, "attraction": 0.5})
    weights = {}
    for propensity, source in ((None, "estimated"), (logged, "logged"), (some, "both"), (some * np.nan, "estimated")):
        judge = ListJudge(rows, earlier, half, half, propensity)
        assert judge.propensity_source == source
        slots = judge.match(ranked, 1)
        assert has_support(slots)
        # The item is in two of five lists, each of which counts for as many as it is shown less often.
        assert slots.weight.mean() == pytest.approx(slots.expected_weight, rel=0.02)
        weights[source] = slots.weight
    assert weights["logged"].max() == pytest.approx(weights["estimated"].max(), rel=0.05)


def test_a_log_without_the_judged_items_has_no_support() -> None:
    rows = lists_of(users=50)
    half = np.full(len(rows.label), 0.5)
    judge = ListJudge(rows, earlier_of(rows), half, half)
    ranked = pd.DataFrame({"user_id": np.arange(50).astype(str), "item_id": "9", "rank": 1, "attraction": 0.5})
    assert not has_support(judge.match(ranked, 1))
    collector = judge.collector(1)
    collector.add(ranked)
    assert collector.slots() is None
    shown = judge.logged_lists(2)
    assert shown.reward.mean() == pytest.approx(0.4)
    assert judge.logged_lists(1).reward.mean() == pytest.approx(0.2)


def test_lists_judged_by_a_bandits_log_have_the_estimates_of_open_bandit_pipeline() -> None:
    """One item for each user, by the log of Open Bandit's first place as a site has it; the numbers are obp 0.4.1's."""
    log = pd.read_csv(DATA / "open-bandit/bts/all/all.csv.gz").query("position == 1").reset_index(drop=True)
    user = log[[f"user_feature_{number}" for number in range(4)]].agg(" ".join, axis=1)
    most_shown = log["item_id"].value_counts().index[:3].to_numpy()
    item = most_shown[np.arange(user.nunique()) % 3]
    rate = np.linspace(0.001, 0.02, log["item_id"].max() + 1)
    ranked = pd.DataFrame({"user_id": user.unique(), "item_id": item.astype(str), "rank": 1, "attraction": rate[item]})
    sparse = np.zeros((len(log), len(SPARSE)), np.int64)
    sparse[:, POSITION] = position_id(1)
    at = pd.to_datetime(log["timestamp"], format="ISO8601").astype("int64") / 1e9
    keys = {"user_id": user, "item_id": log["item_id"].astype(str), "at_s": at}
    rows = Rows(sparse, np.zeros((len(log), 0), np.float32), log["click"].to_numpy(np.float32), keys)
    predicted, propensity = rate[log["item_id"]], log["propensity_score"].to_numpy(np.float32).astype(np.float64)
    estimates = off_policy.estimate(
        ListJudge(rows, earlier_of(rows), predicted, predicted, propensity).match(ranked, 1)
    )
    assert {name: estimate.value for name, estimate in estimates.items()} == pytest.approx(
        {
            "direct": 0.008237938538693815,
            "ips": 0.006991261080808384,
            "snips": 0.005776224910408225,
            "dr": 0.004390149340772193,
            "sndr": 0.005058870333667683,
        },
        rel=1e-6,  # the training set has propensities in single precision
    )
