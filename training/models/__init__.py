"""Deep models by name, a file a model; `package.module:builder` names one from outside.

A model's file holds its architecture: a module (or a function that makes one) of `(inputs, settings)`, whose `forward`
takes the tensors of its task; for clicks `sparse` (rows, fields) and `dense` (rows, features), giving logits (rows,). A
new model is such a file and a line of `MODELS`.

A builder from outside is a function of `(config, inputs)`. It is trained for clicks, unless its attribute `task` names
another of `TASKS`, or is one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from conf import Config, UsageError
from conf.plugins import import_object, import_saved_object
from training.inputs.schema import Inputs
from training.models.ctr import autoint, dcn, deepfm, din, dlrm, finalmlp, fm, lr, wide_deep, xdeepfm, youtube_ranking
from training.models.image import alexnet, densenet, googlenet, lenet, resnet, vgg
from training.models.multitask import esmm, mmoe, ple, shared_bottom
from training.models.retrieval import two_tower, youtube_candidates
from training.models.sequence import gru4rec, sasrec
from training.models.text import text_mean, text_rnn
from training.net_settings import NetSettings
from training.settings import TrainSettings
from training.tasks import TASKS, Task

Builder = Callable[[Config, Inputs], nn.Module]


@dataclass(frozen=True)
class Model:
    """How a model is built and what it is trained for."""

    build: Builder
    task: Task


def _model(net: Callable[[Inputs, NetSettings], nn.Module], task: str) -> Model:
    return Model(lambda config, inputs: net(inputs, config.get(NetSettings)), TASKS[task])


MODELS: dict[str, Model] = {
    "lr": _model(lr.LogisticRegression, "click"),
    "fm": _model(fm.FactorizationMachine, "click"),
    "wide_deep": _model(wide_deep.WideDeep, "click"),
    "deepfm": _model(deepfm.DeepFM, "click"),
    "dcn": _model(dcn.DCN, "click"),
    "xdeepfm": _model(xdeepfm.XDeepFM, "click"),
    "autoint": _model(autoint.AutoInt, "click"),
    "dlrm": _model(dlrm.DLRM, "click"),
    "finalmlp": _model(finalmlp.FinalMLP, "click"),
    "din": _model(din.DIN, "click_by_history"),
    "youtube_ranking": _model(youtube_ranking.YouTubeRanking, "engaged_click"),
    "shared_bottom": _model(shared_bottom.SharedBottom, "multi_label"),
    "mmoe": _model(mmoe.MMoE, "multi_label"),
    "ple": _model(ple.PLE, "multi_label"),
    "esmm": _model(esmm.ESMM, "entire_space"),
    "youtube_candidates": _model(youtube_candidates.YouTubeCandidates, "next_item"),
    "two_tower": _model(two_tower.TwoTowerNet, "next_item_in_batch"),
    "sasrec": _model(sasrec.SASRec, "next_items"),
    "gru4rec": _model(gru4rec.GRU4Rec, "next_items"),
    "lenet": _model(lenet.lenet, "cover"),
    "alexnet": _model(alexnet.alexnet, "cover"),
    "vgg": _model(vgg.vgg, "cover"),
    "googlenet": _model(googlenet.googlenet, "cover"),
    "resnet": _model(resnet.resnet, "cover"),
    "densenet": _model(densenet.densenet, "cover"),
    "text_mean": _model(text_mean.TextMean, "title"),
    "text_gru": _model(text_rnn.TextGRU, "title"),
    "text_lstm": _model(text_rnn.TextLSTM, "title"),
}


def model_named(name: str) -> Model:
    """The model called `name`: a key of `MODELS`, or `package.module:builder`, which is imported.

    Raises UsageError for an unknown model (listing all), a builder that can't be imported, or an unknown task of it.
    """
    if ":" in name:
        return _from_outside(name, import_object(name, "model", UsageError))
    if name not in MODELS:
        raise UsageError(f"unknown model '{name}'; choose from {', '.join(MODELS)}, or give module:builder")
    return MODELS[name]


def saved_model(name: str, source: Path, config: Config) -> Model:
    """The model that a file of a run folder names; code from outside must be allowed, see `import_saved_object`.

    Raises UserError when it is not, and as `model_named`.
    """
    if ":" not in name:
        return model_named(name)
    allowed = [__name__, *config.get(TrainSettings).modules]
    return _from_outside(name, import_saved_object(name, "model", source, allowed, "train.modules"))


def _from_outside(name: str, build: Builder) -> Model:
    task = getattr(build, "task", "click")
    if isinstance(task, str) and task not in TASKS:
        raise UsageError(f"model {name}: unknown task '{task}'; choose from {', '.join(TASKS)}")
    return Model(build, TASKS[task] if isinstance(task, str) else task)
