"""The generated site behind a landing zone: written beside its click probabilities, so that lists can be judged."""

import json
from pathlib import Path

from conf import UserError
from conf.atomic import write_atomically
from etl.simulator.settings import SimulatorSettings
from etl.simulator.world import World

FILE = "world.json"


def write_world(world: World, truth: Path) -> None:
    """Write what the site is generated from: settings, scale and seed."""
    settings = world.settings.model_dump(mode="json")
    write_atomically(truth / FILE, json.dumps({"settings": settings, "scale": world.scale, "seed": world.seed}))


def read_world(truth: Path) -> World:
    """Generate the users and items of the site again.

    Raises:
        UserError: the site was generated before this file was written.
    """
    path = truth / FILE
    if not path.exists():
        raise UserError(f"{path} is missing: an older version generated this site; simulate it again")
    values = json.loads(path.read_text(encoding="utf-8"))
    return World(SimulatorSettings(**values["settings"]), values["scale"], values["seed"])
