"""`make gpu-proof`: everything that only a GPU can show, in one command of nine minutes at most.

Set-up with torch's CUDA build and Horovod with NCCL; `millrace doctor --gpu` (all-reduce, DeepFM on every backend,
sharded tables, bfloat16); the benchmark of training. It ends with what was run and what was not. Standard library only.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv/bin"
LIMIT_S = 540.0
STEPS: dict[str, tuple[str, ...]] = {
    "set-up with CUDA": (sys.executable, "tools/setup.py"),
    "doctor --gpu": (str(BIN / "millrace"), "doctor", "--gpu"),
    "benchmark of training": (str(BIN / "python"), "-m", "benchmarks.train", "--scale", "1"),
}


def main() -> None:
    if not has_gpu():
        sys.exit("gpu-proof: this machine has no NVIDIA GPU: nothing was run; `millrace doctor --gpu --cpu` needs none")
    results = run_steps(STEPS, LIMIT_S)
    print("\n".join(["", "gpu-proof:", *(f"  {name}: {result}" for name, result in results.items())]))
    if single_gpu():
        print("  not run: NCCL between GPUs, and one GPU for each of two workers: there is one GPU here")
    sys.exit(int(any(result != "ran" for result in results.values())))


def has_gpu() -> bool:
    """Whether a driver lists a GPU."""
    return bool(gpu_names())


def single_gpu() -> bool:
    """Whether nothing can be exchanged between GPUs here."""
    return len(gpu_names()) == 1


def gpu_names() -> list[str]:
    """The driver's GPUs, a line each."""
    if not shutil.which("nvidia-smi"):
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def run_steps(steps: dict[str, Sequence[str]], limit_s: float) -> dict[str, str]:
    """Run commands one after the other within a time for all; a word on each. One that fails doesn't end the others."""
    until, results = time.monotonic() + limit_s, {}
    for name, command in steps.items():
        left = until - time.monotonic()
        if left <= 0:
            results[name] = f"not run: the {limit_s:.0f} s were over"
            continue
        print(f"gpu-proof: {name}", file=sys.stderr, flush=True)
        try:
            environment = {**os.environ, "MILLRACE_TORCH": os.environ.get("MILLRACE_TORCH", "auto")}
            code = subprocess.run(list(command), cwd=ROOT, env=environment, timeout=left, check=False).returncode
            results[name] = "ran" if code == 0 else f"failed or ran in part (exit code {code}), see its lines above"
        except subprocess.TimeoutExpired:
            results[name] = f"stopped: the {limit_s:.0f} s were over"
        except OSError as error:
            results[name] = f"not run: {error.strerror} ({command[0]})"
    return results


if __name__ == "__main__":
    main()
