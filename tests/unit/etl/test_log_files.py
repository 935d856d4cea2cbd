"""Files of web logs that can't be read, or hold nothing: one line that names the file, before Spark starts."""

import bz2
import gzip
import os
import random
from pathlib import Path

import pytest

from conf import UserError
from etl.sources.lines import expand_sources
from etl.weblog.formats.catalog import COMBINED
from etl.weblog.formats.detection import detect_formats

LINE = '1.2.3.4 - - [05/Feb/2026:07:08:09 +0000] "GET /{} HTTP/1.1" 200 12 "-" "a"\n'
TEXT = "".join(LINE.format(random.Random(n).random()) for n in range(500)).encode()
W3C = b"#Version: 1.0\n#Fields: date time c-ip cs-method cs-uri-stem sc-status\n"

FAULTS = {
    "a.log": (b"", "no lines but blank ones"),
    "a.log.gz": (gzip.compress(b""), "no lines but blank ones"),
    "blank.log": (b"\n  \n\t\n", "no lines but blank ones"),
    "remarks.log": (b"# one\n# two\n", "no known format; give --log-format"),
    "cut.log.gz": (gzip.compress(TEXT)[:-200], "it is corrupt or cut off"),
    "damaged.log.gz": (gzip.compress(TEXT)[:40] + b"\xff" * 40 + gzip.compress(TEXT)[80:], "it is corrupt or cut off"),
    "plain.log.gz": (TEXT, "it is corrupt or cut off"),
    "cut.log.bz2": (bz2.compress(TEXT)[:-200], "it is corrupt or cut off"),
    "plain.log.bz2": (TEXT, "it is corrupt or cut off"),  # Spark reads no line of it, and says nothing
    "empty.log.bz2": (b"", "it is corrupt or cut off"),
    "packed.log": (gzip.compress(TEXT), "it is packed, though its name does not end with .gz: rename it to packed.gz"),
    "page.log": (b"<!DOCTYPE html>\n<html>404</html>\n", "it is a web page or XML"),
    "german.log": (TEXT.replace(b"Feb", b"Mai"), "line 1 is combined, but 2026-Mai-05 is no date"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_cant_be_read_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    content, message = FAULTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: {message}"):
        detect_formats(expand_sources([str(tmp_path / name)]), None)


def test_one_file_of_a_folder_that_cant_be_read_stops_all(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_bytes(TEXT)
    (tmp_path / "blank.log").write_bytes(b"\n\n")  # says nothing wrong beside one with lines
    assert set(detect_formats(expand_sources([str(tmp_path)]), None).values()) == {COMBINED}
    (tmp_path / "bad.log.bz2").write_bytes(TEXT)
    with pytest.raises(UserError, match=r"bad.log.bz2: it is corrupt or cut off; nothing was changed"):
        detect_formats(expand_sources([str(tmp_path)]), None)


def test_a_w3c_log_of_no_request_is_a_log(tmp_path: Path) -> None:
    (tmp_path / "quiet.log").write_bytes(W3C)
    assert len(detect_formats([str(tmp_path / "quiet.log")], None)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be")
def test_a_file_of_another_user_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.log"
    path.write_bytes(TEXT)
    path.chmod(0)
    # A process of xdist has a folder more above the test's own.
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"can't read .*secret.log: Permission denied"):
            expand_sources([str(path)])
    finally:
        os.seteuid(0)


def test_a_bz2_of_a_file_beside_it_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(TEXT)
    (tmp_path / "a.log.bz2").write_bytes(bz2.compress(TEXT))
    assert len(expand_sources([str(tmp_path)])) == 1
