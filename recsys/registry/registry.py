"""Runs as a register of models: what is champion, where a number came from, and going back: `millrace runs`."""

import json
import logging
from datetime import UTC, date, datetime
from typing import Any

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.runs import DONE, INPUTS, PROMOTED, finished_runs, promoted_runs, promotion_status, read_jsonl

log = logging.getLogger(__name__)


def runs_of(config: Config, day: date | None, model: str | None) -> list[dict[str, Any]]:
    """Finished runs, newest first, each with its part: champion, was champion, or nothing."""
    folder = config.get(Paths).runs
    parts = promotion_status(folder)
    rows = []
    for run in reversed(finished_runs(folder)):
        if (day is None or run["dt"] == day.isoformat()) and model in (None, run["model"]):
            summary = {key: run[key] for key in ("run_id", "model", "dt", "ended_at")}
            rows.append({**summary, "part": parts.get(run["run_id"], "")})
    return rows


def show(config: Config, run_id: str) -> dict[str, Any]:
    """All that is known of a run: numbers, settings file, and what it read, down to the partitions of tables."""
    folder = config.get(Paths).runs / run_id
    path = folder / DONE
    if not path.exists():
        problem = "was not finished" if folder.exists() else "does not exist"
        raise UserError(f"run {run_id} {problem}; `millrace runs list` shows all")
    metrics = [row for row in read_jsonl(folder / "metrics.jsonl") if row["split"] in ("valid", "test", "holdout")]
    inputs = [_traced(config, row, {run_id}) for row in read_jsonl(folder / INPUTS)]
    return {
        **json.loads(path.read_text(encoding="utf-8")),
        "part": promotion_status(config.get(Paths).runs).get(run_id, ""),
        "settings": str(folder / "settings.yaml"),
        "metrics": [{key: row[key] for key in ("model", "split", "metric", "k", "value")} for row in metrics],
        "inputs": inputs,
    }


def _traced(config: Config, row: dict[str, Any], ancestors: set[str]) -> dict[str, Any]:
    """An input; one that is a run with that run's own inputs."""
    if row["kind"] != "run" or row["run_id"] in ancestors:
        return row
    folder = config.get(Paths).runs / row["run_id"]
    return {**row, "inputs": [_traced(config, one, {*ancestors, row["run_id"]}) for one in read_jsonl(folder / INPUTS)]}


def rollback(config: Config, day: date) -> dict[str, Any]:
    """Take the day's promotion back: the runs that were promoted before it are champions again, and their lists are
    what `etl results` publishes for the day.

    Raises UserError when the day has no promotion, or there is none before it.
    """
    folder = config.get(Paths).runs / PROMOTED
    path = folder / f"{day}.json"
    if not path.exists():
        raise UserError(f"nothing was promoted for {day}")
    now = json.loads(path.read_text(encoding="utf-8"))
    earlier = [other for other in sorted(folder.glob("*.json")) if other.stem < day.isoformat()]
    promotions = [json.loads(other.read_text(encoding="utf-8")) for other in reversed(earlier)]
    before = next((one for one in promotions if promoted_runs(one) != promoted_runs(now)), None)
    if before is None:
        raise UserError(f"nothing was promoted before {day}: there is nothing to go back to")
    runs, gone = promoted_runs(before), promoted_runs(now).values()
    new = {**runs, "rolled_back": [*now.get("rolled_back", []), *(one for one in gone if one not in runs.values())]}
    write_atomically(path, json.dumps({**new, "rolled_back_at": datetime.now(UTC).isoformat()}, indent=2))
    return {
        "day": day.isoformat(),
        "champions": runs,
        "rolled_back": new["rolled_back"],
        "next": "millrace etl results",
    }
