"""What each re-ranking rule costs: the day's held-out list as it is published, beside the list without the rule."""

import logging
from collections.abc import Callable

import pandas as pd

from conf.runs import Run
from features.metrics import off_policy
from features.metrics.off_policy import Estimate
from features.metrics.ranking import ranking_metrics
from recsys.blend.judge import CLIP, ListJudge
from recsys.settings import RecommendSettings

log = logging.getLogger(__name__)

# Rule -> its value in RecommendSettings that leaves lists as they are.
OFF = {
    "diversity": 0.0, "fresh_share": 0.0, "fresh_boost": 0.0, "boosts": {}, "max_per_category": 0, "exclude_items": (),
}  # fmt: skip
ESTIMATOR = "sndr"
MakeLists = Callable[[RecommendSettings], pd.DataFrame]


def active_rules(settings: RecommendSettings) -> list[str]:
    """Names of the rules of `recommend` that change lists."""
    return [rule for rule, off in OFF.items() if getattr(settings, rule) != off]


def lists_without_rules(settings: RecommendSettings, make: MakeLists) -> dict[str, pd.DataFrame]:
    """The lists without each active rule, the others in force, by `published without RULE`."""
    return {
        f"published without {rule}": make(settings.model_copy(update={rule: OFF[rule]}))
        for rule in active_rules(settings)
    }


def log_prices(
    settings: RecommendSettings, make: MakeLists, truth: pd.DataFrame, judge: ListJudge | None, run: Run, k: int
) -> dict[str, float]:
    """Log what the first k items lose by each active rule.

    In clicks a list by the log of what was shown, as metric `rule_price_clicks` with `_low` and `_high`; where there is
    none, or it can't answer, in nDCG on the held-out positives, as `rule_price_ndcg`.

    Args:
        settings: the section `recommend`.
        make: the held-out users' lists by settings: user_id, item_id, rank, and score, which is the click probability
            at the first place where there is a judge.
        truth: held-out positives.
        judge: of the test impressions.
        run: of the day.
        k: length of the lists.

    Returns:
        `<rule>_price_clicks@k` or `<rule>_price_ndcg@k`, below 0 for a rule that earns.
    """
    report: dict[str, float] = {}
    published = make(settings) if active_rules(settings) else pd.DataFrame()
    for name, lists in lists_without_rules(settings, make).items():
        rule = name.rpartition(" ")[2]
        setting = f"recommend.{rule}={getattr(settings, rule)}"
        if price := _clicks(published, lists, judge, k):
            report[f"{rule}_price_clicks@{k}"] = price.value
            bounds = {"": price.value, "_low": price.low, "_high": price.high}
            for suffix, value in bounds.items():
                run.log_metric("evaluate", "holdout", f"rule_price_clicks{suffix}", value, len(lists), k=k, model=rule)
            log.info(
                "rank: %s costs %.3f clicks a list of %d (%.3f to %.3f)", setting, price.value, k, price.low, price.high
            )
            continue
        with_rule, without = (ranking_metrics(one, truth, [k]).get(("ndcg", k), 0.0) for one in (published, lists))
        report[f"{rule}_price_ndcg@{k}"] = without - with_rule
        run.log_metric("evaluate", "holdout", "rule_price_ndcg", without - with_rule, len(lists), k=k, model=rule)
        log.info("rank: %s costs %.4f of nDCG@%d on held-out positives", setting, without - with_rule, k)
    return report


def _clicks(published: pd.DataFrame, without: pd.DataFrame, judge: ListJudge | None, k: int) -> Estimate | None:
    """What the list without a rule earns beyond the published one; None where the log can't answer."""
    if judge is None:
        return None
    slots = []
    for lists in (without, published):
        if (judged := judge.slots(lists[lists["rank"] <= k].rename(columns={"score": "attraction"}), k)) is None:
            return None
        slots.append(judged)
    return off_policy.difference(*slots, clip=CLIP)[ESTIMATOR]
