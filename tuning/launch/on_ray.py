"""A round of trials side by side on Ray Tune, which saves what it needs to resume after a kill."""

import json
import logging
import os
import sys
import tempfile
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from conf import Config
from conf.console.progress import waiting
from conf.errors import error_line
from tuning.searches.judge import Judge
from tuning.searches.rounds import Round, Row, SearchContext
from tuning.searches.samplers import OBJECTIVE, point_of, searcher
from tuning.targets import Target, Trial
from tuning.targets.trial import Save

log = logging.getLogger(__name__)

STEPS_DONE = "steps_done.json"  # steps, in a trial's checkpoint


def trials(context: SearchContext, search_round: Round) -> list[Row]:
    """Rows of all trials; a round that was interrupted resumes from Tune's own state."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # only the old reporter can be silenced
    # Else each trial would write its results as CSV and for TensorBoard, too.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    from ray import tune

    settings, target = context.settings, context.target
    steps = target.steps(context.config, search_round.budget)
    # `with_parameters` puts the data into Ray's shared memory once; workers map it, they don't copy it.
    trainable = tune.with_resources(
        tune.with_parameters(
            run_trial,
            config=context.config,
            target=target,
            data=target.newest(context.data, settings.share * search_round.budget),
            judge=context.judge,
            steps=steps,
            keeps_state=context.search == "pbt",
        ),
        {"cpu": 1},  # Ray starts no more trials at a time than it has cores
    )
    folder = context.run.folder / "tune"
    state = folder / search_round.name
    if (state / "tuner.pkl").exists():
        # Failed trials are not tried again: the same settings would fail again.
        tuner = tune.Tuner.restore(str(state), trainable, resume_unfinished=True, restart_errored=False)
    else:
        tuner = _tuner(context, search_round, trainable, steps, folder)
    # Tune prints a banner; standard output belongs to the command.
    with redirect_stdout(sys.stderr), waiting(f"{search_round.trials} trials", partial(_trials_begun, state)):
        results = tuner.fit()
    return [_row(context, search_round, number, result) for number, result in enumerate(results)]


def _tuner(context: SearchContext, search_round: Round, trainable: Any, steps: int, folder: Path) -> Any:
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

    settings, kind, space = context.settings, context.search, search_round.space
    scheduler, search, param_space = None, None, None
    if kind == "pbt":
        points, changing = space.tune_param_space()
        param_space = {"point": points}
        scheduler = PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=max(steps // 4, 1),  # about three chances to take over a better trial's weights
            hyperparam_mutations={"point": changing},
            # The worst quarter copies the best; a copied setting is drawn anew or moved by a fifth. Ray's defaults.
            quantile_fraction=0.25,
            resample_probability=0.25,
        )
    else:
        search = searcher(space, kind, settings.seed, search_round.trials, settings.parallel)
        if settings.early_stopping and steps > 1:
            # Asynchronous successive halving (Li et al. 2020): a trial stops when it is not among the best at a rung.
            scheduler = ASHAScheduler(max_t=steps, grace_period=1, reduction_factor=settings.keep_share)
    return tune.Tuner(
        trainable,
        param_space=param_space,
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode="min",
            # A grid may have fewer points than trials were asked for; drawn ones would follow.
            num_samples=len(space.grid(search_round.trials)) if kind == "grid" else search_round.trials,
            max_concurrent_trials=settings.parallel,
            search_alg=search,
            scheduler=scheduler,
            reuse_actors=True,  # a worker's start costs seconds of imports
            time_budget_s=settings.seconds,
        ),
        # result.json of each trial grows while it trains: what there is to look at in a search of hours.
        run_config=tune.RunConfig(
            name=search_round.name, storage_path=str(folder), verbose=0, callbacks=[JsonLoggerCallback()]
        ),
    )


def _trials_begun(state: Path) -> str:
    # Tune writes this file of a trial with its first report.
    return f"{len(list(state.glob('*/result.json')))} have reported"


def _row(context: SearchContext, search_round: Round, number: int, result: Any) -> Row:
    reported = result.metrics or {}
    row = context.row(search_round, number, point_of(result.config or {}))
    metrics = dict(reported.get("metrics") or {})
    row |= {"metrics": metrics, "seconds": reported.get("time_total_s"), "steps": reported.get("training_iteration", 0)}
    if result.error:
        row["error"] = error_line(result.error)
        log.warning("trial %d failed: %s", row["trial"], row["error"])
    elif metrics:
        row |= {**context.measured(metrics), "status": "done" if reported.get("is_last") else "stopped"}
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
    """One trial on a Ray worker: train with the point's settings, report to Tune after each step.

    `keeps_state` saves a checkpoint with each report, for population-based training, which copies them between trials.
    """
    from ray import tune

    checkpoint = tune.get_checkpoint()
    with (
        tempfile.TemporaryDirectory(prefix="millrace-trial-", ignore_cleanup_errors=True) as folder,
        checkpoint.as_directory() if checkpoint else nullcontext(None) as restored,
    ):
        # Saved with the state: who takes over another trial's state goes on from that one's step.
        steps_done = int((Path(restored) / STEPS_DONE).read_text()) if restored else 0

        def report(metrics: dict[str, float], save: Save | None, last: bool = False) -> None:
            nonlocal steps_done
            steps_done += 1
            reported = {OBJECTIVE: judge.objective(metrics), "metrics": metrics, "is_last": last or steps_done >= steps}
            if keeps_state and save is not None:
                with tempfile.TemporaryDirectory() as state:
                    save(Path(state))
                    (Path(state) / STEPS_DONE).write_text(json.dumps(steps_done))
                    tune.report(reported, checkpoint=tune.Checkpoint.from_directory(state))
            else:
                tune.report(reported)

        state = Path(restored) if restored else None
        point = config.with_values(point_of(parameters))
        target.run(point, data, Trial(steps, Path(folder), report, state, keeps_state))
