"""A search on Ray Tune: `millrace tune fm --date D --search bayes --trials 40`.

Trials are judged by the validation rows. The best of those that keep the limits is trained once more and measured once
on the test rows. The run folder holds every trial, the best, the importance of each setting and pictures.
"""

import json
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from typing import Any

from conf import Config, Paths, UsageError, UserError
from conf.cli import one_of
from conf.runs import Run, start_run, unfinished_run
from conf.tuned import save_tuned_settings
from conf.versions import describe_version
from recsys.dataset import examples_folder
from training.launch.ray_session import ray_session
from training.limits import Limit
from tuning import explain
from tuning.searches.judge import Judge
from tuning.searches.rounds import Round, Row, Searching
from tuning.searches.samplers import SEARCHES
from tuning.searches.space import Space, space_of
from tuning.settings import TuneSettings
from tuning.targets import target_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """What `run` is asked for, besides the model."""

    search: str
    trials: int
    zoom: bool = False
    resume: bool = False
    apply: bool = False


def run(config: Config, model: str, day: date, how: Search) -> dict[str, Any]:
    """Search and leave a run folder; returns the best trial and its numbers on the test rows.

    `how.resume` goes on in the newest search of the model and day that was broken off: finished trials are kept.
    """
    one_of("search", how.search, SEARCHES)
    target, settings = target_of(model), config.get(TuneSettings)
    if how.search == "pbt" and not target.can_change:
        raise UsageError(f"{model} can't change its settings while it trains: --search pbt is for fm and deep models")
    judge = Judge(settings.metric or target.metric, [Limit.parse(text) for text in settings.limits])
    space = space_of(model, target.family, settings.space, settings.only)
    data = target.data(config, day)  # before anything is started: it may not be there
    name = f"tune-{model}".replace(":", ".")
    unfinished = unfinished_run(config, name, day) if how.resume else None
    if how.resume and unfinished is None:
        raise UserError(f"no unfinished search of {model} for {day} to resume")
    with (
        start_run(config, name, day, resumed=unfinished) as run,
        nullcontext() if target.on_spark else ray_session(config),
    ):
        if not target.on_spark:
            run.log_dataset(describe_version(examples_folder(config, day)))
        searching = Searching(config, target, data, how.search, judge, run)
        rows = _all_rounds(searching, how, space)
        best = judge.best(rows)
        point = best["point"]
        numbers = target.test(config.with_values(point), day)
        tested = int(numbers.pop("rows", 0))
        _write(run, model, rows, best, judge)
        run.log_metrics("tune", "test", numbers, tested)
        importance = explain.write(run.folder, rows, space, judge.metric)
        for setting, value in importance.items():
            run.log_metric("tune", "valid", f"importance {setting}", value, len(rows))
    if how.apply:
        log.info("from now on: %s", save_tuned_settings(config.get(Paths).root, model, point))
    return {
        "run_id": run.run_id,
        "trials": len(rows),
        "best": point,
        judge.metric: best["value"],
        **{f"test_{metric}": value for metric, value in numbers.items()},
        "importance": importance,
        "pictures": str(run.folder / explain.PICTURES),
    }


def _all_rounds(searching: Searching, how: Search, space: Space) -> list[Row]:
    """One round, or a wide and cheap one and a second around its best."""
    settings = searching.settings
    if not how.zoom:
        return _round(searching, Round("all", space, how.trials, 1.0, 0))
    if how.trials < 4:
        raise UserError("--zoom wants 4 trials or more")
    wide = max(round(how.trials * settings.wide_trials), 2)
    rows = _round(searching, Round("wide", space, wide, settings.wide_budget, 0))
    good = searching.judge.ordered(rows)[: max(round(len(rows) * settings.zoom_best), 2)]
    if not good:
        raise UserError("every trial of the wide round failed; see trials.jsonl of the run")
    near = space.around([row["point"] for row in good])
    fine = _round(searching, Round("near", near, how.trials - wide, 1.0, wide))
    # A number that was won on a part of the data is no match for one that was won on all.
    return [{**row, "status": "stopped" if row["status"] == "done" else row["status"]} for row in rows] + fine


def _round(searching: Searching, part: Round) -> list[Row]:
    if searching.target.on_spark:
        from tuning.launch import on_spark

        return on_spark.trials(searching, part)
    from tuning.launch import on_ray

    return on_ray.trials(searching, part)


def _write(run: Run, model: str, rows: list[Row], best: Row, judge: Judge) -> None:
    """The files that `etl results` loads; a run that is resumed writes them anew."""
    for name in ("trials.jsonl", "best.jsonl", "metrics.jsonl"):
        (run.folder / name).unlink(missing_ok=True)
    about = {"model": model, "metric": judge.metric}
    for row in rows:
        summary = {key: row[key] for key in ("trial", "value", "seed", "seconds", "steps", "status", "error")}
        texts = {"parameters": _json(row["point"]), "metrics": _json(row["metrics"])}
        run.log_trial(**about, **summary, **texts)
    run.log_best_trial(**about, trial=best["trial"], parameters=_json(best["point"]), value=best["value"])


def _json(values: dict[str, Any]) -> str:
    return json.dumps(dict(sorted(values.items())))
