"""Deep models by name; `my_package.module:build` is imported, and that is the whole plug-in system.

A builder takes (config, inputs) and returns a module whose `forward` takes the tensors of its task: for clicks `sparse`
(rows, fields) and `dense` (rows, features), and gives logits (rows,). A builder of one's own may name another task of
`TASKS`, or give one, by an attribute `task`.
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
from training.tasks import TASKS, Task

Builder = Callable[[Config, Inputs], nn.Module]


@dataclass(frozen=True)
class Model:
    """How a model is built and what it is trained for."""

    build: Builder
    task: Task


MODELS: dict[str, Model] = {
    "lr": Model(lr.build, TASKS["click"]),
    "fm": Model(fm.build, TASKS["click"]),
    "wide_deep": Model(wide_deep.build, TASKS["click"]),
    "deepfm": Model(deepfm.build, TASKS["click"]),
    "dcn": Model(dcn.build, TASKS["click"]),
    "xdeepfm": Model(xdeepfm.build, TASKS["click"]),
    "autoint": Model(autoint.build, TASKS["click"]),
    "dlrm": Model(dlrm.build, TASKS["click"]),
    "finalmlp": Model(finalmlp.build, TASKS["click"]),
    "din": Model(din.build, TASKS["click_by_history"]),
    "youtube_ranking": Model(youtube_ranking.build, TASKS["engaged_click"]),
    "shared_bottom": Model(shared_bottom.build, TASKS["multi_label"]),
    "mmoe": Model(mmoe.build, TASKS["multi_label"]),
    "ple": Model(ple.build, TASKS["multi_label"]),
    "esmm": Model(esmm.build, TASKS["entire_space"]),
    "youtube_candidates": Model(youtube_candidates.build, TASKS["next_item"]),
    "two_tower": Model(two_tower.build, TASKS["next_item_in_batch"]),
    "sasrec": Model(sasrec.build, TASKS["next_item"]),
    "gru4rec": Model(gru4rec.build, TASKS["next_item"]),
    "lenet": Model(lenet.build, TASKS["cover"]),
    "alexnet": Model(alexnet.build, TASKS["cover"]),
    "vgg": Model(vgg.build, TASKS["cover"]),
    "googlenet": Model(googlenet.build, TASKS["cover"]),
    "resnet": Model(resnet.build, TASKS["cover"]),
    "densenet": Model(densenet.build, TASKS["cover"]),
    "text_gru": Model(text_rnn.build_gru, TASKS["title"]),
    "text_lstm": Model(text_rnn.build_lstm, TASKS["title"]),
}


def model_named(name: str) -> Model:
    """The model called `name`. Raises UsageError that lists the models otherwise."""
    if ":" in name:
        build: Builder = import_object(name, "model", UsageError)
        task = getattr(build, "task", "click")
        if isinstance(task, str) and task not in TASKS:
            raise UsageError(f"model {name}: unknown task '{task}'; choose from {', '.join(TASKS)}")
        return Model(build, TASKS[task] if isinstance(task, str) else task)
    if name not in MODELS:
        raise UsageError(f"unknown model '{name}'; choose from {', '.join(MODELS)}, or give module:builder")
    return MODELS[name]
