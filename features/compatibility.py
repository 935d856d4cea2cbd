"""Whether a trained model fits the features that it meets: the same ones in the same order.

A model addresses features by position: with another list it fails on shapes, or takes one feature for another.
"""

from collections.abc import Sequence
from pathlib import Path

from conf import UserError
from conf.runs import INPUTS, read_jsonl
from features.catalog import index_version

TIMEZONE = "timezone"  # of a data set's hours and days, in its metadata and in the inputs of a run


class OtherFeaturesError(UserError):
    """A model was trained on other features than it meets; the message names run, versions and difference."""


def check_features(run: Path, trained: Sequence[str], present: Sequence[str]) -> None:
    """Refuse a model for the features of this version's catalog.

    Args:
        run: folder of the run, whose inputs have the version of its features.
        trained: features of the model, in its order.
        present: features that it will get, in their order.

    Raises:
        OtherFeaturesError: they differ.
    """
    if difference := names_difference(trained, present):
        raise OtherFeaturesError(
            f"run {run.name} was trained on features {trained_version(run)}, this is {index_version()}: {difference}; "
            "train again"
        )


def check_timezone(run: Path, present: str) -> None:
    """Refuse a model whose hours and days are those of other clocks than a data set's.

    A run that did not record the features that it read is not judged.

    Args:
        run: folder of the run.
        present: time zone of the data set's hours and days.

    Raises:
        OtherFeaturesError: they differ.
    """
    # Data sets of older versions recorded no time zone: they have UTC's hours.
    zones = (row.get(TIMEZONE, "UTC") for row in read_jsonl(run / INPUTS) if row.get("features"))
    if (trained := next(zones, present)) != present:
        raise OtherFeaturesError(
            f"run {run.name} was trained on hours and days of {trained}, the data set has those of {present}; "
            "train again"
        )


def trained_version(run: Path) -> str:
    """Version of the features that a run was trained on; "of unknown version" when its data set did not record it."""
    versions = (row["features"] for row in read_jsonl(run / INPUTS) if row.get("features"))
    return next(versions, "of unknown version")


def names_difference(trained: Sequence[str], present: Sequence[str]) -> str:
    """What `present` has more, less or elsewhere, as text; empty when the lists are the same."""
    parts = [
        f"{word} {', '.join(names)}"
        for word, names in (
            ("new:", [name for name in present if name not in trained]),
            ("gone:", [name for name in trained if name not in present]),
        )
        if names
    ]
    if not parts and list(trained) != list(present):
        parts = [f"in the order {', '.join(present)}"]
    return "; ".join(parts)
