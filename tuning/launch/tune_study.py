"""A saved study as Ray Tune sees it: a searcher that hands out its trials, a callback that notes how they ended."""

from dataclasses import dataclass
from typing import Any

from ray.tune import Callback
from ray.tune.search import Searcher

from tuning.searches.rounds import Round, SearchContext
from tuning.searches.study import SavedStudy


class StudySearcher(Searcher):  # type: ignore[misc]  # Ray has no types here
    """Asks the study for each trial; its number goes along with its point."""

    def __init__(self, study: SavedStudy) -> None:
        super().__init__()
        self._study = study

    def suggest(self, trial_id: str) -> dict[str, Any]:
        number, point = self._study.ask()
        return {"number": number, "point": point}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the callback knows the error of a trial that failed, too."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study saves itself."""


@dataclass
class NoteResults(Callback):  # type: ignore[misc]
    """Tells the study of each trial that has ended, at once."""

    context: SearchContext
    search_round: Round
    study: SavedStudy

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called by Tune."""
        error = trial.get_pickled_error() or trial.get_error()
        # Without either it never ran: the time of the search was up.
        if error or trial.last_result:
            number, point = trial.config["number"], trial.config["point"]
            row = self.context.reported_row(self.search_round, number, point, trial.last_result or {}, error)
            self.study.tell(number, row)

    on_trial_error = on_trial_complete
