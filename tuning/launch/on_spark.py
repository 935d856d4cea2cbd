"""A round of trials on Spark, one after the other in this process."""

import json
import time

import optuna

from conf import UserError
from conf.runs import read_jsonl
from etl.session import spark_session
from tuning.searches.rounds import Round, Row, Searching
from tuning.searches.samplers import new_study
from tuning.searches.space import Point
from tuning.targets import Trial
from tuning.targets.trial import Save


def trials(searching: Searching, part: Round) -> list[Row]:
    """Rows of all trials; finished ones are kept in the run folder and not run again."""
    study = new_study(searching.search, searching.settings.seed)
    if searching.search == "grid":
        for point in part.space.grid(part.trials):
            study.enqueue_trial(point)
    finished = searching.found.folder / f"{part.name}.jsonl"
    rows = read_jsonl(finished)
    with spark_session(searching.config):
        for number in range(part.trials):
            trial = study.ask()
            point = part.space.suggest(trial)
            if number >= len(rows):
                rows.append(_trial(searching, part, number, point))
                with finished.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(rows[number]) + "\n")
            if rows[number]["status"] == "done":
                study.tell(trial, rows[number]["objective"])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return rows


def _trial(searching: Searching, part: Round, number: int, point: Point) -> Row:
    row = searching.row(part, number, point)
    started = time.monotonic()
    reported: dict[str, float] = {}

    def report(metrics: dict[str, float], save: Save | None, last: bool = False) -> None:
        reported.update(metrics)

    folder = searching.found.folder / part.name / str(number)
    try:
        searching.target.run(searching.config.with_values(point), searching.data, Trial(1, folder, report))
        row |= {**searching.measured(reported), "status": "done", "steps": 1}
    except UserError:
        raise
    except Exception as error:
        row["error"] = (str(error).strip().splitlines() or [type(error).__name__])[0]
    row["seconds"] = time.monotonic() - started
    return row
