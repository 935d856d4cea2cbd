"""Finished runs as a model registry: champions, lineage of numbers, rollback: `millrace runs`."""

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

from conf import Config, Paths, UserError
from conf.atomic import write_atomically
from conf.runs import (
    INPUTS,
    PROMOTED,
    RUN_KEYS,
    finished_runs,
    promoted_runs,
    promotion_status,
    promotions,
    read_json,
    read_jsonl,
    run_folder,
)
from conf.unfinished import DONE, STARTED, describe_unfinished, unfinished_folders


def list_runs(config: Config, day: date | None, model: str | None) -> list[dict[str, Any]]:
    """List finished runs, newest first.

    Args:
        config: all settings.
        day: only runs for this day, if given.
        model: only runs of this model, if given.

    Returns:
        run_id, model, dt, ended_at and `part`: champion, was champion, rolled back, or empty when never promoted.
    """
    folder = config.get(Paths).runs
    status = promotion_status(folder)
    rows = []
    for run in reversed(finished_runs(folder)):
        if (day is None or run["dt"] == day.isoformat()) and model in (None, run["model"]):
            summary = {key: run[key] for key in ("run_id", "model", "dt", "ended_at")}
            rows.append({**summary, "part": status.get(run["run_id"], "")})
    return rows


def list_unfinished(config: Config, day: date | None, model: str | None) -> list[dict[str, Any]]:
    """List runs that have not ended, newest first: `millrace warehouse vacuum` removes those whose process has ended.

    Arguments are those of `list_runs`.

    Returns:
        run_id, model and dt (None where the run was killed before it noted them), written_at, bytes, and goes_on.
    """
    rows = []
    for folder in reversed(unfinished_folders(config.get(Paths).runs)):
        started: dict[str, Any] = {}
        with suppress(OSError, UserError):  # killed before it was written, or damaged
            started = read_json(folder / STARTED, "model", "dt")
        if (day is None or started.get("dt") == day.isoformat()) and model in (None, started.get("model")):
            named = {"run_id": folder.name, "model": started.get("model"), "dt": started.get("dt")}
            rows.append(named | describe_unfinished(folder))
    return sorted(rows, key=lambda row: row["written_at"], reverse=True)


def describe_run(config: Config, run_id: str) -> dict[str, Any]:
    """Describe a run: its metrics, its settings file and its lineage down to the partitions of tables.

    Returns:
        The content of run.json, `part` as in `list_runs`, `settings`, `metrics` of valid, test and holdout, and
        `inputs`: data sets with their sources, and other runs with inputs of their own.

    Raises:
        UserError: there is no such run, or it was not finished.
    """
    folder = run_folder(config.get(Paths).runs, run_id)
    path = folder / DONE
    if not path.exists():
        problem = "was not finished" if folder.exists() else "does not exist"
        raise UserError(f"run {run_id} {problem}; `millrace runs list` shows all")
    metrics = [row for row in read_jsonl(folder / "metrics.jsonl") if row["split"] in ("valid", "test", "holdout")]
    inputs = [_trace_input(config, row, {run_id}) for row in read_jsonl(folder / INPUTS)]
    return {
        **read_json(path, *RUN_KEYS),
        "part": promotion_status(config.get(Paths).runs).get(run_id, ""),
        "settings": str(folder / "settings.yaml"),
        "metrics": [{key: row[key] for key in ("model", "split", "metric", "k", "value")} for row in metrics],
        "inputs": inputs,
    }


def _trace_input(config: Config, row: dict[str, Any], ancestors: set[str]) -> dict[str, Any]:
    """An input; if it is a run, with that run's own inputs."""
    if row["kind"] != "run" or row["run_id"] in ancestors:  # or a cycle would never end
        return row
    inputs = read_jsonl(run_folder(config.get(Paths).runs, row["run_id"]) / INPUTS)
    return {**row, "inputs": [_trace_input(config, item, {*ancestors, row["run_id"]}) for item in inputs]}


def rollback(config: Config, day: date) -> dict[str, Any]:
    """Take a day's promotion back.

    The runs that were promoted before it are champions again, and `etl results` publishes their lists for the day. Two
    rollbacks of a day go two promotions back.

    Returns:
        day, the `champions` now, all runs `rolled_back` on this day, and the `next` command.

    Raises:
        UserError: the day has no promotion, or there is no different one before it.
    """
    folder = config.get(Paths).runs / PROMOTED
    path = folder / f"{day}.json"
    if not path.exists():
        raise UserError(f"nothing was promoted for {day}")
    promotion = read_json(path)
    earlier = [other for other_day, other in promotions(folder.parent) if other_day < day]
    # Days may have been promoted with the same runs, by an earlier rollback: these are no way back.
    previous = next((other for other in earlier if promoted_runs(other) != promoted_runs(promotion)), None)
    if previous is None:
        raise UserError(f"nothing was promoted before {day}: there is nothing to go back to")
    champions = promoted_runs(previous)
    withdrawn = [run_id for run_id in promoted_runs(promotion).values() if run_id not in champions.values()]
    rolled_back = [*promotion.get("rolled_back", []), *withdrawn]
    content = {**champions, "rolled_back": rolled_back, "rolled_back_at": datetime.now(UTC).isoformat()}
    write_atomically(path, json.dumps(content, indent=2))
    return {
        "day": day.isoformat(),
        "champions": champions,
        "rolled_back": rolled_back,
        "next": "millrace etl results",
    }
