"""Deep models by name; `my_pkg.mod:MyNet` is imported, and that is the whole plug-in system.

A builder takes (config, buckets of the sparse fields, number of dense features) and returns a module that maps
`sparse` (rows, fields) and `dense` (rows, features) to logits (rows,).
"""

from collections.abc import Callable, Sequence

from torch import nn

from conf import Config, UsageError
from conf.plugins import imported
from training.models import deepfm

Builder = Callable[[Config, Sequence[int], int], nn.Module]

MODELS: dict[str, Builder] = {"deepfm": deepfm.build}


def builder_of(name: str) -> Builder:
    """The builder called `name`. Raises UsageError that lists the models otherwise."""
    if ":" in name:
        found: Builder = imported(name, "model", UsageError)
        return found
    if name not in MODELS:
        raise UsageError(f"unknown model '{name}'; choose from {', '.join(MODELS)}, or give module:builder")
    return MODELS[name]
