"""A round of trials side by side on Ray Tune, which keeps what it needs to go on after a kill."""

import json
import logging
import os
import sys
import tempfile
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from conf import Config
from tuning.searches.judge import Judge
from tuning.searches.rounds import Round, Row, Searching
from tuning.searches.samplers import OBJECTIVE, point_of, searcher
from tuning.targets import Target, Trial
from tuning.targets.trial import Save

log = logging.getLogger(__name__)

MADE = "made.json"  # steps, in a trial's checkpoint


def trials(searching: Searching, part: Round) -> list[Row]:
    """Rows of all trials; those of a round that was broken off go on."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the old reporter is silent when told so
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    from ray import tune

    settings, target = searching.settings, searching.target
    steps = target.steps(searching.config, part.budget)
    trainable = tune.with_resources(
        tune.with_parameters(
            run_trial,
            config=searching.config,
            target=target,
            data=target.newest(searching.data, settings.share * part.budget),
            judge=searching.judge,
            steps=steps,
            keeps_state=searching.search == "pbt",
        ),
        {"cpu": 1},
    )
    folder = searching.found.folder / "tune"
    if (folder / part.name / "tuner.pkl").exists():
        tuner = tune.Tuner.restore(str(folder / part.name), trainable, resume_unfinished=True, restart_errored=False)
    else:
        tuner = _tuner(searching, part, trainable, steps, folder)
    with redirect_stdout(sys.stderr):  # Tune prints a banner; standard output belongs to the command
        results = tuner.fit()
    return [_row(searching, part, number, result) for number, result in enumerate(results)]


def _tuner(searching: Searching, part: Round, trainable: Any, steps: int, folder: Path) -> Any:
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

    settings, kind, space = searching.settings, searching.search, part.space
    scheduler, search, param_space = None, None, None
    if kind == "pbt":
        points, changing = space.drawn_by_tune()
        param_space = {"point": points}
        scheduler = PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=max(steps // 4, 1),
            hyperparam_mutations={"point": changing},
            quantile_fraction=0.25,
            resample_probability=0.25,
        )
    else:
        search = searcher(space, kind, settings.seed, part.trials, settings.parallel)
        if settings.early_stopping and steps > 1:
            scheduler = ASHAScheduler(max_t=steps, grace_period=1, reduction_factor=settings.keep_share)
    return tune.Tuner(
        trainable,
        param_space=param_space,
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode="min",
            num_samples=len(space.grid(part.trials)) if kind == "grid" else part.trials,
            max_concurrent_trials=settings.parallel,
            search_alg=search,
            scheduler=scheduler,
            reuse_actors=True,
            time_budget_s=settings.seconds,
        ),
        run_config=tune.RunConfig(
            name=part.name, storage_path=str(folder), verbose=0, callbacks=[JsonLoggerCallback()]
        ),
    )


def _row(searching: Searching, part: Round, number: int, result: Any) -> Row:
    reported = result.metrics or {}
    row = searching.row(part, number, point_of(result.config or {}))
    metrics = dict(reported.get("metrics") or {})
    row |= {"metrics": metrics, "seconds": reported.get("time_total_s"), "steps": reported.get("training_iteration", 0)}
    if result.error:
        row["error"] = str(result.error).strip().splitlines()[-1][:300]
        log.warning("trial %d failed: %s", row["trial"], row["error"])
    elif metrics:
        row |= {**searching.measured(metrics), "status": "done" if reported.get("is_last") else "stopped"}
    return row


def run_trial(
    parameters: dict[str, Any],
    config: Config,
    target: Target,
    data: Any,
    judge: Judge,
    steps: int,
    keeps_state: bool,
) -> None:
    """One trial on a Ray worker."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    with (
        tempfile.TemporaryDirectory(prefix="millrace-trial-", ignore_cleanup_errors=True) as folder,
        checkpoint.as_directory() if checkpoint else nullcontext(None) as restored,
    ):
        steps_done = int((Path(restored) / MADE).read_text()) if restored else 0

        def report(metrics: dict[str, float], save: Save | None, last: bool = False) -> None:
            nonlocal steps_done
            steps_done += 1
            reported = {OBJECTIVE: judge.objective(metrics), "metrics": metrics, "is_last": last or steps_done >= steps}
            if keeps_state and save is not None:
                with tempfile.TemporaryDirectory() as state:
                    save(Path(state))
                    (Path(state) / MADE).write_text(json.dumps(steps_done))
                    tune.report(reported, checkpoint=tune.Checkpoint.from_directory(state))
            else:
                tune.report(reported)

        state = Path(restored) if restored else None
        point = config.with_values(point_of(parameters))
        target.run(point, data, Trial(steps, Path(folder), report, state, keeps_state))
