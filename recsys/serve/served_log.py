"""Served lists with their features and propensities, as JSON lines: what a model was shown when it ranked.

Lines are written by a thread, a second late at most, and not synced: a list that nobody logs as shown trains nothing.
"""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from features import catalog
from recsys.serve.engine import Answer

FLUSH_S = 1.0
MAX_BUFFERED = 20_000  # lines, while the disk is slow; more are dropped
# A list's items are all scored as if shown first: their positions are those of the impressions.
NOT_LOGGED = frozenset({"position"})


class ServedLog:
    """Appends to a file of this process and hour.

    Args:
        folder: of the files.
        name: of this process, in the names of its files.
        most: first items of a list that are logged.
    """

    def __init__(self, folder: Path, name: str, most: int) -> None:
        self._folder, self._name, self._most = folder, name, most
        self._lines: list[bytes] = []
        self.num_dropped = 0
        self._stopped = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._flush_often, name="served-log", daemon=True)
        self._thread.start()

    def add(self, answer: Answer, about: Mapping[str, Any]) -> None:
        """Log an answer; `about` has at least the moment, the user and the model."""
        if len(self._lines) >= MAX_BUFFERED:
            self.num_dropped += 1
            return
        # `request_id` first: landing looks for it at a fixed place.
        now = datetime.now(UTC).isoformat()  # `ts` is the moment that the request names, which may be any
        line: dict[str, Any] = {"request_id": answer.request_id, "served_at": now, **about}
        entries, features = answer.entries[: self._most], answer.features
        line["items"] = [entry.item for entry in entries]
        line["propensity"] = [entry.propensity for entry in entries]
        line["score"] = [entry.score for entry in entries]
        if features is not None and entries and entries[0].row >= 0:
            rows = np.array([entry.row for entry in entries])
            sparse, dense = features.sparse[rows], features.unscaled[rows]
            columns = {f.name: sparse[:, n].tolist() for n, f in enumerate(catalog.SPARSE) if not f.at_least}
            columns |= {f.name: dense[:, n].tolist() for n, f in enumerate(catalog.DENSE)}
            line["features"] = {name: values for name, values in columns.items() if name not in NOT_LOGGED}
        self._lines.append(orjson.dumps(line) + b"\n")  # NaN becomes null

    def close(self) -> None:
        """Write what is left."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _flush_often(self) -> None:
        while not self._stopped.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            path = self._folder / f"{datetime.now(UTC):%Y-%m-%dT%H}-{self._name}.log"
            with path.open("ab") as out:
                out.write(b"".join(lines))
