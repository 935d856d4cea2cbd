"""Follow files into the landing zone: `millrace etl collect '/var/log/nginx/access.log*' [--once]`.

A line lands in the folder of the day and hour that is written in it, so that old logs can be collected, too.
"""

import logging
import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from conf import Config, Paths, UsageError, UserError
from conf.stopping import stop_signals
from etl.collect.landing import Landing
from etl.collect.settings import CollectSettings
from etl.collect.sources import MovedError, Source, find_sources

log = logging.getLogger(__name__)

MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
WEBLOG_TIME = re.compile(rb"\[(\d\d)/(\w{3})/(\d{4}):([01]\d|2[0-3]):")
# The first "ts" of the line: far cheaper than to parse the JSON.
JSON_TIME = re.compile(rb'"ts"\s*:\s*"(\d{4})-(\d\d)-(\d\d)[T ]([01]\d|2[0-3])')


def run(config: Config, patterns: Sequence[str] = (), *, once: bool) -> dict[str, int]:
    """Collect the lines of all matching files, and unless `once` go on, until SIGTERM or Ctrl-C.

    Args:
        config: `collect.*`, and the landing zone.
        patterns: glob patterns of the files; `collect.patterns` when empty.
        once: stop when every file has been read to its end.

    Returns:
        Counts of `lines` and `bytes` read and of `files` landed.

    Raises:
        UsageError: if there is no pattern and not `once`.
        UserError: if another collector of this kind is running.
    """
    settings, root = config.get(CollectSettings), config.get(Paths).root
    patterns = list(patterns) or settings.patterns
    if not patterns:
        if not once:
            raise UsageError("name files to follow, or set collect.patterns")
        log.info("nothing to collect: collect.patterns is empty")
        return {"lines": 0, "bytes": 0, "files": 0}
    state_file = root / "collect" / settings.kind / "state.json"
    state_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Two collectors with one state would both take each line. The kernel frees the lock of a killed one.
        with FileLock(state_file.parent / "lock", blocking=False), stop_signals() as signals:
            landing = Landing(root / "landing" / settings.kind, state_file, settings)
            return _Collector(settings, patterns, landing).run(signals, once)
    except Timeout:
        raise UserError(f"another collector works with {state_file.parent}: stop it first") from None


class _Collector:
    """The loop over the sources, with its counts."""

    def __init__(self, settings: CollectSettings, patterns: list[str], landing: Landing) -> None:
        self._settings, self._patterns, self._landing = settings, patterns, landing
        self._counts = {"lines": 0, "bytes": 0, "files": 0}

    def run(self, signals: list[int], once: bool) -> dict[str, int]:
        while True:
            # Every round, because files come, go and are renamed.
            sources = find_sources(self._patterns, self._landing.sources)
            has_progressed = self._collect_batches(sources, signals)
            if once and not has_progressed:
                if not sources:
                    log.warning("no file matches %s", ", ".join(self._patterns))
                break
            if signals:
                break
            if not has_progressed:
                time.sleep(self._settings.poll_s)
        self._counts["files"] += self._landing.commit(sources, roll_all=True)
        log.info("collected %(lines)d lines, %(bytes)d bytes in %(files)d files", self._counts)
        return self._counts

    def _collect_batches(self, sources: list[Source], signals: list[int]) -> bool:
        """Land one batch of every source and commit it; whether there was any line."""
        has_progressed = False
        for source in sources:
            if signals:
                break
            lines = self._read_batch(source)
            if lines:
                has_progressed = True
                for hour, lines_of_hour in _group_by_hour(lines, source, self._settings.kind).items():
                    self._landing.append(hour, lines_of_hour)
                source.update_head()
                self._counts["lines"] += len(lines)
                self._counts["bytes"] += sum(map(len, lines))
                self._counts["files"] += self._landing.commit(sources)
        if not has_progressed and self._landing.has_full_file():
            self._counts["files"] += self._landing.commit(sources)
        return has_progressed

    def _read_batch(self, source: Source) -> list[bytes]:
        """Whole lines from the source's offset, which moves on; an unfinished last line waits for its end."""
        try:
            with source.open() as file:
                file.seek(source.offset)
                data = file.read(self._settings.batch_bytes)
                is_end = len(data) < self._settings.batch_bytes
                while data and not is_end and b"\n" not in data:  # a line longer than a batch
                    more = file.read(self._settings.batch_bytes)
                    data, is_end = data + more, not more
                # Whether an unfinished last line will hardly be finished. A .gz is never written to again.
                is_idle = source.is_gz or time.time() - os.fstat(file.fileno()).st_mtime >= self._settings.idle_s
        except (EOFError, MovedError):  # a .gz that is still being written; a file renamed a moment ago
            return []
        except OSError as error:
            log.warning("can't read %s: %s", source.path, error)
            return []
        end = data.rfind(b"\n") + 1
        lines = [line + b"\n" for line in data[:end].split(b"\n")[:-1]]
        source.offset += end
        if is_end and is_idle and end < len(data):
            source.offset += len(data) - end
            lines.append(data[end:] + b"\n")
        return lines


def _group_by_hour(lines: list[bytes], source: Source, kind: str) -> dict[str, list[bytes]]:
    """Lines by `dt=…/hour=…`; one without a time goes with the line before it, the first with the file's own time."""
    hour_of = weblog_hour if kind == "weblog" else json_hour
    groups: dict[str, list[bytes]] = {}
    for line in lines:
        source.hour = hour_of(line) or source.hour or _modified_hour(source)
        groups.setdefault(source.hour, []).append(line)
    return groups


def weblog_hour(line: bytes) -> str | None:
    """The folder `dt=…/hour=…` of a log line in combined format, by the time in its brackets; None without one."""
    match = WEBLOG_TIME.search(line)
    if match is None or match[2] not in MONTHS:
        return None
    return _hour_folder(int(match[3]), MONTHS[match[2]], int(match[1]), match[4])


def json_hour(line: bytes) -> str | None:
    """The folder `dt=…/hour=…` of an event or text, by its `ts`; None for a line without a real date."""
    match = JSON_TIME.search(line)
    return _hour_folder(int(match[1]), int(match[2]), int(match[3]), match[4]) if match else None


def _hour_folder(year: int, month: int, day: int, hour: bytes) -> str | None:
    try:
        return f"dt={date(year, month, day).isoformat()}/hour={hour.decode()}"
    except ValueError:  # 30 February
        return None


def _modified_hour(source: Source) -> str:
    moment = datetime.fromtimestamp(Path(source.path).stat().st_mtime, UTC)
    return f"dt={moment:%Y-%m-%d}/hour={moment:%H}"
