"""Names of the data sets under `datasets/`, of their splits, and of the column of weights; and where examples are."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from conf import Config, Paths
from conf.versions import current_version

EXAMPLES = "examples"
POSITIVES = "positives"
COVERS = "covers"
TITLES = "titles"

SPLITS = ("train", "valid", "test")

WEIGHT = "weight"  # of a row in the loss; there is none where no rows were sampled (features.balance)


def examples_version(config: Config, day: date) -> tuple[Path, Mapping[str, Any]]:
    """Return a day's published training set: its folder, with a subfolder for each split, and its metadata.

    Raises:
        UserError: there is none; the message names the command that builds it.
    """
    folder = config.get(Paths).datasets(EXAMPLES, day)
    return current_version(folder, command=f"millrace features build --date {day}")
