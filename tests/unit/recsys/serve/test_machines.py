"""A server on several machines: each has a journal and served lists of its own, and knows those of the others."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from conf import Config, UserError, load
from recsys.serve.events.event import Event
from recsys.serve.events.journal import Writer, open_folder
from recsys.serve.events.landing import journal_folder, journal_folders, land, of_each_machine, served_folder

NOW = datetime.now(UTC)
REQUEST = "0123456789abcdef0123"


def machine(home: Path, name: str) -> Config:
    """A machine that was sent one click."""
    config = load(
        overrides=[f"paths.home={home}", "serving.on=ray", f"serving.instance={name}", "serving.roll_s=0.001"],
        environment={},
    )
    open_folder(journal_folder(config))
    accept(config, Event(f"click-{name}", "click", "u1", "i1", NOW.isoformat()))
    return config


def accept(config: Config, event: Event) -> None:
    Writer(journal_folder(config)).append(msgspec.json.encode(event) + b"\n")


def test_each_machine_lands_its_own_events_and_reads_all_journals(tmp_path: Path) -> None:
    first, second = machine(tmp_path, "a"), machine(tmp_path, "b")
    alone = load(overrides=[f"paths.home={tmp_path}"], environment={})
    open_folder(journal_folder(alone))
    folders = [tmp_path / "serving" / name for name in ("journal", "machines/a/journal", "machines/b/journal")]
    assert journal_folders(first) == journal_folders(second) == journal_folders(alone) == folders
    assert (land(first, everything=True), land(first, everything=True)) == (1, 0)
    files = {path.name.split("-")[1] for path in (tmp_path / "landing" / "events").rglob("serve-*.log")}
    assert files == {"a"}
    # What a machine has left that is gone is landed by whoever stops the server.
    assert [land(left, everything=True) for left in of_each_machine(first)] == [0, 1]


def test_an_impression_gets_its_features_from_the_machine_that_ranked_it(tmp_path: Path) -> None:
    first, second = machine(tmp_path, "a"), machine(tmp_path, "b")
    served_folder(first).mkdir(parents=True)
    line = {"request_id": REQUEST, "user_id": "u1", "items": ["i1"], "features": {"user_rate": [0.25]}}
    path = served_folder(first) / f"{NOW:%Y-%m-%dT%H}-a-1.log"
    path.write_text(json.dumps(line, separators=(",", ":")) + "\n")
    accept(second, Event(f"{REQUEST}-1", "impression", "u1", "i1", NOW.isoformat(), position=1))
    assert land(second, everything=True) == 2
    (landed,) = (tmp_path / "landing" / "events").rglob("serve-b-*.log")
    events = {event["event_id"]: event.get("features") for event in map(json.loads, landed.read_text().splitlines())}
    assert events == {"click-b": None, f"{REQUEST}-1": {"user_rate": 0.25}}


def test_a_node_that_does_not_see_the_home_says_so(tmp_path: Path) -> None:
    from recsys.serve.on_ray.replica import check_home

    config = load(overrides=[f"paths.home={tmp_path}"], environment={})
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "started").write_text("an earlier one")
    with pytest.raises(UserError, match=r"^node \S+ does not see .*: put the home \(paths.home\) on a disk that all"):
        check_home(config, "this one", 0.0)
    check_home(config, "an earlier one", 0.0)
