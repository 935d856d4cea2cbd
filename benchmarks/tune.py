"""Searches: trials until within 1 % of a known optimum, and the FM's log loss after equal time.

python -m benchmarks.tune --scale 1     # 20 seeds of each search; then 90 s for each search on a generated day
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.harness import scale_option
from conf import load
from tuning.searches.samplers import sampler
from tuning.searches.space import Choice, Numbers, Point, Space
from tuning.searches.study import SavedStudy

SPACE = Space(
    {
        "rate": Numbers(1e-4, 1.0, log=True),
        "l2": Numbers(1e-3, 10.0, log=True),
        "dropout": Numbers(0.0, 0.5),
        "k": Choice((2, 4, 8, 16)),
    }
)
BEST = {"rate": 0.03, "l2": 0.5, "dropout": 0.15, "k": 8}
MAX_TRIALS = 400
SECONDS = 60


def surface(point: Point) -> float:
    """Loss 1 at BEST and more elsewhere: the rate matters most, and the best decay rises with the rate."""
    rate = np.log10(point["rate"] / BEST["rate"]) / 4
    decay = np.log10(point["l2"] / BEST["l2"]) / 4
    dropout = (point["dropout"] - BEST["dropout"]) / 0.5
    size = abs(np.log2(point["k"] / BEST["k"])) / 3
    return float(1 + 2 * rate**2 + 0.5 * (decay - 0.5 * rate) ** 2 + 0.2 * dropout**2 + 0.05 * size)


def trials_needed(suggest: Callable[[int], list[Point]]) -> list[int]:
    """First trial within 1 % of the optimum, for each seed; MAX_TRIALS + 1 when none is."""
    counts = []
    for seed in range(SEEDS):
        losses = [surface(point) for point in suggest(seed)]
        counts.append(next((i for i, loss in enumerate(losses, 1) if loss <= 1.01), MAX_TRIALS + 1))
    return counts


def suggested(search: str, space: Space, seed: int, trials: int) -> list[Point]:
    """Points in the order in which a search suggests them; it is told the loss of each before the next."""
    grid = space.grid(trials) if search == "grid" else []
    points = []
    with tempfile.TemporaryDirectory() as folder:
        study = SavedStudy(Path(folder) / "all.jsonl", space, sampler(search, seed), grid)
        for _ in range(len(grid) or trials):
            number, point = study.ask()
            study.tell(number, {"status": "done", "objective": surface(point)})
            points.append(point)
    return points


def suggested_by_zooming(seed: int) -> list[Point]:
    """Random search, 40 points over all, then around the best ten of all so far, 40 at a time."""
    space, points = SPACE, []
    for turn in range(MAX_TRIALS // 40):
        points += suggested("random", space, 1000 * seed + turn, 40)
        space = SPACE.around(sorted(points, key=surface)[:10])
    return points


def fm_loss_after(search: str, early_stopping: bool) -> dict[str, float]:
    """Best validation log loss of the FM after SECONDS of a search, and how many trials were run."""
    from conf.runs import read_jsonl
    from tuning.run import Search, run

    # ASHA needs steps to stop at; without it, fewer measurements leave more time for trials.
    overrides = {
        "tune.seconds": SECONDS,
        "tune.early_stopping": early_stopping,
        "tune.steps": 8 if early_stopping else 2,
    }
    report = run(CONFIG.with_values(overrides), "fm", DAY, Search(search, 2000))
    rows = read_jsonl(RUNS / report["run_id"] / "trials.jsonl")
    return {"log_loss": report["log_loss"], "trials": len(rows), "test_log_loss": report["test_log_loss"]}


if __name__ == "__main__":
    from conf import Paths
    from dags.walk import chosen, engines, walk
    from etl.simulator import simulate
    from training.launch.ray_session import ray_session

    warnings.simplefilter("ignore")
    scale = scale_option(__doc__)
    SEEDS = max(int(20 * scale), 2)
    figures: dict[str, float] = {}
    print(f"trials until within 1 % of the optimum of a known surface ({SEEDS} seeds; median, worst)\n")
    for search in ("grid", "random", "evolution", "bayes"):
        needed = trials_needed(lambda seed, search=search: suggested(search, SPACE, seed, MAX_TRIALS))  # type: ignore[misc]
        figures[search] = float(np.median(needed))
        print(f"  {search:<12} {np.median(needed):>6.0f} {max(needed):>6}")
    needed = trials_needed(suggested_by_zooming)
    figures["random_zoomed"] = float(np.median(needed))
    print(f"  {'random, zoomed':<12} {np.median(needed):>4.0f} {max(needed):>6}\n")
    with tempfile.TemporaryDirectory() as scratch:
        CONFIG = load(overrides=[f"paths.home={scratch}"], environment={})
        RUNS = CONFIG.get(Paths).runs
        counts = simulate.run(CONFIG, days=7, scale=scale, seed=7)
        DAY = date.fromisoformat(str(counts["last_day"]))
        with engines(CONFIG) as opened:
            walk(opened, chosen("import", "features", None), str(DAY), since=str(counts["first_day"]))
        with ray_session(CONFIG):
            print(f"the FM's validation log loss after {SECONDS} s of search, Ray running\n")
            for name, search, early in (("random", "random", False), ("bayes_asha", "bayes", True)):
                result = fm_loss_after(search, early)
                figures |= {f"{name}_{key}": value for key, value in result.items()}
                print(f"  {name:<12} {result['log_loss']:.5f} of {result['trials']:.0f} trials")
    print("\n" + json.dumps({name: round(value, 5) for name, value in figures.items()}))
