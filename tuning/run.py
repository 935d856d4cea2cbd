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
from conf.console.cli import one_of
from conf.runs import Run, start_run, unfinished_run
from conf.tuned import save_tuned_settings
from conf.versions import describe_version
from recsys.dataset import examples_folder
from training.finished.limits import Limit
from training.launch.ray_session import ray_session
from tuning import explain
from tuning.searches.judge import Judge
from tuning.searches.rounds import Round, Row, SearchContext
from tuning.searches.samplers import SEARCHES
from tuning.searches.space import Space, space_of
from tuning.settings import TuneSettings
from tuning.targets import target_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """How to search: sampler, number of trials, and what to do with the best."""

    search: str
    trials: int
    zoom: bool = False
    resume: bool = False
    apply: bool = False


def run(config: Config, model: str, day: date, how: Search) -> dict[str, Any]:
    """Search the settings of `model` on the training set of `day` and leave a run folder.

    Trials are compared on validation rows. Only the best is trained again and measured once on the test rows.
    `how.resume` continues the newest search of the model and day that was interrupted: finished trials are kept.

    Returns:
        The best trial's settings and metric, its test metrics, and the importance of each setting.

    Raises:
        UsageError: an unknown search, model or space.
        UserError: the day has no training set, no trial ended within the limits, or there is nothing to resume.
    """
    one_of("search", how.search, SEARCHES)
    target, settings = target_of(model), config.get(TuneSettings)
    if how.search == "pbt" and not target.can_change:
        raise UsageError(f"{model} can't change its settings while it trains: --search pbt is for fm and deep models")
    judge = Judge(settings.metric or target.metric, [Limit.parse(text) for text in settings.limits])
    space = space_of(model, target.family, settings.space, settings.only)
    data = target.data(config, day)  # before anything is started: it may not be there
    # `a:b` names a user's own builder, and a folder should have no colon.
    name = f"tune-{model}".replace(":", ".")
    unfinished = unfinished_run(config, name, day) if how.resume else None
    if how.resume and unfinished is None:
        raise UserError(f"no unfinished search of {model} for {day} to resume")
    with (
        start_run(config, name, day, resumed=unfinished) as run,
        # Trials on Spark open their session themselves.
        nullcontext() if target.on_spark else ray_session(config),
    ):
        if not target.on_spark:
            run.log_dataset(describe_version(examples_folder(config, day)))
        context = SearchContext(config, target, settings, data, how.search, judge, run)
        rows = _all_rounds(context, how, space)
        best = judge.best(rows)
        point = best["point"]
        # Only now, and once: the best of many on the test rows would be the luckiest.
        numbers = target.test(config.with_values(point), day)
        tested = int(numbers.pop("rows", 0))
        _write(run, model, rows, best, judge)
        run.log_metrics("tune", "test", numbers, tested)
        importance = explain.write(run.folder, rows, space, judge.metric)
        # As metrics, so that they reach the warehouse with the others.
        for setting, value in importance.items():
            run.log_metric("tune", "valid", f"importance {setting}", value, len(rows))
    # After the run has ended well: a search that broke off must not change later commands.
    if how.apply:
        log.info("from now on: %s", save_tuned_settings(config.get(Paths).root, model, point))
    return {
        "run_id": run.run_id,
        "trials": len(rows),
        "best": point,
        judge.metric: best["value"],
        **{f"test_{metric}": value for metric, value in numbers.items()},
        "importance": importance,
        "pictures": str(run.folder / explain.PAGE),
    }


def _all_rounds(context: SearchContext, how: Search, space: Space) -> list[Row]:
    """One round, or a wide and cheap one and a second around its best."""
    if not how.zoom:
        return _round(context, Round("all", space, how.trials, 1.0, 0))
    if how.trials < 4:
        raise UserError("--zoom wants 4 trials or more")
    settings = context.settings
    wide = max(round(how.trials * settings.wide_trials), 2)
    rows = _round(context, Round("wide", space, wide, settings.wide_budget, 0))
    # Two at least: one point alone says nothing of how far a good region reaches.
    good = context.judge.ordered(rows)[: max(round(len(rows) * settings.zoom_best), 2)]
    if not good:
        raise UserError("every trial of the wide round failed; see trials.jsonl of the run")
    near = space.around([row["point"] for row in good])
    fine = _round(context, Round("near", near, how.trials - wide, 1.0, wide))
    # Metrics of trials on a part of the data don't compare with those of trials on all of it.
    return [{**row, "status": "stopped" if row["status"] == "done" else row["status"]} for row in rows] + fine


def _round(context: SearchContext, search_round: Round) -> list[Row]:
    # Each imports its engine, and no search needs both.
    if context.target.on_spark:
        from tuning.launch import on_spark

        return on_spark.trials(context, search_round)
    from tuning.launch import on_ray

    return on_ray.trials(context, search_round)


def _write(run: Run, model: str, rows: list[Row], best: Row, judge: Judge) -> None:
    """The files that `etl results` loads; a resumed run writes them again."""
    for name in ("trials.jsonl", "best.jsonl", "metrics.jsonl"):
        (run.folder / name).unlink(missing_ok=True)
    about = {"model": model, "metric": judge.metric}
    for row in rows:
        summary = {key: row[key] for key in ("trial", "value", "seed", "seconds", "steps", "status", "error")}
        # By name, so that equal points are equal texts in the table.
        parameters, metrics = (json.dumps(row[key], sort_keys=True) for key in ("point", "metrics"))
        run.log_trial(**about, **summary, parameters=parameters, metrics=metrics)
    parameters = json.dumps(best["point"], sort_keys=True)
    run.log_best_trial(**about, trial=best["trial"], parameters=parameters, value=best["value"])
