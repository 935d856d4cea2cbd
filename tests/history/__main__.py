"""Run seeds and print what was done and what was broken: `make history SEEDS=40`."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from history.checker import violations
from history.driver import STAGES, run_seed
from history.record import Attempt, History

from conf import load
from conf.console.cli import OutputFormat
from conf.console.terminal import print_rows
from etl.session import spark_session


def _fault_of(one: Attempt) -> str:
    others = {"refused input": one.must_fail, "beside a frozen one": one.is_beside, "none": True}
    return one.fault.split(" at ")[0] or next(name for name, holds in others.items() if holds)


def fault_counts(histories: list[History]) -> Counter[tuple[str, str]]:
    """(stage, kind of fault) -> attempts that it happened to; `none` for those that nothing was done to."""
    return Counter((one.stage, _fault_of(one)) for history in histories for one in history.attempts)


def print_counts(histories: list[History]) -> None:
    counts = fault_counts(histories)
    faults = sorted({fault for _, fault in counts})
    stages = sorted({stage for stage, _ in counts})
    rows = [(stage, *(counts[stage, fault] for fault in faults)) for stage in stages]
    rows.append(("all", *(sum(counts[stage, fault] for stage in stages) for fault in faults)))
    print_rows(["stage", *faults], rows, OutputFormat.table)
    interrupted = sum(row.status == "interrupted" for history in histories for row in history.runs)
    reads = sum(len(history.reads) for history in histories)
    print(f"{reads} reads; {interrupted} rows of interrupted changes that were completed", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="history", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--attempts", type=int, default=40, help="of each seed, beside those that end it")
    parser.add_argument("--save", type=Path, help="folder for the histories, as JSON")
    parser.add_argument("--stages", nargs="*", choices=STAGES, help="only these")
    parser.add_argument("--first-only", action="store_true", help="stop at the first seed with a violation")
    options = parser.parse_args()
    broken: list[str] = []
    histories: list[History] = []
    with tempfile.TemporaryDirectory(prefix="millrace-history-") as folder:
        config = load(
            overrides=[f"paths.home={folder}/session", "spark.driver_memory=2g", "spark.compile_little=true"],
            environment={},
        )
        with spark_session(config) as spark:
            for seed in range(options.first, options.first + options.seeds):
                started = time.monotonic()
                history = run_seed(spark, config, seed, Path(folder) / str(seed), options.attempts, options.stages)
                histories.append(history)
                if options.save:
                    options.save.mkdir(parents=True, exist_ok=True)
                    history.save(options.save / f"seed-{seed}.json")
                lines = violations(history)
                broken += lines
                print(f"seed {seed}: {time.monotonic() - started:.0f} s, {len(lines)} violations", *lines, sep="\n  ")
                print_counts(histories)
                if lines and options.first_only:
                    break
    print_counts(histories)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
