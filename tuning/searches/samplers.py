"""The searches, as Optuna's samplers; each minimises the objective."""

import warnings

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.samplers.nsgaii import BLXAlphaCrossover

# pbt is a scheduler of Ray Tune's; all others ask Optuna for points.
SEARCHES = ("grid", "random", "bayes", "evolution", "pbt")
POPULATION = 10  # of the evolutionary search: small, so that 40 trials are four generations


def sampler(search: str, seed: int, parallel: int = 1) -> BaseSampler:
    """Optuna's sampler of a search. For `grid` it only draws what the list of points does not give; `pbt` starts from
    random points and changes them while they train.
    """
    # Optuna marks multivariate TPE and BLX-α as experimental.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if search == "bayes":
        # Multivariate TPE (Falkner et al. 2018). Running trials count as bad ones ("constant liar"), so that two at a
        # time are not given nearly the same point. Eight random trials before the first model of the objective.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=parallel > 1, n_startup_trials=8)
    if search == "evolution":
        # BLX-α (Eshelman and Schaffer 1993) blends parents into new points; swapping repeats points of small spaces.
        return NSGAIISampler(population_size=POPULATION, crossover=BLXAlphaCrossover(), seed=seed)
    return RandomSampler(seed=seed)


def new_study(sampler: BaseSampler | None = None) -> optuna.Study:
    """An empty study that minimises, without Optuna's line for every trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction="minimize", sampler=sampler)
