"""What every benchmark shares: the `--scale` option, timing, the table and the JSON line."""

import argparse
import json
import time
from collections.abc import Callable


def scale_option(about: str | None) -> float:
    """The value of `--scale` on the command line, 1 by default; `about` is the text of `--help`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the size of the data")
    scale: float = parser.parse_args().scale
    return scale


def best_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of `repeats` runs of `work`."""
    # The minimum, not the mean: other load on the machine only ever adds time.
    durations = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return min(durations)


def report(title: str, rates: dict[str, float], unit: str, figures: dict[str, float]) -> None:
    """Print a table of `rates` in `unit`, then `figures` (ratios, start times) and rates as one JSON line."""
    print(f"{title}\n")
    width = max(len(name) for name in rates)
    for name, rate in rates.items():
        print(f"  {name:<{width}}  {rate:>14,.0f} {unit}")
    print()
    print(json.dumps({name: round(value, 4) for name, value in {**figures, **rates}.items()}))
