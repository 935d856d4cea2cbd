"""The searches, as Optuna's samplers behind Ray Tune's interface; each minimises the objective."""

import warnings
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.samplers.nsgaii import BLXAlphaCrossover
from optuna.trial import Trial

from tuning.searches.space import Space

OBJECTIVE = "objective"
# pbt is a scheduler of Ray Tune's; all others ask Optuna for points.
SEARCHES = ("grid", "random", "bayes", "evolution", "pbt")
POPULATION = 10  # of the evolutionary search: small, so that 40 trials are four generations


def sampler(search: str, seed: int, parallel: int = 1) -> BaseSampler:
    """Optuna's sampler of a search. For `grid` it only draws what the list of points does not give; `pbt` starts from
    random points and changes them while they train.
    """
    if search == "bayes":
        # Multivariate TPE (Falkner et al. 2018). Running trials count as bad ones ("constant liar"), so that two at a
        # time are not given nearly the same point. Eight random trials before the first model of the objective.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=parallel > 1, n_startup_trials=8)
    if search == "evolution":
        # BLX-α (Eshelman and Schaffer 1993) blends parents into new points; swapping repeats points of small spaces.
        return NSGAIISampler(population_size=POPULATION, crossover=BLXAlphaCrossover(), seed=seed)
    return RandomSampler(seed=seed)


def searcher(space: Space, search: str, seed: int, trials: int, parallel: int = 1) -> Any:
    """Ray Tune's searcher over a space; Tune saves its state with each trial, so a killed search resumes as it was.

    Optuna's own GridSampler wants every parameter to exist in every trial; ranges here may depend on a choice, so the
    points of a grid are enqueued.
    """
    # Imported here: a search on Spark does without Ray, whose import takes seconds.
    from ray.tune.search.optuna import OptunaSearch

    _quiet()
    return OptunaSearch(
        space=Suggest(space),
        metric=OBJECTIVE,
        mode="min",
        sampler=sampler(search, seed, parallel),
        # Run first and in this order, before the sampler draws any.
        points_to_evaluate=space.grid(trials) if search == "grid" else None,
    )


def new_study(search: str, seed: int = 0) -> optuna.Study:
    """An empty study that minimises, for trials in this process."""
    _quiet()
    return optuna.create_study(direction="minimize", sampler=sampler(search, seed))


def _quiet() -> None:
    # Multivariate TPE is marked experimental, and Optuna logs a line for every trial.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Suggest:
    """Optuna's define-by-run function of a space: the settings go under `point`, beside Optuna's own parameters.

    A class and no closure, for Ray Tune pickles it with the state of the search.
    """

    space: Space

    def __call__(self, trial: Trial) -> dict[str, Any]:
        point = self.space.suggest(trial)
        # Ray Tune reads the slash as a level of the trial's parameters: see `point_of`.
        return {f"point/{name}": value for name, value in point.items()}


def point_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """The settings among what the searcher hands to a trial."""
    return dict(parameters["point"])
