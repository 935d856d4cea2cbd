"""W1: log files followed through rotation, truncation, renaming and kills, no line lost and none twice."""

import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock
from support import ROOT

from conf import Config, UsageError, UserError, load
from etl.collect import collector
from etl.sources.lines import landed_files


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
        return sorted(int(text.split("GET /")[1].split()[0]) for text in self.landed())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


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
    while kills < 25:
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
