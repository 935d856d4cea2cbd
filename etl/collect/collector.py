"""Follow files into the landing zone: `millrace etl collect '/var/log/nginx/access.log*' [--once]`.

A line lands in the folder of the day and hour that is written in it, so that old logs can be collected, too.
"""

import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime

from filelock import FileLock, Timeout

from conf import Config, Paths, UsageError, UserError
from conf.machine.processes import stop_signals
from etl.collect.landing import Landing
from etl.collect.rotation import SourceFinder, reason_of
from etl.collect.settings import CollectSettings
from etl.collect.sources import READ_ERRORS, MovedError, Source
from etl.weblog.formats.format import MONTHS

log = logging.getLogger(__name__)

# Of the formats that `etl weblog` reads, the commonest first: [07/Jan/2026:13:…], 2026-01-07T13:… (or a blank or tab),
# "07/Jan/2026:13:…" of JSON, and seconds since 1970 or parts of them. A URL may hold a date: it comes later in a line.
_CLF_TIME = rb"(\d\d)/(\w{3})/(\d{4}):([01]\d|2[0-3]):"
_ISO_TIME = rb"(\d{4})-(\d\d)-(\d\d)[T\s]([01]\d|2[0-3]):\d\d:\d\d"
WEBLOG_TIMES = [
    re.compile(rb"\[" + _CLF_TIME),
    re.compile(rb'(?:^|[\s"\[|])' + _ISO_TIME),
    re.compile(rb'"' + _CLF_TIME),
]
WEBLOG_EPOCH = re.compile(rb'"(?:ts|time|timestamp|@timestamp|msec|date)"\s*:\s*"?(\d{10})(?:\d{3}){0,3}(?=[^\d])')
# The first "ts" of the line: far cheaper than to parse the JSON.
JSON_TIME = re.compile(rb'"ts"\s*:\s*"(\d{4})-(\d\d)-(\d\d)[T ]([01]\d|2[0-3])')


def run(config: Config, patterns: Sequence[str] = (), *, once: bool) -> dict[str, int]:
    """Collect the lines of all matching files, and unless `once` go on, until SIGTERM or Ctrl-C.

    Args:
        config: `collect.*`, and the landing zone.
        patterns: glob patterns of the files; `collect.patterns` when empty.
        once: stop when every file has been read to its end.

    Returns:
        Counts of `lines` and `bytes` read, of `files` landed, and of matching files that were `skipped`: copies of
        others, and what can't be read.

    Raises:
        UsageError: if there is no pattern and not `once`.
        UserError: if another collector of this kind is running, its state is damaged, or with `once` no file matches.
    """
    settings, root = config.get(CollectSettings), config.get(Paths).root
    patterns = list(patterns) or settings.patterns
    if not patterns:
        if not once:
            raise UsageError("name files to follow, or set collect.patterns")
        log.info("nothing to collect: collect.patterns is empty")
        return {"lines": 0, "bytes": 0, "files": 0, "skipped": 0}
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
        self._settings, self._landing, self._finder = settings, landing, SourceFinder(patterns)
        self._counts = {"lines": 0, "bytes": 0, "files": 0, "skipped": 0}

    def run(self, signals: list[int], once: bool) -> dict[str, int]:
        while True:
            # Every round, because files come, go and are renamed.
            sources = self._finder.find(self._landing.sources)
            self._require_files(sources, once)
            has_progressed = self._collect_batches(sources, signals)
            if once and not has_progressed:
                break
            if signals:
                break
            if not has_progressed:
                time.sleep(self._settings.poll_s)
        self._counts["files"] += self._landing.commit(sources, roll_all=True)
        self._counts["skipped"] = len(self._finder.skipped)
        log.info("collected %(lines)d lines, %(bytes)d bytes in %(files)d files, skipped %(skipped)d", self._counts)
        return self._counts

    def _require_files(self, sources: list[Source], once: bool) -> None:
        if self._finder.num_files or any(not source.gone_at for source in sources):
            return
        message = f"no file matches {', '.join(self._finder.patterns)}"
        if once:
            raise UserError(message)
        self._finder.announce(f"{message}; waiting for one")

    def _collect_batches(self, sources: list[Source], signals: list[int]) -> bool:
        """Land one batch of every source and commit it; whether there was any line."""
        has_progressed = False
        for source in sources:
            if signals:
                break
            lines = [] if source.gone_at else self._read_batch(source)
            if lines:
                has_progressed = True
                for hour, lines_of_hour in _group_by_hour(lines, source, self._settings.kind).items():
                    self._landing.append(hour, lines_of_hour)
                self._counts["lines"] += len(lines)
                self._counts["bytes"] += sum(map(len, lines))
                self._counts["files"] += self._landing.commit(sources)
        if not has_progressed and self._landing.has_full_file():
            self._counts["files"] += self._landing.commit(sources)
        return has_progressed

    def _read_batch(self, source: Source) -> list[bytes]:
        try:
            return source.read_lines(self._settings.batch_bytes, self._settings.idle_s)
        except MovedError:  # renamed or truncated a moment ago: the next round finds it again
            return []
        except READ_ERRORS as error:
            self._finder.skip(source.path, reason_of(error))
            return []


def _group_by_hour(lines: list[bytes], source: Source, kind: str) -> dict[str, list[bytes]]:
    """Lines by `dt=…/hour=…`; one without a time goes with the line before it, the first with the file's own."""
    hour_of = weblog_hour if kind == "weblog" else json_hour
    groups: dict[str, list[bytes]] = {}
    for line in lines:
        source.hour = hour_of(line) or source.hour
        groups.setdefault(source.hour or source.changed_hour, []).append(line)
    return groups


def weblog_hour(line: bytes) -> str | None:
    """The folder `dt=…/hour=…` of a log line by the time in it, UTC for seconds since 1970; None without one."""
    match = next(filter(None, (pattern.search(line) for pattern in WEBLOG_TIMES)), None)
    if match is None:
        epoch = WEBLOG_EPOCH.search(line)
        return f"{datetime.fromtimestamp(int(epoch[1]), UTC):dt=%Y-%m-%d/hour=%H}" if epoch else None
    if len(match[1]) == 4:
        return _hour_folder(int(match[1]), int(match[2]), int(match[3]), match[4])
    index = MONTHS.find(match[2].decode(errors="replace"))
    return None if index % 3 else _hour_folder(int(match[3]), index // 3 + 1, int(match[1]), match[4])


def json_hour(line: bytes) -> str | None:
    """The folder `dt=…/hour=…` of an event or text, by its `ts`; None for a line without a real date."""
    match = JSON_TIME.search(line)
    return _hour_folder(int(match[1]), int(match[2]), int(match[3]), match[4]) if match else None


def _hour_folder(year: int, month: int, day: int, hour: bytes) -> str | None:
    try:
        return f"dt={date(year, month, day).isoformat()}/hour={hour.decode()}"
    except ValueError:  # 30 February
        return None
