"""A study that outlives its process: each draw and each result is a line of a file, from which it is replayed."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from conf import UserError
from conf.runs import read_jsonl
from tuning.searches.rounds import Round, Row, SearchContext
from tuning.searches.samplers import new_study, sampler
from tuning.searches.space import Point, Space


class SavedStudy:
    """Optuna's ask and tell over a space, saved line by line.

    Replaying draws and results in their order brings the sampler to the state that it had, its random numbers included.
    Ray Tune's own state won't do for that: it is copied file by file in the background, so that a kill may leave trials
    and sampler of different moments; a search that resumed from it was seen to wait for ever.
    """

    def __init__(self, file: Path, space: Space, sampler: BaseSampler, grid: Sequence[dict[str, Any]] = ()) -> None:
        """Read `file` again, if there is one.

        Args:
            file: JSON lines, `{"drawn": point}` or `{"trial": number, "row": row}`; appended to.
            space: where points are drawn.
            sampler: a fresh one; after a kill, one with the same seed.
            grid: parameters that come first, in this order, before the sampler draws any.

        Raises:
            UserError: the file is damaged, or its points were drawn with other settings.
        """
        self.rows: dict[int, Row] = {}
        self._file, self._space = file, space
        self._study = new_study(sampler)
        for parameters in grid:
            self._study.enqueue_trial(parameters)
        self._trials: list[optuna.trial.Trial] = []
        self._points: list[Point] = []
        if file.exists():
            os.truncate(file, file.read_bytes().rfind(b"\n") + 1)  # a line that a kill cut off
        for line in read_jsonl(file):
            self._replay(line)
        # Begun by an earlier process and not finished: they come first.
        self._open = [number for number in range(len(self._points)) if number not in self.rows]

    def ask(self) -> tuple[int, Point]:
        """Number and point of the next trial."""
        if self._open:
            number = self._open.pop(0)
            return number, self._points[number]
        point = self._draw()
        self._append({"drawn": point})
        return len(self._points) - 1, point

    def tell(self, number: int, row: Row) -> None:
        """The row of a trial that has ended; one that failed counts as no measurement."""
        self._append({"trial": number, "row": row})
        self._finish(number, row)

    def ordered_rows(self) -> list[Row]:
        """Rows of all trials that have ended, by number."""
        return [self.rows[number] for number in sorted(self.rows)]

    def _draw(self) -> Point:
        trial = self._study.ask()
        self._trials.append(trial)
        self._points.append(self._space.suggest(trial))
        return self._points[-1]

    def _finish(self, number: int, row: Row) -> None:
        self.rows[number] = row
        if row["status"] == "failed":
            self._study.tell(self._trials[number], state=TrialState.FAIL)
        else:
            self._study.tell(self._trials[number], row["objective"])

    def _replay(self, line: dict[str, Any]) -> None:
        if "row" in line:
            # The point as it was drawn: JSON has lists for tuples.
            self._finish(line["trial"], line["row"] | {"point": self._points[line["trial"]]})
        elif json.dumps(self._draw()) != json.dumps(line["drawn"]):
            raise UserError(
                f"{self._file} was written with another seed, space or version of Optuna: start a new search"
                " without --resume"
            )

    def _append(self, line: dict[str, Any]) -> None:
        # At once: a kill costs the running trials only.
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")


def open_study(context: SearchContext, search_round: Round) -> tuple[SavedStudy, int]:
    """The study of a round, as far as it has come, and the number of trials that it shall have in all."""
    grid = search_round.space.grid(search_round.trials) if context.search == "grid" else []
    study = SavedStudy(
        context.run.folder / f"{search_round.name}.jsonl",
        search_round.space,
        sampler(context.search, context.settings.seed, 1 if context.target.on_spark else context.settings.parallel),
        grid,
    )
    # A grid may have fewer points than trials were asked for; drawn ones would follow.
    return study, len(grid) or search_round.trials
