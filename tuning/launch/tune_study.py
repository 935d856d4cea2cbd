"""A saved study as Ray Tune sees it: a searcher that hands out its trials, a callback that notes how they ended."""

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


class NoteResults(Callback):  # type: ignore[misc]
    """Tells the study of each trial that has ended, at once."""

    def __init__(self, context: SearchContext, search_round: Round, study: SavedStudy) -> None:
        self._context, self._round, self._study = context, search_round, study

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Without a result it never ran: the time of the search was up.
        if trial.last_result:
            self._tell(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trial, trial.get_pickled_error() or trial.get_error())

    def _tell(self, trial: Any, error: Exception | None) -> None:
        number, point = trial.config["number"], trial.config["point"]
        row = self._context.reported_row(self._round, number, point, trial.last_result or {}, error)
        self._study.tell(number, row)
