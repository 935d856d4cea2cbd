"""Folders that readers see whole or not at all: write a version aside, then publish it with one rename.

folder/
  v-20260107T060000-1a2b/…    a version, never changed after it was published
  current.json                which version readers open, and its metadata (rows, features, sources …)
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conf.atomic import write_atomically
from conf.errors import UserError
from conf.paths import entry
from conf.runs import new_run_id, read_json

log = logging.getLogger(__name__)

CURRENT = "current.json"
# The keys of a version's metadata that say where its rows came from.
ORIGIN = ("day", "split", "rows", "features", "timezone", "examples", "sources", "exclude")


@contextmanager
def publish_version(folder: Path, metadata: dict[str, Any]) -> Iterator[Path]:
    """Yield a new version's folder; when the block ends well it becomes the current one, with `metadata` beside it.

    `metadata` may be filled inside the block. A block that fails leaves the version before in place. Versions that
    are neither the new nor the last one are removed, so that a reader of the last can finish.
    """
    version = folder / f"v-{new_run_id()}"
    version.mkdir(parents=True)
    try:
        yield version
    except BaseException:  # KeyboardInterrupt, too: half a version takes as much disk as a whole one
        shutil.rmtree(version, ignore_errors=True)
        raise
    # The rename of current.json is the publication: before it readers open the last version, after it this one.
    try:
        last = _read_current(folder)
    except UserError as error:
        log.warning("%s; it is replaced", error)
        last = None
    write_atomically(folder / CURRENT, json.dumps({"version": version.name, **metadata}, indent=2, default=str))
    keep = {version.name, str(last["version"]) if last else ""}
    for old in folder.glob("v-*"):
        if old.name not in keep:  # unfinished ones of killed writers, too
            shutil.rmtree(old, ignore_errors=True)


def current_version(folder: Path, *, command: str) -> tuple[Path, Mapping[str, Any]]:
    """The current version's folder and its metadata.

    Raises:
        UserError: nothing was published yet; the message says to run `command`, which builds it.
    """
    metadata = _read_current(folder)
    if metadata is None:
        raise UserError(f"nothing in {folder}: run `{command}` first")
    return entry(folder, metadata["version"], "version"), metadata


def describe_version(version: Path) -> dict[str, Any]:
    """Kind, day and name of a version of `datasets/<kind>/dt=<day>/`, and where it came from while it is current.

    It goes into the run folder's inputs.jsonl (`Run.log_dataset`).
    """
    metadata = _read_current(version.parent) or {}
    # current.json only describes the newest version; of an older one nothing but its name is known.
    is_current = metadata.get("version") == version.name
    origin = {key: metadata[key] for key in ORIGIN if key in metadata} if is_current else {}
    day = version.parent.name.removeprefix("dt=")
    return {"kind": version.parent.parent.name, "dt": day, "version": version.name, **origin}


def _read_current(folder: Path) -> dict[str, Any] | None:
    path = folder / CURRENT
    if not path.exists():
        return None
    return read_json(path, "version")
