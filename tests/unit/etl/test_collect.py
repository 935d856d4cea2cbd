"""W1: log files followed through rotation, truncation, renaming and kills, no line lost and none twice."""

import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from data.weblog_writers import REQUESTS, WRITERS
from filelock import FileLock
from support import ROOT

from conf import Config, UsageError, UserError, load
from etl.collect import collector
from etl.sources.lines import landed_files

TraceFunction = Callable[[FrameType, str, Any], Any]


def line(number: int, *, hour: int = 6, day: int = 18) -> str:
    return f'1.1.1.1 - - [{day:02d}/Sep/2013:{hour:02d}:00:00 +0000] "GET /{number} HTTP/1.1" 200 1 "-" "a"\n'


class Site:
    """A folder of logs and the landing zone that they are collected into."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.logs, self.home = folder / "logs", folder / "home"
        self.logs.mkdir()
        self.log = self.logs / "access.log"
        self.settings = [f"paths.home={self.home}", "collect.host=web1", *settings]

    @property
    def config(self) -> Config:
        return load(overrides=self.settings, environment={})

    def write(self, *numbers: int, **more: int) -> None:
        with self.log.open("a") as out:
            out.writelines(line(number, **more) for number in numbers)

    def collect(self, *settings: str) -> int:
        config = load(overrides=[*self.settings, *settings], environment={})
        return collector.run(config, [f"{self.logs}/*.log*"], once=True)["lines"]

    def landed(self) -> list[str]:
        files = (self.home / "landing/weblog").rglob("*.log")
        return [text for path in files if path.name[0] != "." for text in path.read_text().splitlines(keepends=True)]

    def numbers(self) -> list[int]:
        return sorted(int(text.split("GET /")[1].split()[0]) for text in self.landed() if "GET" in text)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_a_line_of_every_format_lands_by_the_time_written_in_it(name: str) -> None:
    """And not by the time at which its file was changed: `etl weblog` looks for a day in its own folder and beside it."""
    writer = WRITERS[name]
    lines = [line for line in writer.text(REQUESTS).encode().splitlines() if not line.startswith(b"#")]
    times = [sent.at.astimezone(UTC) if writer.is_utc else sent.at for sent in REQUESTS]
    assert [collector.weblog_hour(line) for line in lines] == [f"{at:dt=%Y-%m-%d/hour=%H}" for at in times]


@pytest.mark.parametrize("text", ["[07/Foo/2026:13:00:00", "[31/Feb/2026:13:00:00", "2026-02-30 13:00:00", "rubbish"])
def test_a_line_without_a_time_has_no_folder_of_its_own(text: str) -> None:
    assert collector.weblog_hour(text.encode()) is None


def test_lines_land_by_day_hour_and_host_once(site: Site) -> None:
    site.write(1, 2)
    site.write(3, hour=7)
    site.write(4, day=19)
    assert site.collect() == 4
    assert site.collect() == 0
    folders = sorted(str(path.parent.relative_to(site.home)) for path in (site.home / "landing").rglob("*.log"))
    assert folders == [
        "landing/weblog/dt=2013-09-18/hour=06/host=web1",
        "landing/weblog/dt=2013-09-18/hour=07/host=web1",
        "landing/weblog/dt=2013-09-19/hour=06/host=web1",
    ]
    assert len(landed_files(site.home / "landing/weblog/dt=2013-09-18")) == 2
    site.write(5)
    assert site.collect() == 1
    assert site.numbers() == [1, 2, 3, 4, 5]


def test_a_line_without_a_time_goes_with_the_one_before(site: Site) -> None:
    site.write(1, hour=9)
    with site.log.open("a") as out:
        out.write("garbage [99/Xyz/2013:06\n")
    site.collect()
    assert [path.parent.parent.name for path in (site.home / "landing").rglob("*.log")] == ["hour=09"]
    assert "garbage" in "".join(site.landed())


def test_a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_beginning(site: Site) -> None:
    site.write(1)
    site.collect()
    site.write(2)
    site.log.rename(site.logs / "access.log.1")
    site.write(3)
    assert site.collect() == 2
    (site.logs / "access.log.1").rename(site.logs / "old-1")  # a name that no pattern matches
    with (site.logs / "old-1").open("a") as out:
        out.write(line(4))
    site.write(5)
    site.collect()
    assert site.numbers() == [1, 2, 3, 4, 5]


def test_copy_and_truncate_loses_and_doubles_nothing(site: Site) -> None:
    site.write(1, 2)
    site.collect()
    site.write(3)
    shutil.copy(site.log, site.logs / "access.log.1")
    site.collect()  # between the copy and the truncation
    os.truncate(site.log, 0)
    site.write(4)
    site.collect()
    assert site.numbers() == [1, 2, 3, 4]


def test_a_tail_that_only_the_copy_holds_is_read_from_it(site: Site) -> None:
    site.write(1, 2)
    site.collect()
    site.write(3)
    shutil.copy(site.log, site.logs / "access.log.1")
    os.truncate(site.log, 0)
    site.write(4)
    site.collect()
    assert site.numbers() == [1, 2, 3, 4]


def test_a_compressed_file_is_the_one_it_was_made_of(site: Site) -> None:
    site.write(1, 2)
    site.collect()
    site.write(3)
    with gzip.open(site.logs / "access.log.1.gz", "wb") as out:
        out.write(site.log.read_bytes())
    site.log.unlink()
    site.write(4)
    site.collect()
    site.collect()
    assert site.numbers() == [1, 2, 3, 4]


def test_two_files_that_begin_alike_are_two(site: Site) -> None:
    site.write(1)
    (site.logs / "other.log").write_text(line(1))
    assert site.collect() == 2


def test_a_copy_that_is_still_short_is_not_looked_at_as_new(site: Site) -> None:
    site.write(*range(50))
    site.collect()
    site.write(50)
    content, copy = site.log.read_bytes(), site.logs / "access.log.1"
    for length in (0, 40, 500, 3000, len(content)):
        copy.write_bytes(content[:length])
        assert site.collect() == (0 if length else 1)
    site.write(51)
    copy.write_bytes(site.log.read_bytes())
    os.truncate(site.log, 0)
    site.write(52)
    site.collect()
    assert site.numbers() == list(range(53))


def test_a_new_log_that_begins_as_a_short_one_is_read(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    header = "#Fields: host time request\n"
    first, second = site.logs / "access.log-20260107", site.logs / "access.log-20260108"
    first.write_text(header)
    assert site.collect() == 1
    second.write_text(header)  # it may be a copy of the first one as yet
    config = load(overrides=site.settings, environment={})
    with caplog.at_level("INFO"):
        counts = collector.run(config, [f"{site.logs}/*.log*"], once=True)
    assert counts == {"lines": 0, "bytes": 0, "files": 0, "skipped": 1}
    assert f"{second} is not read: all its bytes are the first of {first}" in caplog.text
    second.write_text(header + "".join(line(number) for number in range(500)))
    assert site.collect() == 501
    assert site.collect() == 0


def test_a_new_file_with_an_old_inode_and_header_is_not_the_old_one(site: Site) -> None:
    """ext4 gives a new file the number of the last deleted one."""
    header = "#Fields: host time request\n"
    site.log.write_text(header)
    site.write(1)
    (site.logs / "access.log-1").write_text(header)
    site.collect()
    (site.logs / "access.log-1").unlink()
    shutil.copy(site.log, site.logs / "access.log-2")
    assert site.collect() == 0
    os.truncate(site.log, 0)
    site.write(2)
    site.collect()
    assert site.numbers() == [1, 2]


def test_a_folder_that_was_away_for_a_moment_is_not_read_again(site: Site) -> None:
    site.write(1, 2)
    (site.logs / "nfs").mkdir()
    mounted = site.logs / "nfs/access.log"
    mounted.write_text(line(3))
    patterns = [f"{site.logs}/*.log", f"{site.logs}/nfs/*.log"]
    collector.run(site.config, patterns, once=True)
    (site.logs / "nfs").rename(site.logs / "away")
    site.write(4)
    collector.run(site.config, patterns, once=True)
    (site.logs / "away").rename(site.logs / "nfs")
    collector.run(site.config, patterns, once=True)
    assert site.numbers() == [1, 2, 3, 4]


def test_a_log_cut_off_and_grown_past_where_it_was_read_is_read_from_its_beginning(site: Site) -> None:
    site.write(*range(20))
    site.collect()
    site.log.write_text("".join(line(number) for number in (*range(12), *range(20, 40))))
    site.collect()
    assert sorted(set(site.numbers())) == list(range(40))


def test_a_damaged_gz_is_said_and_the_others_are_read(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write(1)
    data = bytearray(gzip.compress("".join(line(number) for number in range(100, 200)).encode()))
    data[40:60] = bytes(20)
    (site.logs / "old.log.gz").write_bytes(data)
    with caplog.at_level("INFO"):
        counts = collector.run(site.config, [f"{site.logs}/*.log*"], once=True)
    assert (counts["lines"], counts["skipped"]) == (1, 1)
    assert caplog.text.count(f"{site.logs}/old.log.gz is not read: it can't be read") == 1


def test_a_name_with_brackets_is_a_file_and_not_only_a_pattern(site: Site) -> None:
    path = site.logs / "app[1].log"
    path.write_text(line(1))
    assert collector.run(site.config, [str(path)], once=True)["lines"] == 1


def test_no_matching_file_and_a_damaged_state_are_one_line_each(site: Site) -> None:
    with pytest.raises(UserError, match=r"no file matches .*/logs/\*\.log\*"):
        site.collect()
    site.write(1)
    site.collect()
    state = site.home / "collect/weblog/state.json"
    state.write_bytes(state.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"{state} is damaged \(.*\): restore it"):
        site.collect()
    # Without a state all is read again, and nothing that has landed is replaced.
    state.unlink()
    site.log.write_text(line(2))
    site.collect()
    assert site.numbers() == [1, 2]


def test_the_state_of_an_older_release_goes_on(site: Site) -> None:
    site.write(1, 2)
    site.collect()
    path = site.home / "collect/weblog/state.json"
    state = json.loads(path.read_text())
    for source in state["sources"]:
        for key in ("tail", "crc", "stamp", "gone_at", "changed_hour"):
            del source[key]
    path.write_text(json.dumps(state))
    site.write(3)
    assert site.collect() == 1
    shutil.copy(site.log, site.logs / "access.log.1")
    os.truncate(site.log, 0)
    assert site.collect() == 0


def test_an_unfinished_line_waits_and_is_taken_when_the_file_rests(site: Site) -> None:
    site.write(1)
    with site.log.open("a") as out:
        out.write(line(2)[:-1])
    assert site.collect() == 1
    assert site.collect("collect.idle_s=0") == 1
    assert site.numbers() == [1, 2]


@pytest.mark.parametrize("limit", ["collect.roll_records=10", "collect.roll_bytes=900", "collect.roll_s=0.000001"])
def test_files_roll_by_records_size_or_time(tmp_path: Path, limit: str) -> None:
    site = Site(tmp_path, limit, "collect.batch_bytes=900")
    site.write(*range(50))
    site.collect()
    assert len(list((site.home / "landing").rglob("*.log"))) >= 2
    assert site.numbers() == list(range(50))


def test_nothing_to_follow_and_a_second_collector_are_one_line(site: Site) -> None:
    with pytest.raises(UsageError, match=r"name files to follow, or set collect\.patterns"):
        collector.run(site.config, [], once=False)
    assert collector.run(site.config, [], once=True)["lines"] == 0
    with FileLock(site.home / "collect/weblog/lock"), pytest.raises(UserError, match="another collector"):
        site.collect()


@pytest.mark.parametrize(
    ("kind", "text", "folder"),
    [
        ("events", '{"event_id": "1", "ts": "2026-01-07T23:59:59.9Z"}', "dt=2026-01-07/hour=23"),
        ("texts", '{"ts":"2026-01-07 05:00:00"}', "dt=2026-01-07/hour=05"),
        ("events", '{"ts": "2026-02-30T05:00:00Z"}', None),
    ],
)
def test_events_tell_their_time_as_json(kind: str, text: str, folder: str | None) -> None:
    assert collector.json_hour(text.encode()) == folder


class KilledError(BaseException):
    """Ends a collector as a kill does: nobody handles it."""


class Rotator:
    """A web server's log that is written to and rotated, one step of a file system at a time."""

    HEADER = "#Fields: host time request\n"

    def __init__(self, site: Site, chance: random.Random) -> None:
        self.site, self.chance, self.written, self.rotations = site, chance, 0, 0
        self.num_clean, self.rotated, self.is_writing = 0, list[tuple[Path, int]](), False
        self.steps = self._steps()

    def step(self) -> None:
        next(self.steps)

    def _steps(self) -> Iterator[None]:
        yield from self._append(self.HEADER)
        while True:
            for _ in range(self.chance.randint(0, 12)):
                yield from self._write()
            yield from self.chance.choice([self._rename, self._copy_and_truncate, self._compress])()
            # What has been collected may be deleted, as logrotate does after some days.
            if len(self.rotated) > 6 and self.rotated[0][1] < self.num_clean:
                self.rotated.pop(0)[0].unlink()
                yield

    def _append(self, text: str) -> Iterator[None]:
        with self.site.log.open("a") as out:
            out.write(text)
        yield

    def _write(self) -> Iterator[None]:
        number = self.chance.randint(1, 30)
        text = "".join(line(n, hour=n // 500 % 24) for n in range(self.written, self.written + number))
        self.written, self.is_writing = self.written + number, True
        cut = self.chance.randint(0, len(text))  # mostly within a line
        yield from self._append(text[:cut])
        yield from self._append(text[cut:])
        self.is_writing = False

    def _next_name(self) -> Path:
        self.rotations += 1
        return self.site.logs / f"access.log-{self.rotations:04d}"

    def _rename(self) -> Iterator[None]:
        self.rotated.append((self.site.log.rename(self._next_name()), self.num_clean))
        yield
        yield from self._append(self.HEADER)

    def _copy_and_truncate(self) -> Iterator[None]:
        path = self._next_name()
        with self.site.log.open("rb") as log, path.open("wb") as copy:
            while data := log.read(self.chance.randint(1, 3000)):
                copy.write(data)
                copy.flush()
                yield
                if self.chance.random() < 0.2:
                    yield from self._write()
        os.truncate(self.site.log, 0)
        self.rotated.append((path, self.num_clean))
        yield
        yield from self._append(self.HEADER)

    def _compress(self) -> Iterator[None]:
        plain = [path for path, _ in self.rotated if path.suffix != ".gz"]
        if not plain:
            return
        path = self.chance.choice(plain)
        compressed = path.with_name(path.name + ".gz")
        data = gzip.compress(path.read_bytes())
        with compressed.open("wb") as out:
            for start in range(0, len(data), 200):
                out.write(data[start : start + 200])
                out.flush()
                yield
        path.unlink()
        self.rotated = [(compressed if other == path else other, clean) for other, clean in self.rotated]
        yield


@pytest.mark.parametrize("seed", range(2))
def test_rotations_and_kills_between_any_two_lines_of_code_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    """The writer's steps and the kills come at arbitrary places of the collector's code, by a trace function."""
    site = Site(tmp_path, "collect.roll_records=300", "collect.batch_bytes=3000")
    chance = random.Random(seed)
    rotator = Rotator(site, chance)
    kills = 0

    def trace(frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        if "/etl/collect/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            if chance.random() < 0.01:
                rotator.step()
            if chance.random() < 0.0005:
                raise KilledError
        return trace

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    before = sys.gettrace()
    try:
        rotator.step()
        while rotator.written < 10_000:
            sys.settrace(trace)
            try:
                site.collect()
            except KilledError:
                kills += 1
            finally:
                sys.settrace(before)
            if chance.random() < 0.05:
                site.collect()
                rotator.num_clean += 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    while rotator.is_writing:
        rotator.step()
    site.collect()
    assert kills > 50
    assert rotator.rotations > 50
    text = "".join(site.landed())
    counted = Counter(int(number) for number in re.findall(r"GET /(\d+) ", text))
    assert [number for number, times in counted.items() if times > 1] == []
    assert sorted(counted) == list(range(rotator.written))


FOLLOW = """
import sys
from pathlib import Path
from conf import load
from etl.collect import collector
print(collector.run(load(overrides=sys.argv[2:], environment={}), [sys.argv[1]], once=False))
"""


@pytest.mark.timeout(120)
def test_kill_9_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """A long-running collector is killed many times while its log is written to and rotated in every way."""
    site = Site(tmp_path, "collect.poll_s=0.005", "collect.roll_records=300", "collect.batch_bytes=5000")
    command = [sys.executable, "-c", FOLLOW, f"{site.logs}/*.log*", *site.settings]
    chance = random.Random(5)
    written, kills, rotations = 0, 0, 0
    while kills < 12:  # each starts Python, which is most of the time; the test above kills at every line
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            end = time.monotonic() + 0.35 + chance.random() / 2
            while time.monotonic() < end:
                number = chance.randint(1, 60)
                site.write(*range(written, written + number), hour=chance.randint(0, 23))
                written += number
                time.sleep(0.004)
                if chance.random() < 0.02:
                    site.log.rename(site.logs / f"access.log.{rotations}")
                    rotations += 1
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=20)
        kills += 1
    last = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    last.send_signal(signal.SIGTERM)  # ends in order: what it holds is shown
    _, err = last.communicate(timeout=30)
    assert last.returncode == 0, err
    site.collect()
    assert rotations > 3
    counted = Counter(site.numbers())
    assert [number for number, times in counted.items() if times > 1] == []
    assert len(counted) == written
