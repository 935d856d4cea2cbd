"""Settings chosen by searches: `<home>/tuned/MODEL.yaml`, which `load` puts over the profile's values.

An experiment file, the environment and `--set` override them; deleting the file restores the profile's values.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from conf.atomic import write_atomically

FOLDER = "tuned"


def save_tuned_settings(home: Path, model: str, point: Mapping[str, Any]) -> Path:
    """Save a point of a search space (dotted setting -> value) for all later commands; returns the file."""
    sections: dict[str, dict[str, Any]] = {}
    for path, value in point.items():
        section, key = path.split(".", 1)
        # YAML has no tuples: safe_dump refuses them.
        sections.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
    # `a:b` names a user's own builder (package.module:function), and a colon is no part of a file name on all systems.
    file = home / FOLDER / f"{model.replace(':', '.')}.yaml"
    text = f"# Found by a search of {model}'s settings; delete this file to go back.\n" + yaml.safe_dump(sections)
    write_atomically(file, text)
    return file
