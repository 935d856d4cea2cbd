"""Files of the landing zone while they grow: hidden until they roll, and exactly as long as was made safe.

A batch is safe once `Landing.commit` has written its state: the places in the sources and the lengths of the files go
to disk together, in one rename. After a kill, files are cut to their noted length and the sources read from there.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conf.atomic import write_atomically
from etl.collect.settings import CollectSettings
from etl.collect.sources import Source


@dataclass
class Growing:
    """A file that takes lines, in the folder of a day, hour and host."""

    folder: str
    name: str
    opened_at: float
    size: int = 0
    records: int = 0

    @property
    def hidden(self) -> Path:
        return Path(self.folder) / f".{self.name}.open"

    @property
    def visible(self) -> Path:
        return Path(self.folder) / self.name


class Landing:
    """The files of one collector, and its state."""

    def __init__(self, root: Path, state: Path, settings: CollectSettings) -> None:
        self._root, self._state, self._settings = root, state, settings
        self.sources: list[Source] = []
        self._growing: dict[str, Growing] = {}
        self._to_show: list[Growing] = []
        self._sequence = 0
        self._load()

    def append(self, hour: str, lines: Sequence[bytes]) -> None:
        """Add lines to the file of `dt=…/hour=…`; not safe before `commit`."""
        file = self._growing.get(hour) or self._begin(hour)
        data = b"".join(lines)
        with file.hidden.open("r+b" if file.hidden.exists() else "w+b") as out:
            out.seek(file.size)
            out.write(data)
            out.truncate()
            out.flush()
            os.fsync(out.fileno())
        file.size += len(data)
        file.records += len(lines)

    def commit(self, sources: list[Source], *, roll_all: bool = False) -> int:
        """Make safe what was appended and how far the sources were read; show the files that are full or old."""
        self.sources = sources
        for hour, file in list(self._growing.items()):
            if roll_all or self._is_full(file):
                self._to_show.append(self._growing.pop(hour))
        self._save()
        return self._show()

    def is_due(self) -> bool:
        """Whether a file has to be shown though nothing new came."""
        return any(self._is_full(file) for file in self._growing.values())

    def _is_full(self, file: Growing) -> bool:
        is_old = time.time() - file.opened_at >= self._settings.roll_s
        return file.size >= self._settings.roll_bytes or file.records >= self._settings.roll_records or is_old

    def _begin(self, hour: str) -> Growing:
        self._sequence += 1
        host = self._settings.host
        folder = self._root / hour / f"host={host}"
        folder.mkdir(parents=True, exist_ok=True)
        file = Growing(str(folder), f"{self._settings.kind}-{host}-{self._sequence:08d}.log", time.time())
        self._growing[hour] = file
        return file

    def _show(self) -> int:
        """Rename; done again after a kill, where a name already taken means that it was done."""
        shown = len(self._to_show)
        for file in self._to_show:
            if file.hidden.exists():
                file.hidden.rename(file.visible)
        self._to_show = []
        return shown

    def _save(self) -> None:
        state: dict[str, Any] = {
            "sequence": self._sequence,
            "sources": [source.as_json() for source in self.sources],
            "growing": {hour: asdict(file) for hour, file in self._growing.items()},
            "to_show": [asdict(file) for file in self._to_show],
        }
        write_atomically(self._state, json.dumps(state))

    def _load(self) -> None:
        if self._state.exists():
            state = json.loads(self._state.read_text(encoding="utf-8"))
            self._sequence = state["sequence"]
            self.sources = [Source(**source) for source in state["sources"]]
            self._growing = {hour: Growing(**file) for hour, file in state["growing"].items()}
            self._to_show = [Growing(**file) for file in state["to_show"]]
            self._show()
        noted = {file.hidden for file in self._growing.values()}
        for path in self._root.rglob(f".{self._settings.kind}-{self._settings.host}-*.open"):
            if path not in noted:
                path.unlink()  # begun, but nothing in it was made safe
        for file in self._growing.values():
            if file.hidden.exists():
                os.truncate(file.hidden, file.size)
