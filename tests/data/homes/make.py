"""Keep a small home as an earlier release writes it, for the tests of upgrades.

python tests/data/homes/make.py 499adf6 tests/data/homes/499adf6.tar.xz
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Folders stand in the metastore with their whole path: whoever unpacks the home elsewhere changes them there.
HOME = Path("/tmp/millrace-kept-home")
LINES = (
    "simulate --days 1 --scale 0.01",
    "etl events --date 2026-01-01",
    "etl weblog --date 2026-01-01",
    "etl import users items --date 2026-01-01",
)
LEFT_OUT = ("warehouse/dim_date", "warehouse/dim_time")  # the same in every home, and larger than all others together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="of the release")
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    HOME.mkdir()  # not over another one
    try:
        with tempfile.TemporaryDirectory() as tree:
            code = subprocess.run(["git", "archive", options.commit], cwd=ROOT, capture_output=True, check=True).stdout
            subprocess.run(["tar", "x", "-C", tree], input=code, check=True)
            environment = os.environ | {"PYTHONPATH": tree, "MILLRACE_HOME": str(HOME)}
            for line in LINES:
                command = [sys.executable, "-m", "millrace", *line.split()]
                subprocess.run(command, cwd=tree, env=environment, check=True)
        for name in LEFT_OUT:
            shutil.rmtree(HOME / name)
        # Without the names of this machine's users.
        command = ["tar", "--owner=0", "--group=0", "-cJf", str(options.target.resolve()), "metastore/db", "warehouse"]
        subprocess.run(command, cwd=HOME, check=True)
    finally:
        shutil.rmtree(HOME)


if __name__ == "__main__":
    main()
