"""The planted bugs still fit the source tree, and what looks for them finds nothing where there is none."""

from dataclasses import replace
from pathlib import Path

import pytest
from history.plants import PLANTS, ROOT, catch, plant, unsynced_renames

SYNC = "7 fsync(5</home/.state.json.7>) = 0\n"
RENAME = '7 rename("/home/.state.json.7", "/home/state.json") = 0\n'


@pytest.mark.parametrize("name", PLANTS)
def test_the_text_that_a_plant_changes_is_in_its_file_once(name: str) -> None:
    bug = PLANTS[name]
    assert bug.wrong != bug.right
    assert (ROOT / bug.file).read_text(encoding="utf-8").count(bug.right) == 1


def test_a_rename_is_synced_only_by_a_sync_of_the_same_file_before_it() -> None:
    assert unsynced_renames(SYNC + RENAME, "/home") == []
    assert unsynced_renames(RENAME, "/elsewhere") == []
    for trace in (RENAME, RENAME + SYNC, SYNC.replace("state", "other") + RENAME):
        (line,) = unsynced_renames(trace, "/home")
        assert line.startswith("/home/state.json got its name before")


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, bug in PLANTS.items() if bug.by != "seeds"])
def test_nothing_is_caught_in_a_tree_without_a_bug(tmp_path: Path, name: str) -> None:
    """As those of `test_history.py` show for the seeds, without which a planted bug proves nothing."""
    plant(replace(PLANTS[name], wrong=PLANTS[name].right), tmp_path / "tree")
    assert catch(PLANTS[name], tmp_path / "tree") == []
