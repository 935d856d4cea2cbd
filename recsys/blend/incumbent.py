"""The lists of the day beside those that stay if it is not promoted, judged by the same logged impressions.

The champion's lists were published before the test days, so both know nothing of these days' impressions. They are
compared by `snips`, which needs no click model: by a model, each would be judged by what it expects of itself.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from conf.atomic import write_atomically
from conf.runs import RECOMMENDATIONS, Run, promotions, read_json, run_folder
from features.metrics import off_policy
from recsys.blend.judge import CLIP, ListJudge, has_support

COMPARISON_FILE = "incumbent.json"
ESTIMATOR = "snips"
MODEL = "recommend"  # whose runs have the lists


@dataclass(frozen=True)
class Comparison:
    """What the log says of the day's lists and the incumbent's; values are clicks a list."""

    incumbent: str
    """Run id of the incumbent's lists."""
    k: int
    """Length of the lists that are judged."""
    effective_sample_size: float
    """Lists of equal weight that would say as much, of the list of which there are fewer."""
    value: float | None = None
    """Of the day's lists; None, as all below, where the log can't answer."""
    incumbent_value: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    """Lower end of the 95 % interval of the gain, by bootstrap over users, the same for both."""
    gain_high: float | None = None


def incumbent_run(runs: Path, day: date, test_days: int) -> Path | None:
    """Folder of the newest lists that were promoted before the test days, the last of which is `day`, and still are."""
    first_test_day = day - timedelta(days=test_days - 1)
    for promoted_on, promotion in promotions(runs):
        # Lists of a test day would have learned what judges them.
        if promoted_on < first_test_day and MODEL in promotion:
            folder = run_folder(runs, promotion[MODEL])
            if (folder / RECOMMENDATIONS).exists():
                return folder
    return None


def read_comparison(run: Path) -> Comparison | None:
    """The comparison of a ranking run; None where there was nothing to compare with, or by."""
    path = run / COMPARISON_FILE
    return Comparison(**read_json(path)) if path.exists() else None


class IncumbentComparison:
    """Compares lists for the users who have one of both; added some users at a time, and none of them is held."""

    def __init__(self, incumbent: Path, judge: ListJudge, k: int) -> None:
        """Compare with the lists of the run folder `incumbent`, of length k."""
        self._incumbent, self._k = incumbent, k
        self._users = set(pq.read_table(incumbent / RECOMMENDATIONS, columns=["user_id"])["user_id"].to_pylist())
        self._both: set[str] = set()
        self._new, self._old = judge.collector(k), judge.collector(k)

    def add(self, published: pd.DataFrame) -> None:
        """Add the day's lists of users none of whose rows were added before: user_id, item_id, rank and score."""
        lists = published[published["user_id"].isin(self._users)]
        self._both.update(lists["user_id"])
        self._new.add(lists.rename(columns={"score": "attraction"}))

    def write(self, run: Run) -> Comparison:
        """Judge both, write the file of `read_comparison`, and log the gain as a metric of `published`."""
        for lists in _blocks(self._incumbent / RECOMMENDATIONS):
            self._old.add(lists[lists["user_id"].isin(self._both)].rename(columns={"score": "attraction"}))
        comparison = self._compare()
        write_atomically(run.folder / COMPARISON_FILE, json.dumps(asdict(comparison), indent=2))
        ends = {"": comparison.gain, "_low": comparison.gain_low, "_high": comparison.gain_high}
        for suffix, value in ends.items():
            if value is not None:
                metric = f"off_policy_gain{suffix}"
                run.log_metric("evaluate", "holdout", metric, value, len(self._both), k=self._k, model="published")
        return comparison

    def _compare(self) -> Comparison:
        new, old = self._new.match(), self._old.match()
        size = min(off_policy.effective_slots(slots, CLIP) for slots in (new, old))
        about = Comparison(self._incumbent.name, self._k, size)
        if not (has_support(new) and has_support(old)):
            return about
        value, incumbent_value = (off_policy.estimate(slots, clip=CLIP)[ESTIMATOR].value for slots in (new, old))
        gain = off_policy.difference(new, old, clip=CLIP)[ESTIMATOR]
        return Comparison(about.incumbent, about.k, size, value, incumbent_value, gain.value, gain.low, gain.high)


def _blocks(file: Path) -> Iterator[pd.DataFrame]:
    """Row groups of lists; a user's are in one of them."""
    columns = ["user_id", "item_id", "rank", "score"]
    with pq.ParquetFile(file) as lists:
        if not lists.num_row_groups:
            yield lists.read(columns).to_pandas()
        for number in range(lists.num_row_groups):
            yield lists.read_row_group(number, columns).to_pandas()
