"""Millrace's own code: its version, and one archive of it for the processes of a cluster."""

import hashlib
import subprocess
import zipfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from conf.site.loading import own_site_file

ROOT = Path(__file__).resolve().parent.parent
SUBMITTED_SITE = "conf/sites/submitted.py"
# Named one by one: tests and benchmarks lie beside them in a checkout and are no part of a job.
PACKAGES = ("conf", "etl", "features", "training", "recsys", "tuning", "dags", "doctor")
SUFFIXES = (
    ".py",
    ".yaml",
    ".sql",
    ".properties",
    ".j2",
    ".java",
    ".json",
)  # nothing else goes into the archive: no data, no secrets


def archive(folder: Path) -> Path:
    """Write `millrace-<digest>.zip` into `folder` and return its path; the same code gives the same file.

    Spark executors and Ray jobs load it (`addPyFile`, `py_modules`), so that a cluster runs the driver's code, with
    the site that the driver has.
    """
    paths = [ROOT / "millrace.py"]
    for package in PACKAGES:
        paths += sorted(path for path in (ROOT / package).rglob("*") if path.suffix in SUFFIXES)
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in paths}
    if (site := own_site_file()) is not None:
        files[SUBMITTED_SITE] = site.read_bytes()  # there, a ready site
    # Of names and contents: the archive's own bytes depend on the version of zlib.
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content)
    target = folder / f"millrace-{digest.hexdigest()[:12]}.zip"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    staged = target.with_suffix(".new")
    with zipfile.ZipFile(staged, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            # A fixed time: archives of the same code are the same bytes.
            out.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
    # Complete before it has its name: a command beside this one may look for the same archive.
    staged.replace(target)
    return target


@cache
def code_version() -> str:
    """`0.1.0+1a2b3c4`: the package's version and, in a git checkout, its commit.

    Recorded with every run and every row of ops_run; asks git once per process.
    """
    try:
        git = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
    except OSError:  # no git on this machine
        return version("millrace")
    return version("millrace") + (f"+{git.stdout.strip()}" if git.returncode == 0 else "")
