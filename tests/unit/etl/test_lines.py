"""Which files are read: each content once."""

import gzip
from pathlib import Path

import pytest

from conf import UserError
from etl.sources.lines import expand_sources, landed_files

LINES = [f"line {number}\n" for number in range(3000)]


def names(paths: list[str]) -> list[str]:
    return [Path(path).name for path in paths]


def test_a_content_counts_once_however_it_is_given(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(LINES))
    (tmp_path / "link.log").symlink_to(log)
    (tmp_path / "earlier.log").write_text("".join(LINES[:10]))
    (tmp_path / "copy.log").write_text("".join(LINES))
    with gzip.open(tmp_path / "access.log.1.gz", "wt") as out:
        out.write("".join(LINES))
    given = [str(tmp_path / name) for name in ("access.log", "access.log", "link.log", "earlier.log")]
    assert names(expand_sources(given)) == ["access.log"]
    assert len(expand_sources([str(tmp_path)])) == 1


def test_files_that_only_begin_alike_are_all_read(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(LINES))
    (tmp_path / "b.log").write_text(LINES[0] + LINES[5])
    (tmp_path / "c.log").write_text("".join(LINES[:-1]) + "another\n")
    (tmp_path / "broken.gz").write_bytes(b"no gzip at all")
    (tmp_path / "other.gz").write_bytes(b"no gzip at all, too")
    assert names(expand_sources([str(tmp_path)])) == ["a.log", "b.log", "broken.gz", "c.log", "other.gz"]


def test_hidden_and_empty_files_are_not_landed(tmp_path: Path) -> None:
    for name in ("a.log", ".b.log.open", "_SUCCESS", "hour=01/host=x/c.log", "hour=01/.d.open", ".e/f.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    (tmp_path / "empty.log").touch()
    assert names(landed_files(tmp_path)) == ["a.log", "c.log"]
    assert landed_files(tmp_path / "none") == []
    with pytest.raises(UserError, match="no files in"):
        (tmp_path / "none").mkdir()
        expand_sources([str(tmp_path / "none")])
