"""What is installed here: Spark, Ray, Arrow, Petastorm, Horovod, CUDA, Airflow, and all versions against the lock."""

import json
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from conf import Config
from conf.code import ROOT
from doctor.check import Check
from etl.settings import SparkSettings
from training.inputs.petastorm_readers import require_patched_build

PROBE_TIMEOUT_S = 8.0
SETUP = "run `make setup`"
# In a process of its own: torch takes seconds, and Horovod's library must not be loaded beside others.
PROBE = """
import json, torch
about = {"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": []}
about["nccl"] = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else None
if torch.cuda.is_available():
    about["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps(about), flush=True)
"""
HOROVOD_PROBE = """
import json, horovod.torch as hvd
print(json.dumps({"gloo": bool(hvd.gloo_built()), "nccl": bool(hvd.nccl_built())}))
"""


@cache
def probe(source: str) -> dict[str, Any]:
    """What a Python process of its own prints as JSON. Raises RuntimeError with its last line when it fails."""
    command = [sys.executable, "-W", "ignore", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    about: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return about


def nvidia_gpus() -> list[str]:
    """Names, memory and drivers of the machine's GPUs, as the driver has them; none without a driver."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def _installed(package: str) -> Check:
    try:
        return Check("ok", version(package))
    except PackageNotFoundError:
        return Check("missing", "not installed", SETUP)


def spark(config: Config) -> Check:
    """PySpark, whose version executors of a cluster must have, too."""
    check = _installed("pyspark")
    master = config.get(SparkSettings).master
    return Check(check.level, f"{check.text}, on {master}", check.cure)


def arrow(config: Config) -> Check:
    """pyarrow."""
    return _installed("pyarrow")


def petastorm(config: Config) -> Check:
    """Petastorm with our patches, without which it loses rows."""
    require_patched_build()
    return Check("ok", f"{version('petastorm')}, the patched build")


def horovod(config: Config) -> Check:
    """What Horovod's library can exchange tensors by: gloo on CPUs, NCCL on GPUs."""
    built = probe(HOROVOD_PROBE)
    text = f"{version('horovod')}, built with {' and '.join(name for name in built if built[name]) or 'nothing'}"
    if not built["gloo"]:
        return Check("missing", text, f"{SETUP}: --backend horovod needs gloo")
    if nvidia_gpus() and not built["nccl"]:
        cure = f"horovod trains on the CPU: {SETUP} where a CUDA toolkit (nvcc) and NCCL are"
        return Check("warning", text, cure)
    return Check("ok", text)


def cuda(config: Config) -> Check:
    """torch's build against the machine's driver."""
    about, gpus = probe(PROBE), nvidia_gpus()
    text = f"torch {about['torch']}, " + (f"CUDA {about['cuda']}" if about["cuda"] else "without CUDA")
    if gpus and not about["cuda"]:
        return Check("missing", f"{text}; the machine has GPUs", f"{SETUP} (MILLRACE_TORCH=auto)")
    if gpus and not about["gpus"]:
        return Check(
            "missing", f"{text} doesn't fit the driver", f"{SETUP} with MILLRACE_TORCH=cu126 or the driver's own"
        )
    return Check("ok", text)


def nccl(config: Config) -> Check:
    """NCCL in torch, which exchanges gradients between GPUs."""
    about = probe(PROBE)
    if about["nccl"]:
        return Check("ok", f"{about['nccl']} in torch")
    if nvidia_gpus():
        return Check("missing", "not in this torch", f"{SETUP} (MILLRACE_TORCH=auto)")
    return Check("ok", "not in this torch, and not needed: gloo is, for CPUs")


def gpus(config: Config) -> Check:
    """The machine's GPUs."""
    names = nvidia_gpus()
    if names:
        return Check("ok", f"{len(names)}: {'; '.join(names)}")
    return Check("ok", "none here, or no NVIDIA driver: training runs on the CPU (train.gpus_per_worker)")


def airflow(config: Config) -> Check:
    """Airflow and its program, which `millrace dags up` starts."""
    check = _installed("apache-airflow")
    if check.level == "ok" and not shutil.which("airflow", path=str(Path(sys.executable).parent)):
        return Check("missing", f"{check.text} without its program", SETUP)
    return check


def versions(config: Config) -> Check:
    """Installed packages against constraints.txt."""
    lock = ROOT / "constraints.txt"
    if not lock.exists():
        return Check("ok", "no constraints.txt beside the code: not compared")
    pins = dict(line.split("==") for line in lock.read_text(encoding="utf-8").split() if "==" in line)
    others = [f"{name} {there} (pinned {pin})" for name, pin in pins.items() if (there := _other(name, pin))]
    if not others:
        return Check("ok", f"as pinned, {len(pins)} packages")
    more = f" and {len(others) - 5} more" if len(others) > 5 else ""
    return Check("warning", f"not as pinned: {', '.join(others[:5])}{more}", SETUP)


def _other(name: str, pin: str) -> str | None:
    """The installed version where it is not the pinned one; a package that is not installed is no other."""
    try:
        there = version(name)
    except PackageNotFoundError:
        return None
    # torch's builds have a suffix, which pins leave out; ours have one that they name.
    return None if there == pin or ("+" not in pin and there.partition("+")[0] == pin) else there
