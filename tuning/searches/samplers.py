"""The searches, as Optuna's samplers behind Ray Tune's interface; each minimises the objective."""

import warnings
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.samplers.nsgaii import BLXAlphaCrossover
from optuna.trial import Trial

from tuning.searches.space import Space

OBJECTIVE = "objective"
SEARCHES = ("grid", "random", "bayes", "evolution", "pbt")
POPULATION = 10  # of the evolutionary search


def sampler(search: str, seed: int, parallel: int = 1) -> BaseSampler:
    """`grid` walks points that are given, `pbt` draws at random and changes them while they train."""
    if search == "bayes":
        # Trials in the air are taken for bad ones, so that two at a time don't ask the same.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=parallel > 1, n_startup_trials=8)
    if search == "evolution":
        # Blended parents are new points; swapped ones are often a point that was tried.
        return NSGAIISampler(population_size=POPULATION, crossover=BLXAlphaCrossover(), seed=seed)
    return RandomSampler(seed=seed)


def searcher(space: Space, search: str, seed: int, trials: int, parallel: int = 1) -> Any:
    """A search for Ray Tune; its state is saved with each trial, so that a killed search goes on as it was."""
    from ray.tune.search.optuna import OptunaSearch

    _quiet()
    return OptunaSearch(
        space=Suggest(space),
        metric=OBJECTIVE,
        mode="min",
        sampler=sampler(search, seed, parallel),
        points_to_evaluate=space.grid(trials) if search == "grid" else None,
    )


def new_study(search: str, seed: int = 0) -> optuna.Study:
    """An empty study that minimises, for trials in this process."""
    _quiet()
    return optuna.create_study(direction="minimize", sampler=sampler(search, seed))


def _quiet() -> None:
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class Suggest:
    """Draws a point of a space; its values under their settings' names, beside Optuna's own parameters."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def __call__(self, trial: Trial) -> dict[str, Any]:
        return {f"point/{name}": value for name, value in self.space.suggest(trial).items()}


def point_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """The settings among what the searcher hands to a trial."""
    return dict(parameters["point"])
