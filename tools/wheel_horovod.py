"""Compile Horovod for the torch at hand: `python tools/wheel_horovod.py OUT`.

Its CMake files ask for C++14; the headers of torch >= 2.10 need C++20.
"""

import os
import tarfile
from pathlib import Path

from wheel_parts import SUFFIX, download, main, replace, run

HOROVOD = "0.28.1"
SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"  # of the source archive


def build_horovod(scratch: Path, python: str) -> Path:
    download(scratch, python, f"horovod=={HOROVOD}", SHA256, "--no-binary", ":all:", "--no-build-isolation")
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


if __name__ == "__main__":
    main(build_horovod, __doc__)
