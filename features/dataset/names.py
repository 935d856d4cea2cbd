"""Names of the data sets under `datasets/`, of their splits, and of the column of weights; and where examples are."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from conf import Config, Paths
from conf.versions import current_version
from features.catalog import OWN_COLUMNS

EXAMPLES = "examples"
POSITIVES = "positives"
SEQUENCES = "sequences"
COVERS = "covers"
TITLES = "titles"

SPLITS = ("train", "valid", "test")

HISTORY = "history"
"""Column of the ids of what a user chose before a row's moment, oldest first."""
WEIGHT = "weight"
"""Column of a row's weight in the loss: there where rows were sampled (features.balance) or the site declares one."""
PROPENSITY = "propensity"
"""Column of the probability that the site showed an impression where it did; null where the site does not log it."""
OUTCOMES: tuple[str, ...] = OWN_COLUMNS.outcomes or ("like", "purchase")
"""What may come of an impression beside the click: those that the site declares, or actions that followed a click."""
OUTCOME_LABELS: tuple[str, ...] = tuple(f"label_{name}" for name in OUTCOMES)
"""Columns of the further labels: 1, 0, or null where it is unknown."""


def examples_version(config: Config, day: date) -> tuple[Path, Mapping[str, Any]]:
    """Return a day's published training set: its folder, with a subfolder for each split, and its metadata.

    Raises:
        UserError: there is none; the message names the command that builds it.
    """
    folder = config.get(Paths).datasets(EXAMPLES, day)
    return current_version(folder, command=f"millrace features build --date {day}")
