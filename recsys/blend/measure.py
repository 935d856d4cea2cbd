"""What the held-out lists are worth, counted while blocks of them stream past."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from conf.runs import Run
from features.metrics.off_policy import Slots
from features.metrics.ranking import DiversityCounts, ranking_intervals, ranking_metrics
from recsys.blend.funnel import funnel_rows
from recsys.blend.judge import ListCollector, ListJudge
from recsys.blend.lists import BLEND
from recsys.blend.stack import Stack

PAIR = ["user_id", "item_id"]


class HoldoutMeasures:
    """The metrics of the held-out lists by each score.

    All that grows with the users are their positives and what the log says of each: no list and no candidate stays.
    """

    def __init__(self, items: pd.DataFrame, truth: pd.DataFrame, k: int, stack: Stack | None, judge: ListJudge | None):
        """Measure lists of the items, which have category and popularity, by item_id.

        Args:
            items: that could be listed.
            truth: user_id and item_id of the held-out positives.
            k: length of the lists that are judged.
            stack: whose probability at the first place is an item's attraction.
            judge: of lists by the log, if it can.
        """
        self._truth, self._k, self._stack, self._judge = truth, k, stack, judge
        self._pairs = pd.MultiIndex.from_frame(truth[PAIR])
        self._popularity, self._category = items["popularity"].to_dict(), items["category"].to_dict()
        self._candidates: list[pd.DataFrame] = []
        self._hits: dict[str, list[pd.DataFrame]] = {}
        self._diversity: dict[str, DiversityCounts] = {}
        self._judged: dict[str, ListCollector] = {}

    def mark_positives(self, candidates: pd.DataFrame) -> pd.DataFrame:
        """Candidates with `is_positive`: whether the user chose the item among the held-out rows."""
        return candidates.assign(is_positive=pd.MultiIndex.from_frame(candidates[PAIR]).isin(self._pairs))

    def add(self, candidates: pd.DataFrame, lists: Mapping[str, pd.DataFrame]) -> None:
        """Add all candidates of some users, and their lists by each score, all of `mark_positives`."""
        self._candidates.append(candidates.loc[candidates["is_positive"], [*PAIR, "channels"]])
        for score, ranked in lists.items():
            top = ranked[ranked["rank"] <= self._k]
            self._hits.setdefault(score, []).append(hits_of(ranked))
            if score not in self._diversity:
                self._diversity[score] = DiversityCounts(self._k, self._popularity, self._category)
            self._diversity[score].add(top)
            if self._judge and self._stack:
                if score not in self._judged:
                    self._judged[score] = self._judge.collector(self._k)
                self._judged[score].add(top.assign(attraction=self._stack.predict(top)))

    def log_metrics(self, ks: Sequence[int], run: Run) -> dict[str, float]:
        """Log metrics of the lists by each score and by the blend; returns those at k as `<score>_<metric>@k`."""
        users = self._truth["user_id"].nunique()
        metrics: dict[str, float] = {}
        for score in self._hits:
            for (metric, at), value in ranking_metrics(self.hits(score), self._truth, ks).items():
                run.log_metric("evaluate", "holdout", metric, value, users, k=at, model=score)
                if at == self._k:
                    metrics[f"{score}_{metric}@{at}"] = value
            for metric, value in self._diversity[score].metrics().items():
                run.log_metric("evaluate", "holdout", metric, value, users, k=self._k, model=score)
        # Intervals of the blend's lists only: a bootstrap is slow.
        for metric, (low, high) in ranking_intervals(self.hits(BLEND), self._truth, self._k).items():
            run.log_metric("evaluate", "holdout", f"{metric}_low", low, users, k=self._k, model=BLEND)
            run.log_metric("evaluate", "holdout", f"{metric}_high", high, users, k=self._k, model=BLEND)
        return metrics

    def scores(self) -> list[str]:
        """Names of the scores that lists were added of."""
        return list(self._hits)

    def hits(self, score: str) -> pd.DataFrame:
        """Positives among the lists by a score: user_id, item_id and rank."""
        return pd.concat(self._hits[score], ignore_index=True)

    def slots(self) -> dict[str, Slots]:
        """What the log says of the lists by each score that it can judge."""
        slots = {score: collector.slots() for score, collector in self._judged.items()}
        return {score: judged for score, judged in slots.items() if judged is not None}

    def funnel(self, order: str, published: pd.DataFrame, length: int) -> list[dict[str, Any]]:
        """The rows of `funnel_rows`; `published` are the positives among the published lists."""
        candidates = pd.concat(self._candidates, ignore_index=True)
        return funnel_rows(self._truth, candidates, self.hits(order), published, length)


def hits_of(lists: pd.DataFrame) -> pd.DataFrame:
    """Positives among lists of candidates of `mark_positives`: user_id, item_id and rank."""
    return lists.loc[lists["is_positive"], [*PAIR, "rank"]]
