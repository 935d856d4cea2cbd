"""What each re-ranking rule costs: the day's held-out list as it is published, beside the list without the rule."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from conf.runs import Run
from features.metrics import off_policy
from features.metrics.off_policy import Estimate
from features.metrics.ranking import ranking_metrics
from recsys.blend.judge import CLIP, ListCollector, ListJudge
from recsys.settings import RecommendSettings

log = logging.getLogger(__name__)

# Rule -> its value in RecommendSettings that leaves lists as they are.
OFF: Mapping[str, Any] = {
    "diversity": 0.0, "fresh_share": 0.0, "fresh_boost": 0.0, "boosts": {}, "max_per_category": 0, "exclude_items": (),
}  # fmt: skip
ESTIMATOR = "sndr"
PUBLISHED = "published"
MakeLists = Callable[[RecommendSettings], pd.DataFrame]
"""By the section `recommend`."""


def active_rules(settings: RecommendSettings) -> list[str]:
    """Names of the rules of `recommend` that change lists."""
    return [rule for rule, off in OFF.items() if getattr(settings, rule) != off]


def published_lists(settings: RecommendSettings, make: MakeLists) -> dict[str, pd.DataFrame]:
    """The lists as `published`, and without each active rule, the others in force, as `published without RULE`."""
    without = {rule: settings.model_copy(update={rule: OFF[rule]}) for rule in active_rules(settings)}
    lists = {PUBLISHED: make(settings)}
    return lists | {f"{PUBLISHED} without {rule}": make(one) for rule, one in without.items()}


class RulePrices:
    """What the first k items of held-out lists lose by each active rule; lists are added some users at a time."""

    def __init__(self, settings: RecommendSettings, judge: ListJudge | None, k: int) -> None:
        """Compare lists of length k.

        Args:
            settings: the section `recommend`.
            judge: of the test impressions; None where nothing was shown.
            k: length of the lists.
        """
        self._settings, self._judge, self._k = settings, judge, k
        self._hits: dict[str, list[pd.DataFrame]] = {}
        self._judged: dict[str, ListCollector] = {}
        self._rows: dict[str, int] = {}

    def add(self, lists: Mapping[str, pd.DataFrame]) -> None:
        """Add the lists of `published_lists` of users none of whose rows were added before.

        They have user_id, item_id, rank, is_positive, and score, which is the click probability at the first place
        where there is a judge.
        """
        for name, ranked in lists.items() if active_rules(self._settings) else ():
            self._rows[name] = self._rows.get(name, 0) + len(ranked)
            hits = ranked.loc[ranked["is_positive"], ["user_id", "item_id", "rank"]]
            self._hits.setdefault(name, []).append(hits)
            if self._judge is not None:
                if name not in self._judged:
                    self._judged[name] = self._judge.collector(self._k)
                self._judged[name].add(ranked.rename(columns={"score": "attraction"}))

    def log_metrics(self, truth: pd.DataFrame, run: Run) -> dict[str, float]:
        """Log each rule's price in clicks a list by the log of what was shown, as `rule_price_clicks` with `_low` and
        `_high`; where there is no log, or it can't answer, in nDCG on the held-out positives, as `rule_price_ndcg`.

        Args:
            truth: held-out positives.
            run: of the day.

        Returns:
            `<rule>_price_clicks@k` or `<rule>_price_ndcg@k`, below 0 for a rule that earns.
        """
        report: dict[str, float] = {}
        for rule in active_rules(self._settings) if self._hits else ():
            name, k = f"{PUBLISHED} without {rule}", self._k
            setting = f"recommend.{rule}={getattr(self._settings, rule)}"
            if price := self._clicks(name):
                report[f"{rule}_price_clicks@{k}"] = price.value
                bounds = {"": price.value, "_low": price.low, "_high": price.high}
                for suffix, value in bounds.items():
                    metric = f"rule_price_clicks{suffix}"
                    run.log_metric("evaluate", "holdout", metric, value, self._rows[name], k=k, model=rule)
                text = "rank: %s costs %.3f clicks a list of %d (%.3f to %.3f)"
                log.info(text, setting, price.value, k, price.low, price.high)
                continue
            cost = self._ndcg(name, truth) - self._ndcg(PUBLISHED, truth)
            report[f"{rule}_price_ndcg@{k}"] = cost
            run.log_metric("evaluate", "holdout", "rule_price_ndcg", cost, self._rows[name], k=k, model=rule)
            log.info("rank: %s costs %.4f of nDCG@%d on held-out positives", setting, cost, k)
        return report

    def _clicks(self, name: str) -> Estimate | None:
        """What the list without a rule earns beyond the published one; None where the log can't answer."""
        if not self._judged:
            return None
        without, published = self._judged[name].slots(), self._judged[PUBLISHED].slots()
        if without is None or published is None:
            return None
        return off_policy.difference(without, published, clip=CLIP)[ESTIMATOR]

    def _ndcg(self, name: str, truth: pd.DataFrame) -> float:
        metrics = ranking_metrics(pd.concat(self._hits[name], ignore_index=True), truth, [self._k])
        return metrics.get(("ndcg", self._k), 0.0)
