"""Deep models by name; `my_package.module:build` is imported, and that is the whole plug-in system.

A builder takes (config, inputs) and returns a module whose `forward` takes the tensors of its task: for clicks `sparse`
(rows, fields) and `dense` (rows, features), and gives logits (rows,). A builder of one's own may say another task by an
attribute `task`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from conf import Config, UsageError
from conf.plugins import import_object
from training.inputs.schema import Inputs
from training.models.ctr import autoint, dcn, deepfm, din, dlrm, finalmlp, fm, lr, wide_deep, xdeepfm, youtube_ranking
from training.models.image import alexnet, densenet, googlenet, lenet, resnet, vgg
from training.models.multitask import esmm, mmoe, ple, shared_bottom
from training.models.retrieval import two_tower, youtube_candidates
from training.models.sequence import gru4rec, sasrec
from training.models.text import text_rnn
from training.tasks.tasks import Classes, Click, EngagedClick, EntireSpace, Many, NextItem, Task

Builder = Callable[[Config, Inputs], nn.Module]

CLICK, CLICK_BY_HISTORY = Click(), Click(lists=("history",))
COVER, TITLE = Classes("covers"), Classes("titles", lists=("words",))


@dataclass(frozen=True)
class Model:
    """How a model is built and what it is trained for."""

    build: Builder
    task: Task


MODELS: dict[str, Model] = {
    "lr": Model(lr.build, CLICK),
    "fm": Model(fm.build, CLICK),
    "wide_deep": Model(wide_deep.build, CLICK),
    "deepfm": Model(deepfm.build, CLICK),
    "dcn": Model(dcn.build, CLICK),
    "xdeepfm": Model(xdeepfm.build, CLICK),
    "autoint": Model(autoint.build, CLICK),
    "dlrm": Model(dlrm.build, CLICK),
    "finalmlp": Model(finalmlp.build, CLICK),
    "din": Model(din.build, CLICK_BY_HISTORY),
    "youtube_ranking": Model(youtube_ranking.build, EngagedClick(lists=("history",))),
    "shared_bottom": Model(shared_bottom.build, Many()),
    "mmoe": Model(mmoe.build, Many()),
    "ple": Model(ple.build, Many()),
    "esmm": Model(esmm.build, EntireSpace()),
    "youtube_candidates": Model(youtube_candidates.build, NextItem()),
    "two_tower": Model(two_tower.build, NextItem(sampled=False)),
    "sasrec": Model(sasrec.build, NextItem()),
    "gru4rec": Model(gru4rec.build, NextItem()),
    "lenet": Model(lenet.build, COVER),
    "alexnet": Model(alexnet.build, COVER),
    "vgg": Model(vgg.build, COVER),
    "googlenet": Model(googlenet.build, COVER),
    "resnet": Model(resnet.build, COVER),
    "densenet": Model(densenet.build, COVER),
    "text_gru": Model(text_rnn.build_gru, TITLE),
    "text_lstm": Model(text_rnn.build_lstm, TITLE),
}


def model_named(name: str) -> Model:
    """The model called `name`. Raises UsageError that lists the models otherwise."""
    if ":" in name:
        build: Builder = import_object(name, "model", UsageError)
        return Model(build, getattr(build, "task", CLICK))
    if name not in MODELS:
        raise UsageError(f"unknown model '{name}'; choose from {', '.join(MODELS)}, or give module:builder")
    return MODELS[name]
