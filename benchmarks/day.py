"""Seconds and peak memory of each stage of a generated day, in a fresh home.

python -m benchmarks.day --scale 10                             # as `millrace demo --scale 10`
python -m benchmarks.day --scale 10 --home DIR                  # the home stays
python -m benchmarks.day --home DIR --stages recall,evaluate    # those again, in a home that has the others' results

Memory is the proportional set size of this process (driver), of its JVMs and of all that they started, so that pages
which processes share count once. CPU seconds are of all of them: beside other work on the machine they say more than
the seconds do.
"""

import argparse
import json
import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import psutil

from conf import Config, load
from conf.console.logs import set_up_logging
from dags.stages import DEMO
from dags.walk import engines, walk

log = logging.getLogger("benchmarks.day")  # as a script its name is another, whose lines are not shown

INTERVAL = 0.25  # seconds between looks at the processes
MB = 1 << 20
SIMULATE = "simulate"


@dataclass
class Usage:
    """What one stage took; memory is the largest in any sample, in MB."""

    seconds: float = 0.0
    cpu: float = 0.0
    driver: float = 0.0
    jvm: float = 0.0
    total: float = 0.0


def main() -> None:
    options = parse_options()
    set_up_logging()
    with home_folder(options.home) as home:
        config = load(overrides=[f"paths.home={home}", *options.set])
        usage = measure_day(config, options)
    print(table(usage))
    print()
    figures = {
        "scale": options.scale,
        "seconds": round(sum(row.seconds for row in usage.values()), 1),
        "cpu_seconds": round(sum(row.cpu for row in usage.values()), 1),
        "peak_mb": round(max(row.total for row in usage.values())),
    }
    stages = {name: {key: round(value, 1) for key, value in vars(row).items()} for name, row in usage.items()}
    print(json.dumps({**figures, "stages": stages}))


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options; `stages` as names, all when none are named."""
    parser = site_parser(__doc__, days=7, scale=1.0)
    options = parser.parse_args(arguments)
    names = [SIMULATE, *(stage.name for stage in DEMO)]
    options.stages = chosen_stages(parser, options.stages, names)
    if options.home is None and SIMULATE not in options.stages:
        parser.error("--stages without simulate needs a --home that has a simulated site")
    return options


def site_parser(about: str | None, *, days: int, scale: float) -> argparse.ArgumentParser:
    """A parser of what benchmarks of a generated site have in common; `about` is the text of `--help`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=scale, help="of the site: 1 is some 200,000 impressions")
    parser.add_argument("--days", type=int, default=days)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--home", type=Path, help="keep everything in this folder, in place of a temporary one")
    parser.add_argument("--stages", help="names with commas between")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="as of every command")
    return parser


def chosen_stages(
    parser: argparse.ArgumentParser, text: str | None, names: Sequence[str], default: Sequence[str] | None = None
) -> list[str]:
    """The stages that `--stages` names, those of `default` or all when it names none; ends with a line for others."""
    stages = text.split(",") if text else list(names if default is None else default)
    if unknown := [name for name in stages if name not in names]:
        parser.error(f"unknown stage '{unknown[0]}'; choose from {', '.join(names)}")
    return stages


@contextmanager
def home_folder(folder: Path | None) -> Iterator[Path]:
    """The home to work in: `folder`, or a temporary one that is removed at the end."""
    if folder is not None:
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="millrace-day-") as temporary:
        yield Path(temporary)


def measure_day(config: Config, options: argparse.Namespace) -> dict[str, Usage]:
    """Simulate and walk the chosen stages in this process, as the demo does; what each took, by its name."""
    from etl.simulator import simulate
    from etl.simulator.settings import SimulatorSettings

    usage: dict[str, Usage] = {}
    if SIMULATE in options.stages:
        with Sampler() as sampler:
            simulate.run(config, days=options.days, scale=options.scale, seed=options.seed)
        usage[SIMULATE] = sampler.usage
        log_stage(SIMULATE, sampler.usage)
    first = config.get(SimulatorSettings).start
    last = first + timedelta(days=options.days - 1)
    with engines(config) as opened:
        for stage in DEMO:
            if stage.name in options.stages:
                with Sampler() as sampler:
                    walk(opened, [stage], str(last), since=str(first))
                usage[stage.name] = sampler.usage
                log_stage(stage.name, sampler.usage)
    return usage


def log_stage(name: str, usage: Usage) -> None:
    """One line at once: a long day may be stopped before its end."""
    log.info("%s", table({name: usage}).splitlines()[-1])


class Sampler:
    """Looks at this process and all that it started, from a thread, until the block ends."""

    def __init__(self) -> None:
        self.usage, self._stop = Usage(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._started, self._cpu = time.perf_counter(), cpu_seconds(process_tree())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.usage.seconds = time.perf_counter() - self._started
        self._stop.set()
        self._thread.join()
        self.usage.cpu = max(0.0, cpu_seconds(process_tree()) - self._cpu)

    def _run(self) -> None:
        while True:
            self.sample()
            if self._stop.wait(INTERVAL):
                return

    def sample(self) -> None:
        """Look at the processes once."""
        megabytes = {"driver": 0.0, "jvm": 0.0, "other": 0.0}
        for process in process_tree():
            kind, size = memory(process)
            megabytes[kind] += size
        peak = self.usage
        peak.driver, peak.jvm = max(peak.driver, megabytes["driver"]), max(peak.jvm, megabytes["jvm"])
        peak.total = max(peak.total, sum(megabytes.values()))


def process_tree() -> list[psutil.Process]:
    """This process and everything that it started."""
    here = psutil.Process()
    return [here, *here.children(recursive=True)]


def memory(process: psutil.Process) -> tuple[str, float]:
    """Whether a process is the driver, a JVM or another one, and its proportional set size in MB; 0 when it ended."""
    try:
        kind = "driver" if process == psutil.Process() else "jvm" if process.name() == "java" else "other"
        return kind, process.memory_full_info().pss / MB
    except psutil.Error:
        return "other", 0.0


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """CPU seconds of processes and of those of their children that ended."""
    total = 0.0
    for process in processes:
        try:
            total += sum(process.cpu_times()[:4])  # user and system, own and of children that it waited for
        except psutil.Error:
            continue
    return total


def table(usage: dict[str, Usage]) -> str:
    """The stages as lines of a table."""
    lines = [f"{'':<16}{'s':>9}{'CPU s':>9}{'driver MB':>11}{'JVM MB':>9}{'all MB':>9}"]
    for name, row in usage.items():
        lines.append(
            f"{name:<16}{row.seconds:>9.1f}{row.cpu:>9.1f}{row.driver:>11,.0f}{row.jvm:>9,.0f}{row.total:>9,.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
