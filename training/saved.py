"""A model as it lies in a run's folder: weights, inputs and the shape of its net, enough to build it again."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from conf import Config, UserError
from conf.atomic import write_atomically
from training.inputs.schema import Inputs
from training.models import model_named
from training.net_settings import NetSettings

NET = "net.json"


def save_model(folder: Path, name: str, weights: dict[str, Tensor], inputs: Inputs, config: Config) -> None:
    """Weights, inputs and shape of a net, as `load_model` builds it again."""
    inputs.save(folder)
    about = {"model": name, "net": config.get(NetSettings).model_dump(mode="json")}
    write_atomically(folder / NET, json.dumps(about, indent=2))
    torch.save(weights, folder / weights_name(name))


def weights_name(model: str) -> str:
    """File of the weights in a run's model folder."""
    return f"{model.replace(':', '.')}.pt"


def load_model(folder: Path, config: Config) -> nn.Module:
    """The net of a finished run, with the shape that it was trained with."""
    if not (folder / NET).exists():
        raise UserError(f"no model in {folder}")
    about = json.loads((folder / NET).read_text(encoding="utf-8"))
    shaped = config.with_values({f"net.{name}": value for name, value in about["net"].items()})
    net = model_named(about["model"]).build(shaped, Inputs.load(folder))
    net.load_state_dict(load_weights(folder))
    return net


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The weights in a run's model folder."""
    path = next(folder.glob("*.pt"), None)
    if path is None:
        raise UserError(f"no weights in {folder}")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights
