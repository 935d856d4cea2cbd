"""`make setup`: bring a machine that has Python 3.11 and git to where Millrace runs. Does nothing when nothing changed.

Java (by apt if there is none), `.venv`, uv, the two wheels that we make ourselves (kept in the user's cache folder),
every package at its pinned version, Millrace itself, editable, and Spark's classes as Java likes to read them. Standard
library only.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
STAMP = VENV / "millrace-setup"
CLASS_ARCHIVE = VENV / "spark-classes.jsa"  # where etl/spark_options.py looks for it
# What each of our own wheels is made from: a change makes it anew.
HOROVOD = ("tools/wheel_parts.py", "tools/wheel_horovod.py")
PETASTORM = (
    "tools/wheel_parts.py",
    "tools/wheel_petastorm.py",
    "tools/petastorm_arrow_legacy.py",
    "tools/petastorm_safe_pickle.py",
)
INPUTS = ("pyproject.toml", "constraints.txt", "tools/setup.py", *HOROVOD, *PETASTORM)
# What Horovod's build needs, besides a C++ compiler. Its CMake files are too old for CMake 4.
HOROVOD_BUILD = (
    "torch",
    "cmake<4",
    "setuptools",
    "wheel",
    "pip",
    "cffi",
    "cloudpickle",
    "psutil",
    "pyyaml",
    "packaging",
)


def main() -> None:
    if sys.argv[1:] == ["browser"]:
        ensure_chromium()
        return
    if STAMP.exists() and STAMP.read_text() == fingerprint():
        return
    started = time.monotonic()
    require_python()
    ensure_java()
    ensure_postgres()
    create_venv()
    links = [word for folder in ensure_wheels() for word in ("--find-links", folder)]
    say("installing the pinned packages")
    # Ours keep their version when their recipe changes, so they are always put in anew.
    anew = ("--reinstall-package", "petastorm", "--reinstall-package", "horovod")
    uv("install", "-e", ".", "--group", "dev", "-c", "constraints.txt", *links, *anew)
    if sys.dont_write_bytecode:
        compile_packages()
    archive_classes()
    STAMP.write_text(fingerprint())
    say(f"ready after {time.monotonic() - started:.0f} s")


def fingerprint() -> str:
    javas = [(java.resolve(), java.stat().st_mtime_ns) for java in java_programs()]
    digest = hashlib.sha256(f"{VENV} {javas}".encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def require_python() -> None:
    if sys.version_info[:2] != (3, 11):
        stop(f"Python 3.11 is needed, this is {sys.version.split()[0]}: run `make setup PYTHON=python3.11`")


def ensure_java() -> None:
    """Spark 4.3 runs on Java 17 or 21."""
    if find_java():
        return
    say("no Java 17 or 21 found: installing openjdk-17-jre-headless")
    apt_install("openjdk-17-jre-headless", why="Spark needs Java 17 or 21")
    if not find_java():
        stop("Java 17 was installed but does not start; see `java -version`")


def ensure_postgres() -> None:
    """The JDBC driver that imports and exports want, and the server that their tests start; not needed for the rest."""
    driver, server = Path("/usr/share/java/postgresql.jar"), Path("/usr/lib/postgresql")
    missing = [] if driver.exists() else ["libpostgresql-jdbc-java"]
    missing += [] if list(server.glob("*/bin/initdb")) and shutil.which("psql") else ["postgresql"]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        say(f"without {' and '.join(missing)} (apt), PostgreSQL can't be imported from, and its tests are skipped")
        return
    say(f"installing {' and '.join(missing)}")
    try:
        apt_install(*missing, why="imports from PostgreSQL need its driver, their tests the server")
    except SystemExit as refused:  # all else works without
        say(str(refused))


def ensure_chromium() -> None:
    """The browser in which a test opens the day's page; not needed for the rest."""
    if shutil.which("chromium"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        say("without chromium (apt), the test that opens the day's page in a browser is skipped")
        return
    say("installing chromium")
    try:
        apt_install("chromium", why="a test opens the day's page in a browser")
    except SystemExit as refused:  # all else works without
        say(str(refused))


def find_java() -> bool:
    for java in java_programs():
        try:
            version_text = subprocess.run(
                [java, "-version"], capture_output=True, text=True, check=True, timeout=60
            ).stderr
        except (OSError, subprocess.SubprocessError):
            continue
        if any(f'version "{major}' in version_text for major in ("17", "21")):
            return True
    return False


def java_programs() -> list[Path]:
    """Where `java` may be, JAVA_HOME first."""
    candidates = [Path(os.environ["JAVA_HOME"]) / "bin/java"] if os.environ.get("JAVA_HOME") else []
    candidates += [Path(program)] if (program := shutil.which("java")) else []
    return [java for java in candidates if java.exists()]


def create_venv() -> None:
    if not PYTHON.exists():
        say(f"creating {VENV.name}")
        if subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True).returncode:
            apt_install("python3-venv", why="this Python can't make virtual environments")
        run(sys.executable, "-m", "venv", VENV)
    if not (VENV / "bin/uv").exists():
        run(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv")


def ensure_wheels() -> list[Path]:
    """Our own wheels, kept outside the checkout, by what they depend on: Horovod compiles for minutes."""
    return [petastorm_wheel(), horovod_wheel()]


def petastorm_wheel() -> Path:
    folder = wheel_cache("petastorm", PETASTORM)
    if not list(folder.glob("petastorm-*.whl")):
        say("mending Petastorm for today's Arrow")
        run(PYTHON, "tools/wheel_petastorm.py", folder)
    return folder


def horovod_wheel() -> Path:
    folder = wheel_cache(f"horovod-torch{pinned('torch')}", HOROVOD)
    if not list(folder.glob("horovod-*.whl")):
        if not shutil.which("g++"):
            apt_install("g++", "python3-dev", "make", why="Horovod is compiled once on each machine")
        say("compiling Horovod for this torch: about three minutes, once on each machine")
        uv("install", *HOROVOD_BUILD, "-c", "constraints.txt")
        run(PYTHON, "tools/wheel_horovod.py", folder)
    return folder


def wheel_cache(name: str, recipe: tuple[str, ...]) -> Path:
    digest = hashlib.sha256(b"".join((ROOT / part).read_bytes() for part in recipe)).hexdigest()[:12]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "millrace/wheels" / f"cp311-{name}-{digest}"


def pinned(package: str) -> str:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


def compile_packages() -> None:
    """Keep the bytecode of the packages where PYTHONDONTWRITEBYTECODE, as in many containers, forbids Python to.

    Without it every process compiles all that it imports, torch and Ray for seconds each.
    """
    say("compiling the packages, which PYTHONDONTWRITEBYTECODE would make every process do")
    packages = VENV / "lib/python3.11/site-packages"
    command = [str(PYTHON), "-m", "compileall", "-qq", "-j", "0", "-x", "site-packages/.*/tests?/", str(packages)]
    subprocess.run(command, check=False)  # some packages hold templates that are no Python yet


def archive_classes() -> None:
    """Let Java write the classes that a tiny day loads to one file, which later JVMs of this `.venv` map.

    Without it all works, and each start of Spark takes some seconds more.
    """
    say("archiving Spark's classes: every later start is quicker")
    CLASS_ARCHIVE.unlink(missing_ok=True)
    fresh = CLASS_ARCHIVE.with_suffix(".new")
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MILLRACE")},
            "MILLRACE_HOME": home,
            "MILLRACE__SPARK__DRIVER_MEMORY": "1g",
            "MILLRACE__SPARK__COMPILE_LITTLE": "true",
            "SPARK_SUBMIT_OPTS": f"-XX:ArchiveClassesAtExit={fresh} -Xlog:disable",
        }
        for line in ("simulate --days 1 --scale 0.02", "run --date 2026-01-01 --from import --to events"):
            command = [str(VENV / "bin/millrace"), *line.split()]
            done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
            if done.returncode:
                say(f"left out: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
                return
    if fresh.exists():  # not every Java has the archive of its own that ours builds on
        fresh.replace(CLASS_ARCHIVE)  # a JVM that maps the old one keeps it


def uv(command: str, *arguments: str | Path) -> None:
    # pip's own setting for a folder of wheels, which uv does not read, is handed on.
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or ""
    link_options = [word for link in links.replace(",", " ").split() for word in ("--find-links", link)]
    run(VENV / "bin/uv", "pip", command, "-q", "--python", PYTHON, *link_options, *arguments)


def apt_install(*packages: str, why: str) -> None:
    by_hand = f"{why}: install {' '.join(packages)} (`apt-get install {' '.join(packages)}`) and run this again"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        stop(by_hand)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
            stop(by_hand)


def run(*command: str | Path) -> None:
    if subprocess.run([str(part) for part in command], cwd=ROOT).returncode:
        stop(f"failed: {' '.join(str(part) for part in command[:6])} …")


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> None:
    raise SystemExit(f"setup: {text}")


if __name__ == "__main__":
    main()
