"""A round of trials side by side on Ray Tune."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from conf import Config, UserError
from conf.console.progress import waiting
from training.launch.booking import Booking, auto_gpus
from training.launch.ray_room import ray_engine
from tuning.searches.judge import Judge
from tuning.searches.rounds import Round, Row, SearchContext
from tuning.searches.study import open_study
from tuning.targets import Target, Trial
from tuning.targets.trial import Save

OBJECTIVE = "objective"
STEPS_DONE = "steps_done.json"  # steps, in a trial's checkpoint


def trials(context: SearchContext, search_round: Round) -> list[Row]:
    """Rows of all trials; of a round that was interrupted only those are run that had not ended."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # only the old reporter can be silenced
    # Else each trial would write its results as CSV and for TensorBoard, too.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    return _population(context, search_round) if context.search == "pbt" else _study(context, search_round)


def _study(context: SearchContext, search_round: Round) -> list[Row]:
    from ray.tune.schedulers import ASHAScheduler

    from tuning.launch.tune_study import NoteResults, StudySearcher

    settings, steps = context.settings, context.target.steps(context.config, search_round.budget)
    scheduler = None
    if settings.early_stopping and steps > 1:
        # Asynchronous successive halving (Li et al. 2020): a trial stops when it is not among the best at a rung. The
        # rungs of a resumed round hold the trials that it still runs.
        scheduler = ASHAScheduler(max_t=steps, grace_period=1, reduction_factor=settings.keep_share)
    study, total = open_study(context, search_round)
    if total > len(study.rows):
        folder = _new_folder(context, search_round)
        tuner = _tuner(
            context,
            search_round,
            folder,
            [NoteResults(context, search_round, study)],
            num_samples=total - len(study.rows),
            search_alg=StudySearcher(study),
            scheduler=scheduler,
        )
        _fit(tuner, total, lambda: f"{len(study.rows)} of {total} have ended")
    return study.ordered_rows()


def _population(context: SearchContext, search_round: Round) -> list[Row]:
    """Population-based training resumes from Tune's own state, for that has the checkpoints of the population."""
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    steps = context.target.steps(context.config, search_round.budget)
    folder = context.run.folder / "tune" / search_round.name
    if (folder / "tuner.pkl").exists():
        # Failed trials are not tried again: the same settings would fail again.
        tuner = tune.Tuner.restore(
            str(folder), _trainable(context, search_round), resume_unfinished=True, restart_errored=False
        )
    else:
        points, changing = search_round.space.tune_param_space()
        scheduler = PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=max(steps // 4, 1),  # about three chances to take over a better trial's weights
            hyperparam_mutations={"point": changing},
            # The worst quarter copies the best; a copied setting is drawn anew or moved by a fifth. Ray's defaults.
            quantile_fraction=0.25,
            resample_probability=0.25,
        )
        tuner = _tuner(
            context,
            search_round,
            folder,
            [],
            {"point": points},
            num_samples=search_round.trials,
            scheduler=scheduler,
        )
    reports = "*/result.json"  # Tune writes this file of a trial with its first report
    results = _fit(tuner, search_round.trials, lambda: f"{len(list(folder.glob(reports)))} have reported")
    return [
        context.reported_row(search_round, number, result.config["point"], result.metrics or {}, result.error)
        for number, result in enumerate(results)
    ]


def _tuner(
    context: SearchContext,
    search_round: Round,
    folder: Path,
    callbacks: list[Any],
    param_space: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    return tune.Tuner(
        _trainable(context, search_round),
        param_space=param_space,
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode="min",
            max_concurrent_trials=context.settings.parallel,
            reuse_actors=True,  # a worker's start costs seconds of imports
            time_budget_s=context.settings.seconds,
            **options,
        ),
        # result.json of each trial grows while it trains: what there is to look at in a search of hours.
        run_config=tune.RunConfig(
            name=folder.name, storage_path=str(folder.parent), verbose=0, callbacks=[JsonLoggerCallback(), *callbacks]
        ),
    )


def _trainable(context: SearchContext, search_round: Round) -> Any:
    from ray import tune

    target, booking = context.target, trial_booking(context)
    # `with_parameters` puts the data into Ray's shared memory once; workers map it, they don't copy it.
    return tune.with_resources(
        tune.with_parameters(
            run_trial,
            config=context.config.without_secrets()[0],  # Ray may write it to disk
            target=target,
            data=target.newest(context.data, context.settings.share * search_round.budget),
            judge=context.judge,
            steps=target.steps(context.config, search_round.budget),
            keeps_state=context.search == "pbt",
            booking=booking,
        ),
        # Ray starts no more trials at a time than it has CPUs and GPUs for.
        {name.lower(): amount for name, amount in booking.resources.items()},
    )


def trial_booking(context: SearchContext) -> Booking:
    """What each trial books on Ray. Raises UserError when no node has it, and none may join."""
    settings, engine = context.settings, ray_engine(context.config, shares_gpus=True)
    cpus, gpus = settings.cpus_per_trial, settings.gpus_per_trial
    if is_auto := gpus == "auto":
        at_a_time = max(min(settings.parallel, engine.slots(cpus, 0)), 1)
        gpus = auto_gpus(at_a_time, cpus, engine)[0] if context.target.family == "deep" else 0.0
    if not engine.slots(cpus, gpus) and not engine.may_grow:
        raise UserError(
            f"tune.cpus_per_trial={cpus} and tune.gpus_per_trial={gpus:g}: no node of Ray has room for a trial; there "
            f"are {engine.slots(1, 0)} CPUs and {engine.gpus} GPUs"
        )
    return Booking(cpus, gpus, is_exact=not is_auto)


def _fit(tuner: Any, total: int, progress: Callable[[], str]) -> Any:
    # Tune prints a banner; standard output belongs to the command.
    with redirect_stdout(sys.stderr), waiting(f"{total} trials", progress):
        return tuner.fit()


def _new_folder(context: SearchContext, search_round: Round) -> Path:
    """Where Tune writes: `all`, and `all-2` of the process that resumes."""
    folder = context.run.folder / "tune"
    earlier = len(list(folder.glob(f"{search_round.name}*")))
    return folder / (f"{search_round.name}-{earlier + 1}" if earlier else search_round.name)


def run_trial(
    parameters: dict[str, Any],
    config: Config,
    target: Target,
    data: Any,
    judge: Judge,
    steps: int,
    keeps_state: bool,
    booking: Booking,
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
        point = config.with_values(parameters["point"])
        target.run(point, data, Trial(steps, Path(folder), report, state, keeps_state, booking))
