"""The promoted models, loaded once, and their scores of one request's candidates."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import Config, UserError
from conf.runs import read_json
from features.compatibility import check_timezone
from features.compute.request_batch import FeatureBatch
from recsys.blend.weights import BLEND_FILE, MERGED
from recsys.calibration import sigmoid
from recsys.coarse import train as coarse
from recsys.dataset import Rows
from recsys.fine import train as fine
from recsys.mf import train as mf
from recsys.serve.served_fm import ServedFM
from recsys.serve.state.publication import Publication
from recsys.serve.trees import FlatTrees
from recsys.settings import CoarseSettings, RecommendSettings

log = logging.getLogger(__name__)

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """What rankers read of a request's candidates."""

    features: FeatureBatch
    lists: Mapping[str, NDArray[np.int64]]  # ids of the user's history and of the site's lists, by their columns
    user_id: str
    item_ids: Sequence[str]  # (rows,)

    def as_rows(self) -> Rows:
        """Features and ids as the rankers of the batch stages take them."""
        keys = {"user_id": [self.user_id] * len(self.item_ids), "item_id": self.item_ids}
        return replace(as_rows(self.features), keys=keys)


@dataclass(frozen=True)
class Ranker:
    """A model that scores candidates.

    Attributes:
        name: as in the blend.
        run_id: of the run that trained it.
        predict: (candidates) -> click probabilities (rows,).
        contributions: features -> (rows, features + 1) what each feature adds to the score, the last the constant; None
            when the model can't tell.
        feature_names: of the contributions.
    """

    name: str
    run_id: str
    predict: Callable[["Candidates"], Scores]
    contributions: Callable[[FeatureBatch], Scores] | None = None
    feature_names: Sequence[str] = ()


@dataclass(frozen=True)
class LoadedStack:
    """The rankers of a publication, and how they are blended.

    Attributes:
        rankers: by name, cheapest first; those of the blend that could be loaded.
        weights: of the blend, by name of the score.
        intercept: of a stack, whose weighted sum of log odds is a probability; None for a blend of standardised scores.
        missing: name -> why a ranker of the blend could not be loaded.
        keep: candidates that pass on to the rankers after the coarse one.
        order: score that the published lists follow.
    """

    rankers: Mapping[str, Ranker]
    weights: Mapping[str, float]
    intercept: float | None
    missing: Mapping[str, str]
    keep: int
    order: str


def load_stack(config: Config, publication: Publication, state: Path) -> LoadedStack:
    """Load the rankers that took part in the blend of the published lists.

    A ranker that can't be loaded is missing, which a server survives.

    Args:
        config: `recommend.*` and `coarse.keep`.
        publication: whose rankers they are.
        state: folder of its state, which may have models of `export_models`.

    Raises:
        UserError: the blend's file is damaged.
    """
    blend = read_json(publication.lists / "model" / BLEND_FILE)
    # Files of older versions are the weights of a blend, and nothing else.
    weights = {name: float(weight) for name, weight in blend.get("weights", blend).items()}
    deep = config.get(RecommendSettings).deep.replace(":", ".")
    loaders: dict[str, Callable[[], Ranker]] = {
        "coarse": lambda: _load_coarse(publication, state),
        "fine": lambda: _load_fine(publication, state),
        "mf": lambda: _load_mf(publication),
        "deep": lambda: _load_deep(config, publication, deep),
    }
    rankers, missing = {}, {}
    for name in [*loaders, *(name for name in weights if name not in loaders and name != MERGED)]:
        if name not in weights:
            continue
        try:
            rankers[name] = loaders[name]() if name in loaders else _load_plugin(config, publication.day, name)
        except (UserError, OSError) as error:
            log.error("%s: %s; lists do without it", name, error)
            missing[name] = str(error)
    order = str(blend.get("order", config.get(RecommendSettings).order))
    intercept = float(blend["intercept"]) if blend.get("kind") == "stack" else None
    return LoadedStack(rankers, weights, intercept, missing, config.get(CoarseSettings).keep, order)


def _run(publication: Publication, model: str) -> Path:
    if model not in publication.runs:
        raise UserError(f"no run of {model} is among the inputs of {publication.lists.name}")
    return publication.runs[model]


def as_rows(features: FeatureBatch) -> Rows:
    """Features without ids as the rankers of the batch stages take them."""
    labels = np.zeros(len(features.sparse), np.float32)  # which nothing that predicts reads
    return Rows(features.sparse, features.dense, labels, {})


def export_models(publication: Publication, folder: Path) -> None:
    """Write the trees and the FM as arrays into a state's folder, for workers to map; a model that is missing is not.

    To load them takes a second of a process's time, in which a worker that serves would keep its clients waiting.
    """
    try:
        _load_fm(publication).save(folder)
    except (UserError, OSError) as error:
        log.error("fine: %s", error)
    try:
        booster = coarse.load(_run(publication, coarse.MODEL)).booster
    except (UserError, OSError) as error:
        log.error("coarse: %s", error)
        return
    trees = FlatTrees.of(booster)
    if trees is None:
        log.warning("coarse: trees of another kind: LightGBM's own prediction is slower")
    else:
        trees.save(folder)


def _load_coarse(publication: Publication, state: Path) -> Ranker:
    folder = _run(publication, coarse.MODEL)
    check_timezone(folder, publication.zone)
    # Its file is verified, too; parsing the text is quick.
    ranker, trees = coarse.load(folder), FlatTrees.map(state)

    def predict(candidates: Candidates) -> Scores:
        if trees is None:
            return ranker.predict(candidates.as_rows())
        probabilities = sigmoid(trees.scores(coarse.feature_matrix(candidates.as_rows())))
        return probabilities if ranker.calibrator is None else ranker.calibrator(probabilities)

    return Ranker(
        "coarse",
        folder.name,
        predict,
        # (rows, features + 1): LightGBM's last column is the value that a row without features has.
        lambda rows: np.asarray(ranker.booster.predict(coarse.feature_matrix(as_rows(rows)), pred_contrib=True)),
        coarse.NAMES,
    )


def _load_fm(publication: Publication) -> ServedFM:
    ranker = fine.load(_run(publication, fine.MODEL), publication.statistics, "serve")
    return ServedFM.of(ranker.model, ranker.encoder, ranker.calibrator)


def _load_fine(publication: Publication, state: Path) -> Ranker:
    model = ServedFM.map(state) or _load_fm(publication)
    run_id = _run(publication, fine.MODEL).name
    return Ranker("fine", run_id, lambda candidates: model.predict(candidates.as_rows()))


def _load_mf(publication: Publication) -> Ranker:
    folder = _run(publication, mf.MODEL)
    check_timezone(folder, publication.zone)
    ranker = mf.load(folder / "model" / mf.MODEL_FILES["serve"])
    return Ranker("mf", folder.name, lambda candidates: ranker.predict(candidates.as_rows()))


def _load_deep(config: Config, publication: Publication, model: str) -> Ranker:
    folder = _run(publication, model)
    # Torch takes a second and 200 MB: only where there is a deep model.
    import torch

    from recsys.fine.deep import load_net
    from training.inputs.batch import Batch, IdLists

    torch.set_num_threads(1)
    net, task, inputs = load_net(config, folder, publication.zone)

    def predict(candidates: Candidates) -> Scores:
        features = candidates.features
        rows = len(features.sparse)
        ones = torch.ones(rows)

        def tiled(ids: NDArray[np.int64]) -> IdLists:
            """A user's list for each of the candidates."""
            offsets = np.arange(rows + 1) * len(ids)
            return IdLists(torch.from_numpy(np.tile(ids, rows)), torch.from_numpy(offsets))

        lists = tuple(tiled(candidates.lists[name]) for name in inputs.list_columns)
        batch = Batch(torch.from_numpy(features.sparse), torch.from_numpy(features.dense), ones, ones, lists)
        with torch.inference_mode():
            return np.asarray(task.predict(net, batch, inputs)[:, 0].double().numpy())

    return Ranker("deep", folder.name, predict)


def _load_plugin(config: Config, day: date, name: str) -> Ranker:
    """A function `score(config, day, rows)` of `recommend.rankers`."""
    from recsys.blend.rankers import configured_rankers

    plugin: Any = configured_rankers(config).get(name)
    if plugin is None:
        raise UserError(f"the blend has the score {name}, recommend.rankers does not")
    predict = plugin.load(config, day, "serve")
    return Ranker(name, name, lambda candidates: np.asarray(predict(candidates.as_rows())))
