"""Off-policy estimators against another implementation on a real log, and against the truth on generated ones."""

import numpy as np
import pandas as pd
import pytest
from conftest import DATA

from benchmarks.off_policy import agreement, measure_site
from etl.simulator.settings import SimulatorSettings
from etl.simulator.world import World
from features.metrics import off_policy
from features.metrics.off_policy import ESTIMATORS, ListLog, Slots

OPEN_BANDIT = DATA / "open-bandit"


def open_bandit_slots() -> Slots:
    """The log of a bandit, to judge items that are chosen uniformly; a click model of every other row."""
    log = pd.read_csv(OPEN_BANDIT / "bts/all/all.csv.gz")
    items = int(log["item_id"].max()) + 1
    is_learned = np.arange(len(log)) % 2 == 0
    clicks = np.bincount(log["item_id"][is_learned], log["click"][is_learned], minlength=items)
    shown = np.bincount(log["item_id"][is_learned], minlength=items)
    rate = (clicks + 1) / (shown + 200)
    judged = log[~is_learned]
    weight = 1 / items / judged["propensity_score"].to_numpy()
    reward = judged["click"].to_numpy(float)
    direct = np.full(len(judged), rate.mean())
    return Slots(np.arange(len(judged)), reward, weight, rate[judged["item_id"]], direct)


def test_estimates_equal_those_of_open_bandit_pipeline():
    """The numbers are those of obp 0.4.1 for the same log, policy and click model."""
    estimates = off_policy.estimate(open_bandit_slots())
    assert {name: estimate.value for name, estimate in estimates.items()} == pytest.approx(
        {
            "direct": 0.004810795108744909,
            "ips": 0.0034853780129014793,
            "snips": 0.003256150709557696,
            "dr": 0.0032246047791928633,
            "sndr": 0.0033289257826786566,
        },
        rel=1e-9,
    )


@pytest.mark.parametrize("clip", [np.inf, 5.0])
@pytest.mark.parametrize("campaign", ["men", "women"])
def test_estimates_equal_the_estimators_formulas(campaign, clip):
    """Row by row on a bandit's log, for a policy that shows each item half as often as the one of lower number."""
    log = pd.read_csv(OPEN_BANDIT / f"bts/{campaign}/{campaign}.csv.gz")
    reward, item = log["click"].to_numpy(float), log["item_id"].to_numpy()
    policy = 0.5 ** np.arange(item.max() + 1)
    policy /= policy.sum()
    rate = np.random.default_rng(3).uniform(0, 0.02, len(policy))
    weight = policy[item] / log["propensity_score"].to_numpy()
    slots = Slots(np.arange(len(log)) % 1_000, reward, weight, rate[item], np.full(len(log), policy @ rate))
    w = [min(one, clip) for one in weight]
    ips = sum(a * r for a, r in zip(w, reward, strict=True)) / len(w)
    residual = sum(a * (r - rate[i]) for a, r, i in zip(w, reward, item, strict=True))
    estimates = off_policy.estimate(slots, clip=clip)
    assert {name: estimate.value for name, estimate in estimates.items()} == pytest.approx(
        {
            "direct": policy @ rate,
            "ips": ips,
            "snips": ips / np.mean(w),
            "dr": policy @ rate + residual / len(w),
            "sndr": policy @ rate + residual / sum(w),
        }
    )
    assert off_policy.effective_slots(slots, clip) == pytest.approx(sum(w) ** 2 / sum(a * a for a in w))


def test_intervals_have_the_click_rate_of_the_policy_that_was_really_run():
    rate = pd.read_csv(OPEN_BANDIT / "random/all/all.csv.gz")["click"].mean()
    estimates = off_policy.estimate(open_bandit_slots())
    for name in ("ips", "snips", "dr", "sndr"):
        assert estimates[name].low < rate < estimates[name].high, name


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Known propensities and a wrong click model: 95 % intervals of the reward a slot."""
    rng = np.random.default_rng(0)
    covered = dict.fromkeys(("ips", "snips", "dr", "sndr"), 0)
    for draw in range(100):
        logging, judged = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.3, 0.6])
        rate, model = np.array([0.1, 0.3, 0.5]), np.array([0.2, 0.2, 0.4])
        action = rng.choice(3, 2_000, p=logging)
        reward = (rng.random(2_000) < rate[action]).astype(float)
        slots = Slots(
            np.arange(2_000), reward, (judged / logging)[action], model[action], np.full(2_000, judged @ model)
        )
        for name, estimate in off_policy.estimate(slots, seed=draw).items():
            if name in covered:
                covered[name] += estimate.low <= judged @ rate <= estimate.high
    assert min(covered.values()) >= 88, covered


def test_users_are_resampled_whole():
    """Slots of a user are copies of each other: as many users as say something, not as many slots."""
    rng = np.random.default_rng(1)
    reward = np.repeat((rng.random(100) < 0.3).astype(float), 50)
    ones, slots = np.ones(5_000), np.zeros(5_000)
    by_user = off_policy.estimate(Slots(np.repeat(np.arange(100), 50), reward, ones, slots, slots))["ips"]
    by_slot = off_policy.estimate(Slots(np.arange(5_000), reward, ones, slots, slots))["ips"]
    assert by_user.high - by_user.low > 5 * (by_slot.high - by_slot.low)


def test_a_better_policy_is_better_by_an_interval_above_zero():
    rng = np.random.default_rng(2)
    reward = (rng.random(4_000) < 0.2).astype(float)
    zeros, user = np.zeros(4_000), np.arange(4_000)
    good = Slots(user, reward, np.where(reward > 0, 1.5, 0.9), zeros, zeros)
    plain = Slots(user, reward, np.ones(4_000), zeros, zeros)
    gain = off_policy.difference(good, plain)["ips"]
    assert gain.value == pytest.approx(0.5 * reward.mean())
    assert 0 < gain.low < gain.high
    assert off_policy.difference(plain, plain)["ips"].value == 0


def test_effective_slots_count_equal_weights():
    zeros = np.zeros(10)
    assert off_policy.effective_slots(Slots(zeros, zeros, np.full(10, 3.0), zeros, zeros)) == pytest.approx(10)
    assert off_policy.effective_slots(Slots(zeros, zeros, np.eye(10)[0] * 50, zeros, zeros)) == pytest.approx(1)
    weights = np.array([1.0] * 9 + [1_000.0])
    assert off_policy.effective_slots(Slots(zeros, zeros, weights, zeros, zeros), clip=1) == pytest.approx(10)


def test_a_list_earns_what_its_items_earn_wherever_they_were_shown():
    """One user, two items, each always at its place; examination and exposure are known."""
    log = ListLog(
        user=np.zeros(4, int),
        item=np.array([0, 1, 0, 1]),
        position=np.array([1, 2, 1, 2]),
        click=np.array([1.0, 1.0, 0.0, 0.0]),
        predicted=np.zeros(4),
        exposure=np.array([1.0, 0.5, 1.0, 0.5]),
        examination=np.array([1.0, 0.5]),
    )
    ranked = pd.DataFrame({"user": [0, 0], "item": [1, 0], "rank": [1, 2], "attraction": [0.8, 0.4]})
    estimates = off_policy.estimate(off_policy.list_slots(log, ranked, 2))
    # Item 1 attracts with 1 (a click in two lists at half the attention), item 0 with 0.5, seen half as often.
    assert estimates["ips"].value == pytest.approx(1 * 1.0 + 0.5 * 0.5)
    assert estimates["direct"].value == pytest.approx(0.8 * 1.0 + 0.4 * 0.5)
    assert estimates["dr"].value == pytest.approx(0.8 * 1.0 + 0.4 * 0.5 + 1.25)


def test_propensities_at_the_logged_place_give_the_clicks_of_a_list_that_was_never_shown():
    """A site that draws its lists of two with known probabilities, and each item at both places; never 2 before 1."""
    rng = np.random.default_rng(0)
    orders, attention = np.array([[0, 1], [0, 2], [1, 0], [2, 0]]), np.array([1.0, 0.4])
    share, attraction = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.2, 0.5, 0.8])
    shown = orders[rng.choice(4, 20_000, p=share)]  # (lists, 2)
    at_place = np.array([[share[orders[:, place] == item].sum() for place in range(2)] for item in range(3)])
    position = np.tile([1, 2], len(shown))
    item = shown.ravel()
    click = (rng.random(len(item)) < attraction[item] * attention[position - 1]).astype(float)
    exposure = off_policy.logged_exposure(at_place[item, position - 1], np.full(len(item), attention.sum()))
    log = ListLog(np.repeat(np.arange(500), 80), item, position, click, np.zeros(len(item)), exposure, attention)
    ranked = pd.DataFrame({"user": np.repeat(np.arange(500), 2), "item": np.tile([2, 1], 500)})
    ranked = ranked.assign(rank=np.tile([1, 2], 500), attraction=0.0)
    estimates = off_policy.estimate(off_policy.list_slots(log, ranked, 2))
    truth = attraction[2] * 1.0 + attraction[1] * 0.4
    for name in ("ips", "snips", "dr", "sndr"):
        assert estimates[name].low < truth < estimates[name].high, name
        assert estimates[name].value == pytest.approx(truth, rel=0.05), name
    with pytest.raises(ValueError, match="above 0"):
        off_policy.logged_exposure(np.array([0.2, 0.0]), np.ones(2))


def test_users_without_a_judged_list_are_not_expected_to_have_weight():
    """Only half of the users have a list: self-normalised estimates are of these, a list of all users."""
    rng = np.random.default_rng(1)
    user, position = np.repeat(np.arange(200), 20), np.tile([1, 2], 2000)
    item = np.argsort(rng.random((2000, 2)), axis=1).ravel()
    click = (rng.random(4000) < 0.5).astype(float)
    log = ListLog(user, item, position, click, np.zeros(4000), np.full(4000, 0.5 * 2), np.ones(2))
    ranked = pd.DataFrame({"user": np.repeat(np.arange(100), 2), "item": np.tile([0, 1], 100)})
    slots = off_policy.list_slots(log, ranked.assign(rank=np.tile([1, 2], 100), attraction=0.0), 2)
    assert slots.expected_weight == pytest.approx(slots.weight.mean())
    estimates = off_policy.estimate(slots)
    assert estimates["snips"].value == pytest.approx(estimates["ips"].value)


def test_no_slots_have_no_estimate():
    nothing = np.zeros(0)
    with pytest.raises(ValueError, match="need logged slots"):
        off_policy.estimate(Slots(nothing, nothing, nothing, nothing, nothing))


@pytest.fixture(scope="module")
def generated_site():
    return measure_site(World(SimulatorSettings(users=1000, items=300, requests_per_day=1500), scale=1, seed=5))


def test_lists_of_a_generated_site_are_ordered_as_they_are_worth(generated_site):
    site = generated_site["estimated"]
    assert len(site) >= 11
    order, coverage = agreement(site, "sndr")
    assert order >= 0.8
    assert coverage >= 0.7  # of a dozen lists; benchmarks.off_policy has twenty sites
    assert set(next(iter(site.values()))[1]) == set(ESTIMATORS)


def test_logged_propensities_give_intervals_that_have_the_truth(generated_site):
    site = generated_site["logged"]
    assert len(site) >= 11
    order, coverage = agreement(site, "ips")
    assert order >= 0.8
    assert coverage >= 0.9  # 0.27 with estimated ones
