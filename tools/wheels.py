"""Make the two wheels that are not on the index as we need them: Horovod compiled and Petastorm mended.

    python tools/wheels.py horovod|petastorm OUT_DIR [--python VENV_PYTHON]

Both get the local version suffix `+millrace1`, so that constraints.txt asks for exactly these and never for the
published files by accident. Standard library only: it runs before anything is installed.
"""

import argparse
import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HOROVOD = "0.28.1"
PETASTORM = "0.13.1"
SUFFIX = "millrace1"
HERE = Path(__file__).resolve().parent


def build(name: str, out: Path, python: str) -> Path:
    """Build the wheel `name` into `out`; a file there is always whole (built aside, then renamed)."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"millrace-{name}-") as scratch:
        wheel = {"horovod": build_horovod, "petastorm": mend_petastorm}[name](Path(scratch), python)
        staged = out / f".{wheel.name}.{os.getpid()}"
        shutil.copyfile(wheel, staged)
        return staged.rename(out / wheel.name)


# --- Horovod: its CMake files ask for C++14, the headers of torch >= 2.10 need C++20 -------------------------------


def build_horovod(scratch: Path, python: str) -> Path:
    download(scratch, python, f"horovod=={HOROVOD}", "--no-binary", ":all:", "--no-build-isolation")
    with tarfile.open(next(scratch.glob("horovod-*.tar.gz"))) as archive:
        archive.extractall(scratch, filter="data")
    source = scratch / f"horovod-{HOROVOD}"
    for cmake in (source / "CMakeLists.txt", source / "horovod/torch/CMakeLists.txt"):
        replace(cmake, "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 20)")
    replace(source / "horovod/__init__.py", f"__version__ = '{HOROVOD}'", f"__version__ = '{HOROVOD}+{SUFFIX}'")
    environment = {
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITHOUT_MPI": "1",
        "MAKEFLAGS": f"-j{os.cpu_count() or 2}",
        **os.environ,
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", scratch, source, env=environment)
    return next(scratch.glob("horovod-*.whl"))


# --- Petastorm: today's pyarrow and numpy, and the end-of-data race that loses rows ---------------------------------

# (files, regular expression, replacement): every rule must match in every file it names, or the build stops.
PETASTORM_RULES = [
    # The dataset API that pyarrow 15 removed comes from arrow_legacy.py.
    (
        "reader.py arrow_reader_worker.py py_dict_reader_worker.py etl/dataset_metadata.py etl/rowgroup_indexing.py "
        "etl/petastorm_generate_metadata.py etl/metadata_util.py",
        r"from pyarrow import parquet as pq",
        "from petastorm import arrow_legacy as pq",
    ),
    ("fs_utils.py", r"import pyarrow\n", "from petastorm.arrow_legacy import LocalFileSystem\n"),
    ("fs_utils.py", r"pyarrow\.localfs", "LocalFileSystem()"),
    ("utils.py", r"from pyarrow\.filesystem import LocalFileSystem", "from petastorm.arrow_legacy import LocalFileSystem"),
    ("utils.py", r"import pyarrow\n", "import pyarrow\nimport pyarrow.parquet\n"),
    (
        "spark/spark_dataset_converter.py",
        r"from pyarrow import LocalFileSystem",
        "from petastorm.arrow_legacy import LocalFileSystem",
    ),
    (
        "hdfs/namenode.py",
        r"from pyarrow\.hdfs import HadoopFileSystem\nfrom pyarrow\.lib import ArrowIOError",
        "from fsspec.implementations.arrow import HadoopFileSystem\n\nArrowIOError = OSError",
    ),
    ("hdfs/namenode.py", r"return pyarrow\.hdfs\.connect\(", "return HadoopFileSystem("),
    # Names that numpy 2 removed.
    ("unischema.py arrow_reader_worker.py", r"np\.unicode_", "np.str_"),
    ("unischema.py", r"np\.string_", "np.bytes_"),
    ("weighted_sampling_reader.py", r"np\.float\)", "np.float64)"),
    # The race: all_workers_done() was asked before ventilator.completed(), so what was ventilated between the two
    # was dropped without a word. Asked in this order nothing can come in between: once completed, no item follows.
    (
        "workers_pool/thread_pool.py",
        r"            if self\.all_workers_done\(\):\n.*\n                if not self\._ventilator or self\._ventilator\.completed\(\):\n"
        r"                    raise EmptyResultError\(\)\n",
        "            ventilated_all = not self._ventilator or self._ventilator.completed()\n"
        "            if self.all_workers_done():\n"
        "                if ventilated_all:\n"
        "                    raise EmptyResultError()\n"
        "                sleep(0.001)\n",
    ),
    ("workers_pool/thread_pool.py", r"from traceback import format_exc\n", "from time import sleep\nfrom traceback import format_exc\n"),
    (
        "workers_pool/process_pool.py",
        r"            if self\._ventilated_items == self\._ventilated_items_processed:\n.*\n"
        r"                if not self\._ventilator or self\._ventilator\.completed\(\):\n",
        "            ventilated_all = not self._ventilator or self._ventilator.completed()\n"
        "            if self._ventilated_items == self._ventilated_items_processed:\n"
        "                if ventilated_all:\n",
    ),
    # The dummy pool waits for an item that may never come: completed() can turn true between its two questions.
    (
        "workers_pool/dummy_pool.py",
        r"                while not self\._ventilator_queue:\n                    sleep\(\.1\)\n",
        "                if not self._ventilator_queue:\n                    sleep(0.001)\n                    continue\n",
    ),
]


def mend_petastorm(scratch: Path, python: str) -> Path:
    download(scratch, python, f"petastorm=={PETASTORM}", "--only-binary", ":all:")
    tree = scratch / "tree"
    with zipfile.ZipFile(next(scratch.glob("petastorm-*.whl"))) as archive:
        archive.extractall(tree)
    for files, pattern, replacement in PETASTORM_RULES:
        for name in files.split():
            substitute(tree / "petastorm" / name, pattern, replacement)
    shutil.copyfile(HERE / "petastorm_arrow_legacy.py", tree / "petastorm/arrow_legacy.py")
    substitute(tree / "petastorm/__init__.py", rf"__version__ = '{PETASTORM}'", f"__version__ = '{PETASTORM}+{SUFFIX}'")
    for unwanted in (tree / "examples", tree / "petastorm/tests"):
        shutil.rmtree(unwanted, ignore_errors=True)
    old_info, version = tree / f"petastorm-{PETASTORM}.dist-info", f"{PETASTORM}+{SUFFIX}"
    info = old_info.rename(tree / f"petastorm-{version}.dist-info")
    replace(info / "METADATA", f"Version: {PETASTORM}", f"Version: {version}")
    return zip_wheel(tree, info, scratch / f"petastorm-{version}-py3-none-any.whl")


def zip_wheel(tree: Path, info: Path, wheel: Path) -> Path:
    """Zip `tree`, with RECORD written anew: installers refuse a file whose hash does not stand there."""
    record = info / "RECORD"
    record.unlink()
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    lines = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            data, name = path.read_bytes(), path.relative_to(tree).as_posix()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}")
            archive.writestr(name, data)
        name = record.relative_to(tree).as_posix()
        archive.writestr(name, "\n".join([*lines, f"{name},,"]) + "\n")
    return wheel


# --- helpers ----------------------------------------------------------------------------------------------------


def download(scratch: Path, python: str, *what: str) -> None:
    run(python, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, *what)


def replace(path: Path, old: str, new: str) -> None:
    substitute(path, re.escape(old), new.replace("\\", r"\\"))


def substitute(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text())
    if not count:
        raise SystemExit(f"tools/wheels.py: nothing matches {pattern!r} in {path.name}: has its version changed?")
    path.write_text(text)


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(part) for part in command], check=True, env=env)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["horovod", "petastorm"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment to build for")
    options = parser.parse_args()
    print(build(options.name, options.out, options.python))
