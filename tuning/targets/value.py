"""What lists by a ranker under trial would earn, by the log of what the site showed: `tune.metric=off_policy_snips`.

The ranker alone orders the day's candidates, of channels that know nothing of the rows that judge. `snips` needs no
click model; how much each place is looked at comes from the day's fine ranker, the same for all trials.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf import Config, UserError
from features.dataset.names import PROPENSITY
from features.metrics import off_policy
from recsys.blend.judge import CLIP, POSITION, ListJudge, at_first_place, has_support, judge_after
from recsys.dataset import Rows, candidates_folder, examples_folder, read_rows
from recsys.fine import train as fine
from tuning.settings import TuneSettings

METRIC = "off_policy_snips"
LENGTH = 10  # of the lists that are judged
# Split -> candidates that know nothing of its rows, and the splits before it.
CANDIDATES = {"valid": ("fit", ("train",)), "test": ("holdout", ("train", "valid"))}


@dataclass(frozen=True)
class ListValue:
    """Logged lists, and the candidates of their users."""

    judge: ListJudge
    candidates: Rows
    codes: pd.DataFrame
    """user and item of each candidate, as the judge numbers them; users' rows are together."""

    def measure(self, predict: Callable[[Rows], NDArray[Any]]) -> dict[str, float]:
        """Clicks to expect of a list of ten by the predicted scores, and how many lists of equal weight say so.

        Raises:
            UserError: the log shows too little of these lists.
        """
        order = np.lexsort((-np.asarray(predict(self.candidates), np.float64), self.codes["user"]))
        lists = self.codes.iloc[order]
        lists = lists.assign(rank=lists.groupby("user", sort=False).cumcount() + 1, attraction=0.0)
        slots = self.judge.match_codes(lists[lists["rank"] <= LENGTH], LENGTH)
        size = off_policy.effective_slots(slots, CLIP)
        if not has_support(slots):
            raise UserError(f"the log can't judge the lists of a trial: it shows them as {size:.0f} lists would")
        return {METRIC: off_policy.estimate(slots, clip=CLIP)["snips"].value, "effective_sample_size": size}


def list_value(config: Config, day: date, split: str) -> ListValue | None:
    """What judges trials on a split, valid or test; None when no search asks for it.

    Raises:
        UserError: the day has no candidates or no fine ranker yet, or its log says nothing of what was shown.
    """
    if config.get(TuneSettings).metric != METRIC:
        return None
    folder, (name, earlier) = examples_folder(config, day), CANDIDATES[split]
    rows = read_rows(folder / split, ["user_id", "item_id", "at_s"], optional=(PROPENSITY,))
    if not rows.sparse[:, POSITION].any():
        raise UserError(f"the log of {day} says nothing of what was shown and not clicked: no {METRIC} of it")
    predict = fine.predictor(config, day, split)
    judge = judge_after(folder, earlier, rows, predict(rows), predict(at_first_place(rows)))
    candidates = read_rows(candidates_folder(config, day) / name, ["user_id", "item_id"])
    chosen = candidates[candidates.keys["user_id"].isin(set(rows.keys["user_id"])).to_numpy()]
    pairs = pd.DataFrame(chosen.keys).assign(rank=0, attraction=0.0)
    codes = judge.codes(pairs)[["user", "item"]].reset_index(drop=True)
    return ListValue(judge, replace(chosen, keys={}), codes)
