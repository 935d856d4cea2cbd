"""Kill and freeze the process groups of real commands, Python and Java, at any moment of every stage of a day.

    PYTHONPATH=tests python -m history.commands --rounds 2 --scale 0.05 [--only STAGE]...

A finished day is run again, stage by stage; what a killed or frozen command leaves must be what was there before, for
the input is the same.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from dags.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
DAY = "2026-01-03"
LIMIT_S = 400.0
# Tables that the same input gives again; those of trained models and of runs have ids and times in them.
COMPARED = (
    "dwd_weblog_request", "ods_click_stream_visit", "ads_pv_daily", "dwd_impression", "dwd_interaction", "ads_ctr_daily",
    "dim_user", "dim_item", "dws_user_interest", "dim_feature_index",
)  # fmt: skip
SETTINGS = {
    "MILLRACE__SPARK__DRIVER_MEMORY": "1g",
    "MILLRACE__SPARK__COMPILE_LITTLE": "true",
    "MILLRACE__RECALL__QUOTA": "{ease: 40, hot: 40}",
    "MILLRACE__TRAIN__BACKEND": "local",
    "MILLRACE__TRAIN__EPOCHS": "1",
}
LOOK = """
import hashlib, json, sys
from conf import load
from etl.session import spark_session
with spark_session(load()) as spark:
    digests = {}
    for table in sys.argv[1:]:
        if spark.catalog.tableExists(table):
            rows = sorted(str(row) for row in spark.table(table).collect())
            digests[table] = f"{len(rows)} rows, {hashlib.sha256('|'.join(rows).encode()).hexdigest()[:12]}"
    runs = spark.sql("select count(*) n, count_if(status = 'done' and rows_in <> rows_out + rows_invalid + "
                     "rows_quarantined) wrong from ops_run").collect()[0].asDict()
    print(json.dumps({"tables": digests, "runs": runs}))
"""


@dataclass
class Commands:
    """Real commands on one home, and what was done to them."""

    home: Path
    rng: random.Random
    environment: dict[str, str] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """A command in a process group of its own."""
        environment = {**os.environ, **SETTINGS, **self.environment, "MILLRACE_HOME": str(self.home)}
        return subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *words: str) -> str:
        """Run a command to its end; its output. An error is noted as a violation."""
        process = self.start(*words)
        out, err = process.communicate(timeout=LIMIT_S)
        if process.returncode:
            self.broken.append(f"{' '.join(words[:6])}: {err.strip().splitlines()[-1] if err.strip() else 'failed'}")
        return out

    def millrace(self, line: str) -> str:
        return self.run("-m", "millrace", *line.split())

    def look(self) -> dict[str, object]:
        """Digests of the tables, and whether the counts of `ops_run` add up, after a fault."""
        out = self.run("-c", LOOK, *COMPARED)
        result: dict[str, object] = json.loads(out) if out else {}
        return result

    def disturb(self, stage: str, line: str, fault: str) -> None:
        """Start a command, and kill or freeze its process group at a random moment of its usual time."""
        process = self.start("-m", "millrace", *line.split())
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=self.rng.uniform(0.3, max(self.seconds.get(stage, 8.0), 1.0)))
        if process.poll() is not None:
            self.counts[stage, "none"] += 1  # it was quicker
            return
        self.counts[stage, fault] += 1
        if fault == "kill":
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.5, 2))
        os.killpg(process.pid, signal.SIGCONT)
        _, err = process.communicate(timeout=LIMIT_S)
        if process.returncode:
            self.broken.append(f"{stage} after a freeze: {err.strip().splitlines()[-1]}")

    def measure(self, stage: str, line: str) -> None:
        """How long a command takes when it is left alone."""
        started = time.monotonic()
        self.millrace(line)
        self.seconds[stage] = time.monotonic() - started


def day_lines(only: Sequence[str]) -> dict[str, str]:
    """Stage -> command line."""
    stages = [stage for stage in STAGES if stage.name != "export" and (not only or stage.name in only)]
    return {stage.name: " ".join(stage.arguments(DAY)) for stage in stages}


def walk(commands: Commands, lines: dict[str, str], rounds: int, scale: float) -> None:
    """A finished day, then rounds of faults with a look after every third, and the stages once more at the end."""
    commands.millrace(f"simulate --days 3 --scale {scale}")
    commands.millrace("etl events --since 2026-01-01 --date 2026-01-03")
    for stage, line in lines.items():
        commands.measure(stage, line)
    before = commands.look()
    number = 0
    for _ in range(rounds):
        for stage, line in lines.items():
            commands.disturb(stage, line, commands.rng.choices(("kill", "freeze"), weights=(3, 1))[0])
            number += 1
            if number % 3 == 0:
                compare(commands, before, f"after {stage}")
    for line in lines.values():
        commands.millrace(line)
    compare(commands, before, "at the end")
    commands.millrace("warehouse vacuum --older-than-h 0")
    commands.broken += [f"left over: {line}" for line in leftovers(commands.home)]


def compare(commands: Commands, before: dict[str, object], when: str) -> None:
    """Note what differs from before the faults."""
    now = commands.look()
    if now.get("tables") != before.get("tables"):
        commands.broken.append(f"{when}: {now.get('tables')} instead of {before.get('tables')}")
    runs = now.get("runs")
    if not isinstance(runs, dict) or runs["wrong"]:
        commands.broken.append(f"{when}: {runs} in ops_run")
    print(f"{when}: {sum(commands.counts.values())} commands, {len(commands.broken)} violations", flush=True)


def leftovers(home: Path) -> list[str]:
    """Processes that have the home in their command line, unfinished runs, and files that were to be renamed."""
    processes = [
        f"process {process.pid} {process.name()}"
        for process in psutil.process_iter()
        if process.pid != os.getpid() and any(str(home) in word for word in _words(process))
    ]
    patterns = ("swaps.json", ".*", "**/.*.new", "warehouse/ops_run/*/.*.parquet", "runs/*/started.json")
    files = [path for pattern in patterns for path in home.glob(pattern)]
    unfinished = [path for path in files if path.name != "started.json" or not (path.parent / "run.json").exists()]
    return [*processes, *(str(path.relative_to(home)) for path in unfinished)]


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


def main() -> int:
    parser = argparse.ArgumentParser(prog="history.commands", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="faults of each stage")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=0.05, help="of the generated days")
    parser.add_argument("--only", action="append", default=[], help="this stage; may be repeated")
    options = parser.parse_args()
    temporary = set(Path(tempfile.gettempdir()).iterdir())
    with tempfile.TemporaryDirectory(prefix="millrace-history-") as folder:
        commands = Commands(Path(folder) / "home", random.Random(options.seed))
        walk(commands, day_lines(options.only), options.rounds, options.scale)
        for (stage, fault), number in sorted(commands.counts.items()):
            print(f"{stage}\t{fault}\t{number}")
        print(f"{len(commands.broken)} violations", *commands.broken, sep="\n  ")
    strays = sorted(path.name for path in set(Path(tempfile.gettempdir()).iterdir()) - temporary)
    print(f"{len(strays)} new entries in the temporary folder", *strays[:5], sep="\n  ")
    return 1 if commands.broken else 0


if __name__ == "__main__":
    sys.exit(main())
