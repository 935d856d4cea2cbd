"""Settings that searches found: `<home>/tuned/MODEL.yaml`, which `load` puts over the profile's values.

An experiment file, the environment and `--set` stand above them; deleting the file takes them back.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from conf.atomic import write_atomically

FOLDER = "tuned"


def save_tuned_settings(home: Path, model: str, point: Mapping[str, Any]) -> Path:
    """Keep a point (dotted setting -> value) for the commands from now on; returns the file."""
    nested: dict[str, dict[str, Any]] = {}
    for path, value in point.items():
        section, key = path.split(".", 1)
        nested.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
    file = home / FOLDER / f"{model.replace(':', '.')}.yaml"
    text = f"# Found by `millrace tune {model}`; delete this file to go back.\n" + yaml.safe_dump(nested)
    write_atomically(file, text)
    return file


def tuned_settings_files(home: Path) -> Iterable[Path]:
    """Files of all models, in the order of their names."""
    return sorted((home / FOLDER).glob("*.yaml"))
