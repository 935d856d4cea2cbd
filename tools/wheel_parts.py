"""Parts that the two wheel builders share. Standard library only: they run before anything is installed."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# Local version suffix of our builds, so that constraints.txt asks for exactly these and never for the published files.
SUFFIX = "millrace1"


def main(build: Callable[[Path, str], Path], about: str) -> None:
    """`python tools/wheel_NAME.py OUT [--python INTERPRETER]`; a wheel in OUT is always whole."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment to build for")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="millrace-wheel-") as scratch:
        wheel = build(Path(scratch), options.python)
        staged = options.out / f".{wheel.name}.{os.getpid()}"
        shutil.copyfile(wheel, staged)
        print(staged.rename(options.out / wheel.name))


def download(scratch: Path, python: str, package: str, sha256: str, *options: str) -> None:
    """Download `package` (name==version) into `scratch`, and stop unless its file is the one that was patched here."""
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{package} --hash=sha256:{sha256}\n")
    options = ("--require-hashes", *options)
    run(python, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, *options, "-r", requirement)


def replace(path: Path, old: str, new: str) -> None:
    substitute(path, re.escape(old), new.replace("\\", r"\\"))


def substitute(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text())
    if not count:
        raise SystemExit(f"nothing matches {pattern!r} in {path.name}: has its version changed?")
    path.write_text(text)


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(part) for part in command], check=True, env=env)
