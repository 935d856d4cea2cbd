"""The archive of the code has all that a process of a cluster needs, and nothing else."""

import subprocess
import zipfile
from pathlib import Path

from support import ROOT

from conf import code


def test_the_archive_has_every_file_of_the_packages_that_git_tracks(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", *code.PACKAGES], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    ).stdout.split()
    tracked = {name for name in listed if not Path(name).name.startswith(".") and (ROOT / name).exists()}
    with zipfile.ZipFile(code.archive(tmp_path)) as archive:
        assert {*tracked, "millrace.py"} <= set(archive.namelist())
