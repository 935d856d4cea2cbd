"""`make gpu-proof` says plainly what it ran, and is one line where there is no GPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from support import ROOT

PROGRAM = ROOT / "tools/gpu_proof.py"


def test_without_a_gpu_it_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}  # no nvidia-smi
    done = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "gpu-proof: this machine has no NVIDIA GPU: nothing was run; `millrace doctor --gpu --cpu` needs none"
    ]


def test_each_step_says_whether_it_ran() -> None:
    spec = importlib.util.spec_from_file_location("gpu_proof", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    python = sys.executable
    steps = {
        "good": (python, "-c", ""),
        "bad": (python, "-c", "raise SystemExit(3)"),
        "absent": ("/nowhere/millrace",),
        "long": (python, "-c", "import time; time.sleep(60)"),
        "late": (python, "-c", ""),
    }
    results = module.run_steps(steps, 3.0)
    assert results["good"] == "ran"
    assert results["bad"].startswith("failed or ran in part (exit code 3)")
    assert results["absent"].startswith("not run: No such file")
    assert (results["long"], results["late"]) == ("stopped: the 3 s were over", "not run: the 3 s were over")
