"""The rankers that take part in the blend; `RANKERS` is the one place that a new one is added to."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial

import numpy as np
from numpy.typing import NDArray

from conf import Config
from conf.plugins import import_object
from recsys.coarse import train as coarse
from recsys.dataset import Rows
from recsys.fine import deep
from recsys.fine import train as fine
from recsys.mf import train as mf
from recsys.settings import RecommendSettings

Predict = Callable[[Rows], NDArray[np.floating]]  # rows -> click probabilities (rows,)
Load = Callable[[Config, date, str], Predict | None]


@dataclass(frozen=True)
class Ranker:
    """A trained model that scores candidates.

    Attributes:
        load: (config, day, split) -> what predicts rows, or None when it was not trained for the day. `split` says what
            the rows are compared with: "valid" or "test", whose rows the model must not have learned from, or "serve",
            where it may have learned from all. It is loaded once, and predicts block after block of a set.
        model: name of the model in its run folder, for the lineage; None when it has no run.
        columns: columns of the candidates that it reads besides features and ids.
    """

    load: Load
    model: Callable[[Config], str] | None = None
    columns: Callable[[Config], tuple[str, ...]] = lambda _: ()


RANKERS: dict[str, Ranker] = {
    "coarse": Ranker(coarse.predictor, lambda _: coarse.MODEL),
    "fine": Ranker(fine.predictor, lambda _: fine.MODEL),
    "mf": Ranker(mf.predictor, lambda _: mf.MODEL),
    "deep": Ranker(deep.predictor, deep.run_model, deep.list_columns),
}


def configured_rankers(config: Config) -> dict[str, Ranker]:
    """RANKERS and those of `recommend.rankers`, by name.

    Raises:
        UserError: a ranker can't be imported.
    """
    plugins = {name: _plugin(name) for name in config.get(RecommendSettings).rankers}
    return {**RANKERS, **plugins}


def ranker_columns(config: Config) -> list[str]:
    """Columns that the rankers read besides features and ids."""
    return sorted({column for ranker in configured_rankers(config).values() for column in ranker.columns(config)})


def load_rankers(config: Config, day: date, split: str) -> dict[str, Predict]:
    """What predicts rows of a split, by ranker, of those that were trained for the day.

    Raises:
        UserError: the coarse or the fine ranker was not trained for it.
    """
    loaded = {name: ranker.load(config, day, split) for name, ranker in configured_rankers(config).items()}
    return {name: predict for name, predict in loaded.items() if predict is not None}


def _plugin(name: str) -> Ranker:
    """A user's function `score(config, day, rows)`; it learned nothing newer than the training rows in any split."""
    score = import_object(name, "the ranker of recommend.rankers")
    return Ranker(lambda config, day, _: partial(score, config, day))
