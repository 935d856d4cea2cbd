"""What is promoted: the runs, and the data sets that they were made from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from conf import Config, Paths, UserError
from conf.paths import entry
from conf.runs import INPUTS, promoted_runs, promotions, read_json, read_jsonl, run_folder
from conf.unfinished import DONE
from conf.versions import current_version
from features.compatibility import TIMEZONE
from features.dataset.names import examples_version

LISTS = "recommend"  # name of the run that ranks the lists; its module would import all rankers
LAYOUT = 3  # of the state's files: another one is built anew


@dataclass(frozen=True)
class Publication:
    """The newest promotion, or what a rollback has gone back to.

    Attributes:
        key: names the promoted runs and the data sets; equal keys have the same state.
        promoted_for: day of the promotion.
        day: day of the models and lists, which is earlier after a rollback.
        lists: folder of the run that ranked the lists.
        runs: model -> folder of the run, of every ranker that took part in the blend.
        candidates: folder of the candidates.
        examples: folder of the training set.
        statistics: of the training set.
        sources: table -> partition -> URL of the folder that it was read from.
        exclude: `recall.exclude` of the candidates.
    """

    key: str
    promoted_for: date
    day: date
    lists: Path
    runs: Mapping[str, Path]
    candidates: Path
    examples: Path
    statistics: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, str]]
    exclude: str = "clicked"

    @property
    def zone(self) -> str:
        """Time zone of the hours and days that features have."""
        return str(self.statistics.get(TIMEZONE, "UTC"))


def newest_publication(config: Config, promoted_for: date | None = None) -> Publication | None:
    """Read what is promoted now, or was for a day, by a few small files; None when nothing was.

    Raises:
        UserError: a run or a data set of the promotion is gone; the message names it.
    """
    runs = config.get(Paths).runs
    newest = next((pair for pair in promotions(runs) if promoted_for in (None, pair[0])), None)
    if newest is None:
        return None
    promoted_for, promotion = newest
    lists = run_folder(runs, promoted_runs(promotion).get(LISTS))
    if not (lists / DONE).exists():
        raise UserError(f"the promoted run {lists.name} of {promoted_for} is not in {runs}")
    day = date.fromisoformat(str(read_json(lists / DONE, "dt")["dt"]))
    inputs = read_jsonl(lists / INPUTS)
    folders = [run_folder(runs, row["run_id"]) for row in inputs if row["kind"] == "run"]
    models = {str(read_json(f / DONE, "model")["model"]): f for f in folders if (f / DONE).exists()}
    examples, about_examples = examples_version(config, day)
    candidates, about = current_version(
        config.get(Paths).datasets("candidates", day), command=f"millrace recsys recall --date {day}"
    )
    # The version that was ranked, while it is there: a later one has other features.
    ranked = next((row for row in inputs if row["kind"] == "candidates"), {})
    if (of_lists := entry(candidates.parent, str(ranked.get("version", candidates.name)), "version")).exists():
        candidates = of_lists
    identity = [LAYOUT, day.isoformat(), lists.name, sorted(f.name for f in folders), candidates.name, examples.name]
    return Publication(
        key=f"{day}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}",
        promoted_for=promoted_for,
        day=day,
        lists=lists,
        runs=models,
        candidates=candidates,
        examples=examples,
        statistics=about_examples["statistics"],
        # Those of the candidates are newer, and less likely to be gone.
        exclude=str(ranked.get("exclude", about.get("exclude", "clicked"))),
        sources={**_by_table(about_examples.get("sources", [])), **_by_table(about.get("sources", []))},
    )


def _by_table(sources: list[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {}
    for source in sources:
        tables.setdefault(source["table"], {})[source["partition"]] = source["location"]
    return tables
