"""Hyper-parameter search on Ray Tune: `millrace tune fm --date D --search random --trials 4`."""

import json
import logging
import os
import sys
import time
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path
from typing import Any

from conf import Config
from conf.cli import NotBuiltYet, one_of
from conf.runs import Run, start_run
from recsys.dataset import examples_folder
from training.ray_session import ray_session
from tuning.settings import TuneSettings

log = logging.getLogger(__name__)

SEARCHES = ("grid", "random", "bayes", "evolution", "pbt")
BUILT = ("random",)
MODELS = ("fm",)


def run(config: Config, model: str, day: date, *, search: str, trials: int) -> dict[str, Any]:
    """Search and leave a run folder with every trial and the best; returns the best."""
    one_of("model", model, MODELS)
    if one_of("search", search, SEARCHES) not in BUILT:
        raise NotBuiltYet(f"millrace tune --search {search}", f"choose from {', '.join(BUILT)}")
    dataset = examples_folder(config, day)
    with start_run(config, f"tune-{model}", day) as found, ray_session(config):
        rows = _run_trials(config, dataset, trials, found)
        done = [row for row in rows if row["status"] == "done"]
        if not done:
            raise RuntimeError("every trial failed; see trials.jsonl of the run")
        settings = config.get(TuneSettings)
        better = min if settings.metric == "log_loss" else max
        best = better(done, key=lambda row: row["value"])
        found.best(
            model=model, trial=best["trial"], parameters=best["parameters"], metric=best["metric"], value=best["value"]
        )
    return {
        "run_id": found.run_id,
        "trials": len(rows),
        "best": json.loads(best["parameters"]),
        settings.metric: best["value"],
    }


def _run_trials(config: Config, dataset: Path, trials: int, found: Run) -> list[dict[str, Any]]:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the old reporter is silent when told so
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator

    settings = config.get(TuneSettings)
    space = {
        name: (tune.loguniform if bounds.log else tune.uniform)(bounds.low, bounds.high)
        for name, bounds in settings.space.items()
    }
    trainable = tune.with_resources(tune.with_parameters(_trial, base=config, dataset=dataset), {"cpu": 1})
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            num_samples=trials,
            max_concurrent_trials=settings.parallel,
            search_alg=BasicVariantGenerator(random_state=settings.seed, max_concurrent=settings.parallel),
        ),
        run_config=tune.RunConfig(name="tune", storage_path=str(found.folder), verbose=0),
    )
    rows = []
    with redirect_stdout(sys.stderr):  # Tune prints a banner; standard output belongs to the command
        results = tuner.fit()
    for number, result in enumerate(results):
        metrics = result.metrics or {}
        row = {
            "model": found.model.removeprefix("tune-"),
            "trial": number,
            "parameters": json.dumps({name: result.config[name] for name in sorted(space)}),
            "metric": settings.metric,
            "value": metrics.get(settings.metric),
            "seed": metrics.get("seed"),
            "seconds": metrics.get("seconds"),
            "status": "failed" if result.error else "done",
        }
        found.trial(**row)
        rows.append(row)
    return rows


def _trial(parameters: dict[str, float], base: Config, dataset: Path) -> dict[str, float]:
    """Train one FM and measure it on the validation rows."""
    from recsys.dataset import read_rows
    from recsys.fine.train import KEYS, measure, train
    from recsys.settings import FMSettings

    started = time.monotonic()
    settings = base.with_values(parameters).get(FMSettings)
    fitted, _ = train(read_rows(dataset / "train", KEYS), settings)
    numbers = measure(fitted, read_rows(dataset / "valid", KEYS))
    return {**numbers, "seed": settings.seed, "seconds": time.monotonic() - started}
