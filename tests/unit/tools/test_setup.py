"""What `make setup` decides on machines with and without a GPU: torch's build, and how Horovod is compiled."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from support import ROOT


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    """tools/setup.py, which is no package."""
    spec = importlib.util.spec_from_file_location("millrace_setup", ROOT / "tools/setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("choice", "has_driver", "backend"),
    [
        ("", True, "auto"),
        ("", False, None),
        ("cpu", True, "cpu"),
        ("cu126", False, "cu126"),
        (" CU130 ", True, "cu130"),
    ],
)
def test_the_driver_chooses_torch_s_build_unless_the_user_does(
    setup: ModuleType, choice: str, has_driver: bool, backend: str | None
) -> None:
    assert setup.torch_backend({"MILLRACE_TORCH": choice}, has_driver=has_driver) == backend


def test_a_build_that_is_none_is_refused(setup: ModuleType) -> None:
    with pytest.raises(SystemExit, match="MILLRACE_TORCH=gpu: write cpu, auto, or a CUDA version as cu126"):
        setup.torch_backend({"MILLRACE_TORCH": "gpu"}, has_driver=True)


@pytest.mark.parametrize(
    ("line", "cuda"),
    [("cuda: Optional[str] = None", "cpu"), ("cuda: Optional[str] = '12.6'", "cu126"), ("cuda = '13.0'", "cu130")],
)
def test_the_cuda_of_an_installed_torch_is_in_its_version_file(
    setup: ModuleType, tmp_path: Path, line: str, cuda: str
) -> None:
    file = tmp_path / "version.py"
    assert setup.torch_cuda(file) is None
    file.write_text(f"__version__ = '2.13.0'\ndebug = False\n{line}\nhip = None\n")
    assert setup.torch_cuda(file) == cuda


@pytest.mark.parametrize(
    ("backend", "installed", "is_other"),
    [
        ("auto", "cpu", True),  # a driver has come, or a CPU wheel was at hand
        ("auto", "cu126", False),
        ("cu126", "cu130", True),
        ("cpu", "cpu", False),
        (None, "cpu", False),
        ("auto", None, False),
    ],
)
def test_torch_is_put_in_anew_when_it_is_another_build(
    setup: ModuleType, backend: str | None, installed: str | None, is_other: bool
) -> None:
    assert setup.is_other_torch(backend, installed) == is_other


def test_horovod_has_nccl_where_torch_compiler_and_library_are_there(setup: ModuleType, tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    (packages / "nvidia/nccl/include").mkdir(parents=True)
    (packages / "nvidia/nccl/include/nccl.h").touch()
    (packages / "nvidia/nccl/lib").mkdir()
    (packages / "nvidia/nccl/lib/libnccl.so.2").touch()
    (tmp_path / "cuda/bin").mkdir(parents=True)
    (tmp_path / "cuda/bin/nvcc").touch()
    toolkit = setup.cuda_home({"CUDA_HOME": str(tmp_path / "cuda"), "PATH": ""})
    nccl = setup.nccl_home({}, packages)
    assert (toolkit, nccl) == (tmp_path / "cuda", packages / "nvidia/nccl")
    options = setup.horovod_options("cu126", toolkit, nccl)
    assert options["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    for incomplete in (("cpu", toolkit, nccl), ("cu126", None, nccl), ("cu126", toolkit, None)):
        assert setup.horovod_options(*incomplete) == {}
    # torch's package has no libnccl.so, by which a linker looks for it.
    (tmp_path / "scratch").mkdir()
    home = setup.linkable(nccl, tmp_path / "scratch")
    assert (home / "lib/libnccl.so").exists()
    assert (home / "include/nccl.h").exists()


def test_a_cached_wheel_is_of_one_cuda_and_with_or_without_nccl(setup: ModuleType) -> None:
    builds = [("cpu", False), ("cu126", False), ("cu126", True), ("cu130", True)]
    assert len({setup.horovod_name("2.13.0", cuda, has_nccl=nccl) for cuda, nccl in builds}) == len(builds)
