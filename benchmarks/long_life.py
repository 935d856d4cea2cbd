"""Whether a process that walks day after day stays as it is: memory, files, threads, disk and time after each day.

python -m benchmarks.long_life --days 30 --scale 0.02                  # all days in this process
python -m benchmarks.long_life --days 30 --scale 0.02 --processes      # each day in a process of its own
python -m benchmarks.long_life --stages weblog,events,features         # those only

Each day has the same number of requests, and training sets have a window of WINDOW days, so that a day's work is the
same from day WINDOW on. A picture has a bar a day; growth is the mean of the last third of the days over that of the
third before it.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import mean

import psutil

from benchmarks.day import MB, chosen_stages, home_folder, memory, process_tree, site_parser
from conf import Config, Paths, load
from conf.console.logs import set_up_logging
from dags.stages import DEMO
from dags.walk import Engines, engines, walk

WINDOW = 4
# A day of a few thousand rows: what grows shows all the same, and thirty of them take no night.
SETTINGS = (
    f"features.window_days={WINDOW}",
    "train.epochs=1",
    "train.batch_size=256",
    "recall.als_rank=8",
    "recall.tower_epochs=1",
    "coarse.rounds=20",
    "spark.driver_memory=2g",
)
BARS = " ▁▂▃▄▅▆▇█"
WAREHOUSE = ("weblog", "events", "import")  # stages that need no earlier days
INPUT = ("landing", "truth", "business")  # of the home: what the simulator has written
MEASURES = ("seconds", "driver MB", "JVM MB", "all MB", "files", "threads", "processes", "disk MB", "disk files")


def main() -> None:
    options = parse_options()
    set_up_logging()
    with home_folder(options.home) as home:
        config = load(overrides=[f"paths.home={home}", *SETTINGS, *options.set])
        if options.only_day:
            with engines(config) as opened:
                print(json.dumps(walk_day(opened, options, options.only_day)))
            return
        rows = walk_days(config, options)
    print(picture(rows))
    print()
    print(json.dumps({"days": len(rows), "growth": {name: growth(rows, name) for name in MEASURES}, "rows": rows}))


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options; `stages` as values of DEMO, all but training and searches when none are named."""
    parser = site_parser(__doc__, days=30, scale=0.02)
    parser.add_argument("--processes", action="store_true", help="a process for each day")
    parser.add_argument("--only-day", type=int, help=argparse.SUPPRESS)  # what --processes starts
    options = parser.parse_args(arguments)
    by_name = {stage.name: stage for stage in DEMO}
    default = [name for name in by_name if name not in ("train", "tune")]
    names = chosen_stages(parser, options.stages, list(by_name), default)
    if options.days < 3 * WINDOW:
        parser.error(f"--days {options.days}: {3 * WINDOW} or more, for thirds to compare")
    options.stages = [by_name[name] for name in names]
    return options


def walk_days(config: Config, options: argparse.Namespace) -> list[dict[str, float]]:
    """Simulate all days, then walk one after the other; MEASURES of each day from the first with a whole window on."""
    from etl.simulator import simulate

    simulate.run(config, days=options.days, scale=options.scale, seed=options.seed)
    rows = []
    with engines(config) as opened:
        for number in range(1, options.days + 1):
            row = process_of_day(config, options, number) if options.processes else walk_day(opened, options, number)
            if number >= WINDOW:
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def walk_day(opened: Engines, options: argparse.Namespace, number: int) -> dict[str, float]:
    """Walk a day in this process, and measure it."""
    from etl.simulator.settings import SimulatorSettings

    day = opened.config.get(SimulatorSettings).start + timedelta(days=number - 1)
    # Before a whole window there is nothing to train on.
    stages = [stage for stage in options.stages if number >= WINDOW or stage.name in WAREHOUSE]
    started = time.monotonic()
    walk(opened, stages, str(day))
    row = {"day": number, "seconds": time.monotonic() - started, **measures(opened.config)}
    return {name: round(value, 1) for name, value in row.items()}


def process_of_day(config: Config, options: argparse.Namespace, number: int) -> dict[str, float]:
    """Walk a day in a process of its own, which measures itself at its end."""
    names = ",".join(stage.name for stage in options.stages)
    command = [sys.executable, "-m", "benchmarks.long_life", "--stages", names, "--only-day", str(number)]
    command += ["--home", str(config.get(Paths).root), "--days", str(options.days)]
    command += [word for value in options.set for word in ("--set", value)]
    started = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row | {"seconds": round(time.monotonic() - started, 1)}


def measures(config: Config) -> dict[str, float]:
    """This process and all that it started, at rest, and the home without the generated logs."""
    sizes = {"driver": 0.0, "jvm": 0.0, "other": 0.0}
    files = threads = 0
    processes = process_tree()
    for process in processes:
        try:
            files, threads = files + process.num_fds(), threads + process.num_threads()
        except psutil.Error:
            continue
        kind, size = memory(process)
        sizes[kind] += size
    root = config.get(Paths).root
    kept = [path.stat() for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] not in INPUT]
    return {
        "driver MB": sizes["driver"], "JVM MB": sizes["jvm"], "all MB": sum(sizes.values()), "files": files,
        "threads": threads, "processes": len(processes), "disk MB": sum(one.st_size for one in kept) / MB,
        "disk files": len(kept),
    }  # fmt: skip


def growth(rows: Sequence[dict[str, float]], name: str) -> float:
    """Mean of the last third of the days over that of the third before it."""
    third = len(rows) // 3
    last, before = rows[-third:], rows[-2 * third : -third]
    return round(mean(row[name] for row in last) / max(mean(row[name] for row in before), 1e-9), 3)


def picture(rows: Sequence[dict[str, float]]) -> str:
    """A line for each measure: a bar a day, its first and last value, and its growth."""
    lines = []
    for name in MEASURES:
        values = [row[name] for row in rows]
        heights = [round(value / max(*values, 1e-9) * (len(BARS) - 1)) for value in values]
        bars = "".join(BARS[height] for height in heights)
        lines.append(f"{name:<11}{bars}  {values[0]:>9,.0f} →{values[-1]:>9,.0f}  × {growth(rows, name):.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
