"""Everything of one publication that answers a request: never changed by a swap, which puts another in its place."""

import time
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf import Config, UserError
from features.compute.training_statistics import TrainingStatistics
from features.settings import FeatureSettings
from recsys.serve.rankers import LoadedStack, export_models, load_stack
from recsys.serve.settings import ServingSettings
from recsys.serve.state.build import build_state
from recsys.serve.state.publication import Publication, newest_publication
from recsys.serve.state.state import State
from recsys.settings import RecommendSettings


@dataclass(frozen=True)
class Snapshot:
    """A publication, loaded."""

    publication: Publication
    state: State
    stack: LoadedStack
    recommend: RecommendSettings
    history_length: int
    """Choices of a user that sequence models read."""
    loaded_at: float
    excluded: NDArray[np.int64]
    """Codes of `recommend.exclude_items`."""

    @property
    def model(self) -> str:
        """What answers name: the run that ranked the published lists."""
        return self.publication.lists.name

    def describe(self) -> dict[str, Any]:
        """What /v1/models says."""
        return {
            "model": self.model,
            "key": self.publication.key,
            "day": self.publication.day.isoformat(),
            "promoted_for": self.publication.promoted_for.isoformat(),
            "loaded_at": self.loaded_at,
            "rankers": {name: ranker.run_id for name, ranker in self.stack.rankers.items()},
            "weights": dict(self.stack.weights),
            "missing": dict(self.stack.missing),
            "users": len(self.state.users.hashes),
            "items": self.state.num_items,
            "recent_events": self.state.recent.num_events,
        }


def published(config: Config, promoted_for: date | None = None) -> Publication:
    """What is promoted now, or was for a day. Raises UserError when nothing is."""
    publication = newest_publication(config, promoted_for)
    if publication is None:
        missing = f"nothing was promoted for {promoted_for}" if promoted_for else "no promoted lists"
        raise UserError(f"{missing}: run `millrace run --date DAY` first")
    return publication


def load_snapshot(config: Config, publication: Publication) -> Snapshot:
    """Load a publication, whose state is built when nobody has yet.

    Raises:
        UserError: what it is made of is gone or damaged.
    """
    folder = build_state(config, publication, partial(export_models, publication))
    statistics = TrainingStatistics(**publication.statistics)
    remembered = config.get(ServingSettings).remembered_events
    state = State(folder, statistics, publication.day, remembered)
    stack, length = load_stack(config, publication, folder), config.get(FeatureSettings).history_length
    recommend = config.get(RecommendSettings)
    excluded = state.items.find(list(recommend.exclude_items))
    return Snapshot(publication, state, stack, recommend, length, time.time(), excluded[excluded >= 0])
