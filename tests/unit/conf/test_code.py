"""The archive of the code has all that a process of a cluster needs, and nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import ROOT

from conf import code
from conf.site.loading import SITE_VARIABLE, submitted_site


def test_the_archive_has_every_file_of_the_packages_that_git_tracks(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", *code.PACKAGES], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    ).stdout.split()
    tracked = {name for name in listed if not Path(name).name.startswith(".") and (ROOT / name).exists()}
    with zipfile.ZipFile(code.archive(tmp_path)) as archive:
        assert {*tracked, "millrace.py"} <= set(archive.namelist())


def test_the_site_of_a_submitted_job_travels_with_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "shop" / "site.py"
    file.parent.mkdir()
    file.write_text(
        "from conf.site import *\n"
        "SITE = Site('shop', actions=[Action('buy', Files('b.csv'), user='u', item='i', at='t', "
        "columns={'mood': Category()})])\n"
    )
    without = code.archive(tmp_path)
    monkeypatch.setenv(SITE_VARIABLE, str(file))
    packed = code.archive(tmp_path)
    assert packed != without
    # As on a node, which has nothing but the archive: unpacked for Ray, as it is for Spark.
    variables = {**os.environ, **submitted_site(), "PYTHONPATH": str(packed)}
    assert variables[SITE_VARIABLE] == "submitted"
    program = "import features.catalog as c; from conf.site.loading import site_folder; print(c.__file__, c.OWN[0].name, site_folder())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [f"{packed}/features/catalog.py", "context_mood", str(file.parent)], done.stderr
