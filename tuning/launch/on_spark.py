"""A round of trials on Spark, one after the other in this process: each uses the whole session."""

import json
import logging
import time

import optuna

from conf import UserError
from conf.errors import error_line
from conf.runs import read_jsonl
from etl.session import spark_session
from tuning.searches.rounds import Round, Row, SearchContext
from tuning.searches.samplers import new_study
from tuning.searches.space import Point
from tuning.targets import Trial
from tuning.targets.trial import Save

log = logging.getLogger(__name__)


def trials(context: SearchContext, search_round: Round) -> list[Row]:
    """Rows of all trials; finished ones are read back from the run folder and not run again."""
    study = new_study(context.search, context.settings.seed)
    if context.search == "grid":
        for point in search_round.space.grid(search_round.trials):
            study.enqueue_trial(point)  # `ask` gives these first
    finished = context.run.folder / f"{search_round.name}.jsonl"
    rows = read_jsonl(finished)
    with spark_session(context.config):
        for number in range(search_round.trials):
            # Also for finished trials: the sampler's draws follow from what it has been told.
            trial = study.ask()
            point = search_round.space.suggest(trial)
            if number >= len(rows):
                rows.append(_trial(context, search_round, number, point))
                # At once: a kill costs the running trial only.
                with finished.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(rows[number]) + "\n")
            if rows[number]["status"] == "done":
                study.tell(trial, rows[number]["objective"])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return rows


def _trial(context: SearchContext, search_round: Round, number: int, point: Point) -> Row:
    row = context.row(search_round, number, point)
    started = time.monotonic()
    reported: dict[str, float] = {}

    def report(metrics: dict[str, float], save: Save | None, last: bool = False) -> None:
        reported.update(metrics)  # once: a trial has one step

    folder = context.run.folder / search_round.name / str(number)
    try:
        context.target.run(context.config.with_values(point), context.data, Trial(1, folder, report))
        row |= {**context.measured(reported), "status": "done", "steps": 1}
    except UserError:  # the command line or the settings are wrong, and so they are for all trials
        raise
    except Exception as error:  # whatever these settings broke: the search goes on with others
        row["error"] = error_line(error)
        log.warning("trial %d failed: %s", row["trial"], row["error"])
    row["seconds"] = time.monotonic() - started
    return row
