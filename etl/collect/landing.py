"""Files of the landing zone while lines are added: hidden until they roll, and exactly as long as was committed.

A batch is committed when `Landing.commit` has written the state: the offsets in the sources and the lengths of the
files go to disk together, in one rename. After a kill, files are cut to their committed length and the sources read
from their committed offset.
"""

import glob
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conf import UserError
from conf.atomic import write_atomically
from etl.collect.settings import CollectSettings
from etl.collect.sources import Source


@dataclass
class PartFile:
    """A file that lines are added to, in the folder of a day, hour and host. Its fields are the state file's keys."""

    folder: str
    name: str
    opened_at: float
    size: int = 0  # committed or about to be: the file itself may be longer after a kill
    records: int = 0

    @property
    def hidden(self) -> Path:
        """The path while lines are added: readers of the landing zone skip names with a dot."""
        return Path(self.folder) / f".{self.name}.open"


class Landing:
    """The landed files of one collector, and its state on disk.

    Args:
        root: the landing zone of the kind of lines that is collected.
        state_file: the JSON file with offsets and lengths; read if it is there, and what a kill left is cleaned up.
        settings: when files roll.
    """

    def __init__(self, root: Path, state_file: Path, settings: CollectSettings) -> None:
        self._root, self._state_file, self._settings = root, state_file, settings
        self.sources: list[Source] = []
        self._open_files: dict[str, PartFile] = {}  # by `dt=…/hour=…`
        self._rolled: list[PartFile] = []
        self._sequence = 0
        self._load()

    def append(self, hour: str, lines: Sequence[bytes]) -> None:
        """Add lines to the open file of an hour, and flush them to disk; they count only after `commit`.

        Args:
            hour: the folder, `dt=…/hour=…`.
            lines: with their line ends.
        """
        file = self._open_files.get(hour) or self._open_file(hour)
        data = b"".join(lines)
        with file.hidden.open("r+b" if file.hidden.exists() else "w+b") as out:
            # Over what a failed append may have left behind the committed length.
            out.seek(file.size)
            out.write(data)
            out.truncate()
            out.flush()
            os.fsync(out.fileno())
        file.size += len(data)
        file.records += len(lines)

    def commit(self, sources: list[Source], *, roll_all: bool = False) -> int:
        """Commit the appended lines together with how far the sources were read; publish the files that roll.

        Args:
            sources: with the offsets after the lines that were appended.
            roll_all: close every file, at the end of a run.

        Returns:
            How many files became visible.
        """
        self.sources = sources
        for hour, file in list(self._open_files.items()):
            if roll_all or self._is_full(file):
                self._rolled.append(self._open_files.pop(hour))
        # First the state, then the renames: after a kill between the two, `_load` renames again.
        self._save()
        return self._publish()

    def has_full_file(self) -> bool:
        """Whether an open file has to roll by its size, records or age, though no line was added to it."""
        return any(self._is_full(file) for file in self._open_files.values())

    def _is_full(self, file: PartFile) -> bool:
        is_old = time.time() - file.opened_at >= self._settings.roll_s
        return file.size >= self._settings.roll_bytes or file.records >= self._settings.roll_records or is_old

    def _open_file(self, hour: str) -> PartFile:
        host = self._settings.host
        folder = self._root / hour / f"host={host}"
        folder.mkdir(parents=True, exist_ok=True)
        name = ""
        # Past the files of a state that is gone, which a rename would replace.
        while not name or (folder / name).exists():
            self._sequence += 1
            name = f"{self._settings.kind}-{host}-{self._sequence:08d}.log"
        file = PartFile(str(folder), name, time.time())
        self._open_files[hour] = file
        return file

    def _publish(self) -> int:
        """Rename the rolled files; repeated after a kill, where a missing hidden file was renamed already."""
        num_published = len(self._rolled)
        for file in self._rolled:
            if file.hidden.exists():
                file.hidden.rename(Path(file.folder) / file.name)
        self._rolled = []
        return num_published

    def _save(self) -> None:
        # These keys stay: with other ones a new release would not know how far an older one had read.
        state: dict[str, Any] = {
            "sequence": self._sequence,
            "sources": [asdict(source) for source in self.sources],
            "growing": {hour: asdict(file) for hour, file in self._open_files.items()},
            "to_show": [asdict(file) for file in self._rolled],
        }
        write_atomically(self._state_file, json.dumps(state))

    def _load(self) -> None:
        if self._state_file.exists():
            try:
                state = json.loads(self._state_file.read_text(encoding="utf-8"))
                self._sequence = state["sequence"]
                self.sources = [Source(**source) for source in state["sources"]]
                self._open_files = {hour: PartFile(**file) for hour, file in state["growing"].items()}
                self._rolled = [PartFile(**file) for file in state["to_show"]]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{self._state_file} is damaged ({error}): restore it from a backup; without it all files would be "
                    "collected again from their beginnings"
                ) from None
            self._publish()
        committed = {file.hidden for file in self._open_files.values()}
        for path in self._root.rglob(f".{self._settings.kind}-{glob.escape(self._settings.host)}-*.open"):
            if path not in committed:
                path.unlink()  # opened, but none of its lines was committed
        for file in self._open_files.values():
            if file.hidden.exists():
                os.truncate(file.hidden, file.size)
