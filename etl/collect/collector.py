"""Follow files into the landing zone: `millrace etl collect '/var/log/nginx/access.log*' [--once]`.

A line lands in the folder of the day and hour that is written in it, so that old logs can be taken in, too.
"""

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

from conf import Config, Paths, UsageError, UserError
from conf.stopping import stop_signals
from etl.collect.landing import Landing
from etl.collect.settings import CollectSettings
from etl.collect.sources import MovedError, Source, look

log = logging.getLogger(__name__)

MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
WEBLOG_TIME = re.compile(rb"\[(\d\d)/(\w{3})/(\d{4}):([01]\d|2[0-3]):")
JSON_TIME = re.compile(rb'"ts"\s*:\s*"(\d{4})-(\d\d)-(\d\d)[T ]([01]\d|2[0-3])')


def run(config: Config, patterns: Sequence[str] = (), *, once: bool) -> dict[str, int]:
    """Collect what there is, and unless `once` what comes, until SIGTERM or Ctrl-C."""
    settings, root = config.get(CollectSettings), config.get(Paths).root
    wanted = list(patterns) or settings.patterns
    if not wanted:
        if not once:
            raise UsageError("name files to follow, or set collect.patterns")
        log.info("nothing to collect: collect.patterns is empty")
        return {"lines": 0, "bytes": 0, "files": 0}
    state = root / "collect" / settings.kind / "state.json"
    with _alone(state.parent / "lock"), stop_signals() as stopped:
        landing = Landing(root / "landing" / settings.kind, state, settings)
        return _Collector(settings, wanted, landing).work(stopped, once)


class _Collector:
    def __init__(self, settings: CollectSettings, patterns: list[str], landing: Landing) -> None:
        self._settings, self._patterns, self._landing = settings, patterns, landing
        self._counts = {"lines": 0, "bytes": 0, "files": 0}

    def work(self, stopped: list[int], once: bool) -> dict[str, int]:
        while True:
            sources = look(self._patterns, self._landing.sources)
            progressed = self._take(sources, stopped, once)
            if once and not progressed:
                if not sources:
                    log.warning("no file matches %s", ", ".join(self._patterns))
                break
            if stopped:
                break
            if not progressed:
                time.sleep(self._settings.poll_s)
        self._counts["files"] += self._landing.commit(sources, roll_all=True)
        log.info("collected %(lines)d lines, %(bytes)d bytes in %(files)d files", self._counts)
        return self._counts

    def _take(self, sources: list[Source], stopped: list[int], once: bool) -> bool:
        """Read one batch of every source and make it safe; whether there was anything."""
        progressed = False
        for source in sources:
            if stopped:
                break
            lines = self._read(source, once)
            if lines:
                progressed = True
                for hour, some in _by_hour(lines, source, self._settings.kind).items():
                    self._landing.append(hour, some)
                source.note_head()
                self._counts["lines"] += len(lines)
                self._counts["bytes"] += sum(map(len, lines))
                self._counts["files"] += self._landing.commit(sources)
        if not progressed and self._landing.is_due():
            self._counts["files"] += self._landing.commit(sources)
        return progressed

    def _read(self, source: Source, once: bool) -> list[bytes]:
        """Whole lines from where the source was left; its offset moves on."""
        try:
            with source.open() as file:
                file.seek(source.offset)
                data = file.read(self._settings.batch_bytes)
                is_end = len(data) < self._settings.batch_bytes
                while data and not is_end and b"\n" not in data:  # a line longer than a batch
                    more = file.read(self._settings.batch_bytes)
                    data, is_end = data + more, not more
        except (EOFError, MovedError):  # a .gz that is still being written; a file renamed a moment ago
            return []
        except OSError as error:
            log.warning("can't read %s: %s", source.path, error)
            return []
        whole = data.rfind(b"\n") + 1
        if is_end and whole < len(data) and self._is_finished(source):
            source.offset += len(data)
            return [*_lines(data[:whole]), data[whole:] + b"\n"]
        source.offset += whole
        return _lines(data[:whole])

    def _is_finished(self, source: Source) -> bool:
        """Whether a last line without an end will hardly get one."""
        try:
            return source.is_gz or time.time() - os.path.getmtime(source.path) >= self._settings.idle_s
        except OSError:
            return True


def _lines(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _by_hour(lines: list[bytes], source: Source, kind: str) -> dict[str, list[bytes]]:
    """Lines by `dt=…/hour=…`; one without a time goes with the line before it."""
    told = _weblog_hour if kind == "weblog" else _json_hour
    groups: dict[str, list[bytes]] = {}
    for line in lines:
        source.hour = told(line) or source.hour or _now(source)
        groups.setdefault(source.hour, []).append(line)
    return groups


def _weblog_hour(line: bytes) -> str | None:
    found = WEBLOG_TIME.search(line)
    if found is None or found[2] not in MONTHS:
        return None
    return _folder(int(found[3]), MONTHS[found[2]], int(found[1]), found[4])


def _json_hour(line: bytes) -> str | None:
    found = JSON_TIME.search(line)
    return _folder(int(found[1]), int(found[2]), int(found[3]), found[4]) if found else None


def _folder(year: int, month: int, day: int, hour: bytes) -> str | None:
    try:
        return f"dt={date(year, month, day).isoformat()}/hour={hour.decode()}"
    except ValueError:
        return None


def _now(source: Source) -> str:
    moment = datetime.fromtimestamp(os.path.getmtime(source.path), UTC)
    return f"dt={moment:%Y-%m-%d}/hour={moment:%H}"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two collectors with one state would both take each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another collector works with {path.parent}: stop it first") from None
        yield
