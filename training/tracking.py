"""Runs and their curves in MLflow: a SQLite file by default, a server when `tracking.uri` says so."""

import logging

from conf import Config, Paths
from conf.runs import Run, read_jsonl
from training.loop import HISTORY
from training.net_settings import NetSettings
from training.settings import LossSettings, OptimizerSettings, ScheduleSettings, TrackingSettings, TrainSettings

log = logging.getLogger(__name__)


SHOWN = (TrainSettings, OptimizerSettings, ScheduleSettings, LossSettings, NetSettings)


def log_run(config: Config, run: Run, backend: str, workers: int, numbers: dict[str, float]) -> None:
    """Parameters, a curve for each number of each epoch, and the final numbers of a run.

    Training is done when this is called: a tracking server that can't be reached is a warning.
    """
    settings = config.get(TrackingSettings)
    if not settings.is_on:
        return
    try:
        _log(config, settings, run, backend, workers, numbers)
    except Exception as problem:
        log.warning("run %s is not in MLflow: %s", run.run_id, str(problem).splitlines()[0])


def tracking_uri(config: Config) -> str:
    """Where MLflow's UI finds the runs: `mlflow ui --backend-store-uri …`."""
    return config.get(TrackingSettings).uri or f"sqlite:///{config.get(Paths).root / 'tracking' / 'mlflow.db'}"


def _log(
    config: Config, settings: TrackingSettings, run: Run, backend: str, workers: int, numbers: dict[str, float]
) -> None:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    (config.get(Paths).root / "tracking").mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri(config))
    experiment = client.get_experiment_by_name(settings.experiment)
    number = experiment.experiment_id if experiment else client.create_experiment(settings.experiment)
    tracked = client.create_run(number, run_name=run.run_id)
    values = {
        f"{model.section}.{key}": value for model in SHOWN for key, value in config.get(model).model_dump().items()
    }
    parameters = [Param(key, str(value)[:500]) for key, value in values.items()]
    metrics = [
        Metric(_name(key), value, 0, int(row["epoch"]))
        for row in read_jsonl(run.folder / HISTORY)
        for key, value in row.items()
        if key not in ("epoch", "started_at")
    ]
    metrics += [Metric(_name(key), value, 0, 0) for key, value in numbers.items()]
    tags = {"model": run.model, "dt": run.day.isoformat(), "backend": backend, "workers": str(workers)}
    client.log_batch(tracked.info.run_id, metrics, [*parameters], [RunTag(key, value) for key, value in tags.items()])
    client.set_terminated(tracked.info.run_id)


def _name(metric: str) -> str:
    """MLflow allows no @ in names."""
    return metric.replace("@", "_at_")
