"""`make setup`: bring a machine that has Python 3.11 and git to where Millrace runs. Does nothing when nothing changed.

Java (by apt if there is none), `.venv`, uv, torch, the two wheels that we make ourselves (kept in the user's cache
folder), every package at its pinned version, Millrace itself, editable, and Spark's classes as Java likes to read them.
torch is the CUDA build where there is an NVIDIA driver; MILLRACE_TORCH=cpu, cu126 … overrides. Standard library only.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
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

# Program, Debian's package, and what it is for.
TEST_PROGRAMS = (
    ("chromium", "chromium", "a test opens the day's page in a browser"),
    ("redis-server", "redis-server", "tests let servers of several machines share a Redis"),
)


def main() -> None:
    if sys.argv[1:] == ["tests"]:
        ensure_test_programs()
        return
    if STAMP.exists() and STAMP.read_text() == fingerprint():
        return
    started = time.monotonic()
    require_python()
    ensure_java()
    ensure_postgres()
    create_venv()
    cuda = ensure_torch()
    links = [word for folder in ensure_wheels(cuda) for word in ("--find-links", folder)]
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
    gpu = (torch_backend(os.environ, has_driver=has_nvidia_driver()), str(cuda_home(os.environ)))
    digest = hashlib.sha256(f"{VENV} {javas} {gpu}".encode())
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


def ensure_test_programs() -> None:
    """Programs that tests alone want, each of which is skipped without its own."""
    for program, package, why in TEST_PROGRAMS:
        if shutil.which(program):
            continue
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            say(f"without {package} (apt), tests are skipped: {why}")
            continue
        say(f"installing {package}")
        try:
            apt_install(package, why=why)
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


def has_nvidia_driver() -> bool:
    """Whether this machine, or this container, has an NVIDIA driver; under WSL only the program tells."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def torch_backend(environment: Mapping[str, str], *, has_driver: bool) -> str | None:
    """What uv's --torch-backend gets; None leaves torch to whatever index or folder pip is set up with."""
    choice = environment.get("MILLRACE_TORCH", "").strip().lower()
    if not choice:
        return "auto" if has_driver else None  # uv asks the driver which CUDA it takes
    if not re.fullmatch(r"auto|cpu|cu\d{2,3}", choice):
        stop(f"MILLRACE_TORCH={choice}: write cpu, auto, or a CUDA version as cu126")
    return choice


def torch_cuda(version_file: Path) -> str | None:
    """The CUDA of an installed torch as cu126, cpu for a build without; None when there is none."""
    if not version_file.exists():
        return None
    cuda = re.search(r"^cuda\b.*= '([\d.]+)'", version_file.read_text(), re.MULTILINE)
    return "cu" + "".join(cuda[1].split(".")[:2]) if cuda else "cpu"


def is_other_torch(backend: str | None, installed: str | None) -> bool:
    """Whether the installed torch is not the build that is asked for: uv itself takes any of the pinned version."""
    if backend is None or installed is None:
        return False
    return installed == "cpu" if backend == "auto" else installed != backend


def ensure_torch() -> str:
    """Install torch at its pinned version, which all its builds have; returns its CUDA as cu126, or cpu."""
    version_file = VENV / "lib/python3.11/site-packages/torch/version.py"
    backend, installed = torch_backend(os.environ, has_driver=has_nvidia_driver()), torch_cuda(version_file)
    anew = ("--reinstall-package", "torch") if is_other_torch(backend, installed) else ()
    if backend is not None and (installed is None or anew):
        say(f"installing torch's build {'for the CUDA of the driver' if backend == 'auto' else backend}")
        command = uv_command("install", "torch", "-c", "constraints.txt", "--torch-backend", backend, *anew)
        if not succeeds(*command):
            if os.environ.get("MILLRACE_TORCH"):
                stop(f"no build {backend} of torch {pinned('torch')} can be had; set MILLRACE_TORCH=cpu or another")
            say("no CUDA build of torch can be had here: GPUs stay unused; MILLRACE_TORCH=cpu doesn't try")
    if torch_cuda(version_file) is None:
        uv("install", "torch", "-c", "constraints.txt")
    return torch_cuda(version_file) or "cpu"


def ensure_wheels(cuda: str) -> list[Path]:
    """Our own wheels, kept outside the checkout, by what they depend on: Horovod compiles for minutes."""
    return [petastorm_wheel(), horovod_wheel(cuda)]


def petastorm_wheel() -> Path:
    folder = wheel_cache("petastorm", PETASTORM)
    if not list(folder.glob("petastorm-*.whl")):
        say("mending Petastorm for today's Arrow")
        run(PYTHON, "tools/wheel_petastorm.py", folder)
    return folder


def cuda_home(environment: Mapping[str, str]) -> Path | None:
    """Folder of a CUDA toolkit with its compiler, which Horovod's kernels need; None when there is none."""
    nvcc = shutil.which("nvcc", path=environment.get("PATH"))
    homes = [environment.get("CUDA_HOME"), str(Path(nvcc).resolve().parent.parent) if nvcc else None, "/usr/local/cuda"]
    return next((Path(home) for home in homes if home and (Path(home) / "bin/nvcc").exists()), None)


def nccl_home(environment: Mapping[str, str], site_packages: Path) -> Path | None:
    """Folder of NCCL's header and library: HOROVOD_NCCL_HOME, the one that torch came with, or the system's."""
    candidates = [environment.get("HOROVOD_NCCL_HOME"), site_packages / "nvidia/nccl", "/usr/local", "/usr"]
    return next((Path(home) for home in candidates if home and (Path(home) / "include/nccl.h").exists()), None)


def horovod_name(torch: str, cuda: str, *, has_nccl: bool) -> str:
    """Folder of the wheel: a build is good for one torch, one CUDA, and with or without NCCL.

    The CPU's stays as it was, so that wheels that lie there are taken.
    """
    return f"horovod-torch{torch}" if cuda == "cpu" else f"horovod-torch{torch}-{cuda}-{'nccl' if has_nccl else 'gloo'}"


def horovod_options(cuda: str, toolkit: Path | None, nccl: Path | None) -> dict[str, str]:
    """Environment of Horovod's build: NCCL for tensors on GPUs where torch, compiler and library are there."""
    if cuda == "cpu" or toolkit is None or nccl is None:
        return {}
    return {
        "HOROVOD_GPU": "CUDA",
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_CUDA_HOME": str(toolkit),
        "HOROVOD_NCCL_HOME": str(nccl),
        "HOROVOD_NCCL_LINK": "SHARED",
    }


def linkable(nccl: Path, scratch: Path) -> Path:
    """NCCL as a linker wants it: torch's package has libnccl.so.2 alone, without the name that -lnccl looks for."""
    library = next((path for path in nccl.glob("lib*/**/libnccl.so*")), None)
    if library is None or library.name == "libnccl.so":
        return nccl
    (scratch / "lib").mkdir()
    (scratch / "lib/libnccl.so").symlink_to(library)
    (scratch / "include").symlink_to(nccl / "include")
    return scratch


def horovod_wheel(cuda: str) -> Path:
    toolkit, nccl = cuda_home(os.environ), nccl_home(os.environ, VENV / "lib/python3.11/site-packages")
    has_nccl = bool(horovod_options(cuda, toolkit, nccl))
    if cuda != "cpu" and not has_nccl:
        missing = "the compiler nvcc of a CUDA toolkit (CUDA_HOME)" if toolkit is None else "NCCL (HOROVOD_NCCL_HOME)"
        say(f"without {missing} Horovod has no NCCL: --backend horovod trains on the CPU, ray and spark on GPUs")
    folder = wheel_cache(horovod_name(pinned("torch"), cuda, has_nccl=has_nccl), HOROVOD)
    if not list(folder.glob("horovod-*.whl")):
        if not shutil.which("g++"):
            apt_install("g++", "python3-dev", "make", why="Horovod is compiled once on each machine")
        say("compiling Horovod for this torch: about three minutes, once on each machine")
        uv("install", *HOROVOD_BUILD, "-c", "constraints.txt")
        with tempfile.TemporaryDirectory() as scratch:
            options = horovod_options(cuda, toolkit, nccl and linkable(nccl, Path(scratch)))
            run(PYTHON, "tools/wheel_horovod.py", folder, **options)
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
    run(*uv_command(command, *arguments))


def uv_command(command: str, *arguments: str | Path) -> list[str | Path]:
    # pip's own setting for a folder of wheels, which uv does not read, is handed on.
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or ""
    link_options = [word for link in links.replace(",", " ").split() for word in ("--find-links", link)]
    return [VENV / "bin/uv", "pip", command, "-q", "--python", PYTHON, *link_options, *arguments]


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


def succeeds(*command: str | Path, **environment: str) -> bool:
    return not subprocess.run([str(part) for part in command], cwd=ROOT, env={**os.environ, **environment}).returncode


def run(*command: str | Path, **environment: str) -> None:
    if not succeeds(*command, **environment):
        stop(f"failed: {' '.join(str(part) for part in command[:6])} …")


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> None:
    raise SystemExit(f"setup: {text}")


if __name__ == "__main__":
    main()
