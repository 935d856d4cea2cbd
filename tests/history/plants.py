"""Seven bugs, each planted in a copy of the source tree and looked for by the seeds, or by a trace of system calls.

PYTHONPATH=tests python -m history.plants [NAME]...
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREES = ("conf", "etl", "features", "training", "recsys", "tuning", "dags", "doctor", "tests", "millrace.py")
LIMIT_S = 900


@dataclass(frozen=True)
class Plant:
    """A bug: what a file says, and what it is made to say."""

    file: str
    right: str
    wrong: str
    stages: tuple[str, ...]
    """That the seeds are walked with: fewer are quicker."""
    message: str
    """A regular expression: what one of the violations has to say. Another one would be caught by chance."""
    by: str = "seeds"
    """What catches it: `seeds`, `trace` (of system calls) or `turns` (two commands at once)."""


PLANTS = {
    "swap before check": Plant(
        "etl/warehouse/store.py",
        "            counts = self._check_files(table, folder, list(values), before_checks)\n",
        "            self._publish([(table, folder, list(values))])\n"
        "            counts = self._check_files(table, folder, list(values), before_checks)\n",
        ("import",),
        r"or of one that was refused$",
    ),
    "rename the wrong way": Plant(
        "etl/warehouse/files.py",
        "            file_system.rename(fresh_path, old_path)\n        else:",
        "            file_system.rename(path, old_path)\n        else:",
        ("import", "export"),
        r"reads: export .*: nothing of db, though version \d+ was acknowledged",
    ),
    "no fsync": Plant(
        "conf/atomic.py", "            os.fsync(out.fileno())", "            pass", ("collect",),
        r"got its name before its content was on the disk$", by="trace"
    ),
    "lock released early": Plant(
        "etl/metastore/lock.py",
        "            self.record_jvm(None)  # none has started yet\n",
        "            self.record_jvm(None)  # none has started yet\n            lock.release()\n",
        (),
        r"^one of two commands at once failed",
        by="turns",
    ),
    "late rows dropped": Plant(
        "etl/events/job.py",
        "    is_written = F.col(\"dt\").isin(isoformat(days))\n",
        "    is_written = F.col(\"dt\").isin(isoformat(days)) & (F.col(\"dt\") == F.col(\"folder_dt\"))\n",
        ("events",),
        r"reads: dwd_impression .*: nothing of \S+, though version \d+ was acknowledged",
    ),
    "double append": Plant(
        "etl/results/job.py",
        "    new = [row for row in rows if row[\"run_id\"] not in run_ids]\n",
        "    new = [row for row in rows if row[\"run_id\"] not in run_ids or run_ids]\n",
        ("results",),
        r"lines: run \S+ is there \d+ times",
    ),
    "age of vacuum": Plant(
        "etl/warehouse/vacuum.py",
        "        if time.time() - replaced_at >= older_than_s:",
        "        if time.time() - folder.modified_at >= 0:",
        ("import", "vacuum"),
        r"does not exist: \S+/run-|reads: dim_\w+ .*: nothing of db, though",
    ),
}  # fmt: skip


def plant(bug: Plant, tree: Path) -> None:
    """Copy the source tree and plant the bug there. Raises ValueError where the file does not say so once."""
    for name in TREES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    path = tree / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.right) != 1:
        raise ValueError(f"{bug.file} has the text to change {text.count(bug.right)} times")
    path.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")


def catch(bug: Plant, tree: Path, seeds: int = 3, attempts: int = 25) -> list[str]:
    """What the histories of a tree show: violations, one a line; none when it is as it should be."""
    if bug.by == "trace":
        return unsynced(tree)
    if bug.by == "turns":
        return turns(tree)
    command = ["history", "--seeds", str(seeds), "--attempts", str(attempts), "--stages", *bug.stages, "--first-only"]
    done = _python(tree, "-m", *command)
    lines = re.findall(r"^  (seed \d+: .*)$", done.stdout, re.MULTILINE)
    if done.returncode and not lines:
        raise RuntimeError(done.stderr[-2000:])
    return lines


def is_caught(bug: Plant, lines: Sequence[str]) -> bool:
    """Whether one of the violations is the one that the bug must cause."""
    return any(re.search(bug.message, line) for line in lines)


def unsynced(tree: Path) -> list[str]:
    """Files that the collector gave their name before they were on the disk: a power cut would leave them empty.

    No kill shows that, for what was written is in the system's memory. It takes the system calls in their order.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-trace-") as folder:
        log, trace = Path(folder) / "texts.log", Path(folder) / "trace"
        log.write_text('{"ts": "1999-03-01T00:00:00Z"}\n', encoding="utf-8")
        tracer = [
            "strace",
            "-f",
            "-y",
            "-s",
            "4096",
            "-o",
            str(trace),
            "-e",
            "trace=fsync,fdatasync,rename,renameat,renameat2",
        ]
        words = ["-m", "millrace", "etl", "collect", "--once", str(log), "--set", "collect.kind=texts"]
        words += ["--set", "collect.idle_s=0"]
        done = _python(tree, *words, before=tracer, MILLRACE_HOME=f"{folder}/home")
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return unsynced_renames(trace.read_text(encoding="utf-8", errors="replace"), f"{folder}/home")


def unsynced_renames(trace: str, home: str) -> list[str]:
    """Renames in a home, in an output of `strace -f -y`, of files that were not synced before."""
    synced: set[str] = set()
    missing = []
    for line in trace.splitlines():
        if sync := re.search(r"f(?:data)?sync\(\d+<([^>]*)>", line):
            synced.add(sync[1])
        rename = re.search(r'rename\w*\(.*?"([^"]*)".*?"([^"]*)"', line)
        if rename and rename[1].startswith(home) and rename[1] not in synced:
            missing.append(f"{rename[2]} got its name before its content was on the disk")
    return missing


def turns(tree: Path) -> list[str]:
    """Two commands at once on one embedded metastore: each has to wait for its turn and then succeed."""
    with tempfile.TemporaryDirectory(prefix="millrace-turns-") as folder:
        command = [sys.executable, "-m", "millrace", "sql", "show tables"]
        environment = _environment(tree, MILLRACE_HOME=f"{folder}/home")
        both = [
            subprocess.Popen(
                command, cwd=tree, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        ends = [process.communicate(timeout=LIMIT_S)[1] for process in both]
        return [
            f"one of two commands at once failed: {text.strip().splitlines()[-1]}"
            for process, text in zip(both, ends, strict=True)
            if process.returncode
        ]


def _environment(tree: Path, **more: str) -> dict[str, str]:
    small = {"MILLRACE__SPARK__DRIVER_MEMORY": "1g", "MILLRACE__SPARK__COMPILE_LITTLE": "true"}
    return {**os.environ, **small, "PYTHONPATH": f"{tree}:{tree / 'tests'}", **more}


def _python(tree: Path, *words: str, before: Sequence[str] = (), **more: str) -> "subprocess.CompletedProcess[str]":
    command = [*before, sys.executable, *words]
    return subprocess.run(
        command, cwd=tree, env=_environment(tree, **more), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="history.plants", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PLANTS)}; all without any")
    missed = 0
    for name in parser.parse_args().names or PLANTS:
        with tempfile.TemporaryDirectory(prefix="millrace-plant-") as folder:
            tree = Path(folder) / "tree"
            plant(PLANTS[name], tree)
            lines = catch(PLANTS[name], tree)
        caught = [line for line in lines if is_caught(PLANTS[name], [line])]
        missed += not caught
        state = f"caught by {len(caught)}" if caught else "MISSED by all"
        print(f"{name}: {state} of {len(lines)} violations", *(caught or lines)[:2], sep="\n  ", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
