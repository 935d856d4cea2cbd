"""What can be searched. A target says what trials share, how one runs, and how the chosen settings are tested."""

from collections.abc import Callable

from conf import UsageError
from tuning.targets.deep import Deep
from tuning.targets.fm import FactorisationMachine
from tuning.targets.lightgbm import LightGBM
from tuning.targets.recall import Recall
from tuning.targets.target import Target
from tuning.targets.trial import Report, Trial

__all__ = ["TARGETS", "Report", "Target", "Trial", "target_of"]

TARGETS: dict[str, Callable[[], Target]] = {
    "fm": FactorisationMachine,
    "lightgbm": LightGBM,
    "recall": Recall,
}


def target_of(model: str) -> Target:
    """The target called `model`: one of TARGETS, or a deep model. Raises UsageError for an unknown name."""
    # Imported here: the other targets need none of the deep models.
    from training.models import MODELS

    if model in TARGETS:
        return TARGETS[model]()
    if model in MODELS or ":" in model:
        return Deep(model)
    raise UsageError(f"unknown model '{model}'; choose from {', '.join([*TARGETS, *MODELS])}")
