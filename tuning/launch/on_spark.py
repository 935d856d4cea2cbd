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
    kept = read_jsonl(finished)
    with spark_session(searching.config):
        for number in range(part.trials):
            asked = study.ask()
            point = part.space.suggest(asked)
            if number >= len(kept):
                kept.append(_trial(searching, part, number, point))
                with finished.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(kept[number]) + "\n")
            if kept[number]["status"] == "done":
                study.tell(asked, kept[number]["objective"])
            else:
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
    return kept


def _trial(searching: Searching, part: Round, number: int, point: Point) -> Row:
    row = searching.row(part, number, point)
    started = time.monotonic()
    told: dict[str, float] = {}

    def report(metrics: dict[str, float], save: Save | None, last: bool = False) -> None:
        told.update(metrics)

    folder = searching.found.folder / part.name / str(number)
    try:
        searching.target.run(searching.config.with_values(point), searching.data, Trial(1, folder, report))
        row |= {**searching.measured(told), "status": "done", "steps": 1}
    except UserError:
        raise
    except Exception as error:
        row["error"] = (str(error).strip().splitlines() or [type(error).__name__])[0]
    row["seconds"] = time.monotonic() - started
    return row
