"""The model folder of a run: weights, inputs and the settings of the net, enough to build the model again.

Weights are a state dict that loads without unpickling code; everything else is JSON.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conf import Config, UserError
from conf.model_files import model_file, verify_model_file, write_model_file
from training.inputs.schema import Inputs
from training.models import saved_model
from training.net_settings import NetSettings

NET = "net.json"  # the model's name and its `net.*` settings


def save_model(folder: Path, name: str, weights: dict[str, Tensor], inputs: Inputs, config: Config) -> None:
    """Write a model into a run's model folder, for `load_model`.

    Args:
        folder: the run's `model/`.
        name: as in MODELS, or `package.module:builder`.
        weights: state dict of the net alone, without the objective around it.
        inputs: names and sizes of what the net reads.
        config: of which the `net.*` settings are saved.
    """
    inputs.save(folder)
    about = {"model": name, "net": config.get(NetSettings).model_dump(mode="json")}
    write_model_file(folder / NET, json.dumps(about, indent=2))
    with model_file(folder / weights_name(name)) as out:
        torch.save(weights, out)


def weights_name(model: str) -> str:
    """Name of the file of weights in a run's model folder."""
    # Not on all file systems may a name contain the colon of `package.module:builder`.
    return f"{model.replace(':', '.')}.pt"


def load_model(folder: Path, config: Config) -> nn.Module:
    """The net of a run with its weights, on the CPU, built with the `net.*` settings that it was trained with.

    Args:
        folder: the run's `model/`.
        config: for all settings but `net.*`, which come from the folder.

    Raises:
        UserError: the folder has no model or no weights, one of its files is corrupt, or its code is not allowed.
    """
    about = read_net(folder)
    # Today's `net.*` may differ, and weights of other shapes would not load.
    trained_config = config.with_values({f"net.{name}": value for name, value in about["net"].items()})
    net = saved_model(about["model"], folder / NET, config).build(trained_config, Inputs.load(folder))
    net.load_state_dict(load_weights(folder))
    return net


def read_net(folder: Path) -> dict[str, Any]:
    """The `model` of a run's model folder, by its name, and its `net.*` settings.

    Raises:
        UserError: the folder has no model, or the file is corrupt.
    """
    if not (folder / NET).exists():
        raise UserError(f"no model in {folder}")
    verify_model_file(folder / NET)
    about: dict[str, Any] = json.loads((folder / NET).read_text(encoding="utf-8"))
    return about


def load_weights(folder: Path) -> dict[str, Tensor]:
    """State dict of the net in a run's model folder, mapped from its file. Raises UserError: missing or corrupt."""
    path = next(folder.glob("*.pt"), None)
    if path is None:
        raise UserError(f"no weights in {folder}")
    verify_model_file(path)
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of any type, for a damaged file without a checksum
        raise UserError(f"{path} holds no weights ({type(error).__name__}): train again") from error
    return weights
