"""A round of trials on Spark, one after the other in this process: each uses the whole session."""

import logging
import math
import time

from conf import UserError
from conf.errors import error_line
from etl.session import spark_session
from tuning.searches.rounds import Round, Row, SearchContext
from tuning.searches.space import Point
from tuning.searches.study import open_study
from tuning.targets import Trial
from tuning.targets.trial import Save

log = logging.getLogger(__name__)


def trials(context: SearchContext, search_round: Round) -> list[Row]:
    """Rows of all trials; of a round that was interrupted only those are run that had not ended."""
    study, total = open_study(context, search_round)
    seconds = context.settings.seconds or math.inf
    started = time.monotonic()
    with spark_session(context.config):
        # A trial is not stopped half-way: each is one job of Spark's.
        while len(study.rows) < total and time.monotonic() - started < seconds:
            number, point = study.ask()
            study.tell(number, _trial(context, search_round, number, point))
    return study.ordered_rows()


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
