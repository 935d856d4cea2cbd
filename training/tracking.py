"""Runs and their learning curves in MLflow: in a SQLite file, or on the server that `tracking.uri` names."""

import logging

from conf import Config, Paths
from conf.runs import Run, read_jsonl
from training.loop.job import HISTORY
from training.net_settings import NetSettings
from training.settings import LossSettings, OptimizerSettings, ScheduleSettings, TrackingSettings, TrainSettings

log = logging.getLogger(__name__)

MAX_PARAM_LENGTH = 500  # older servers refuse longer values
# Sections whose settings are parameters of a run; paths and cluster addresses are none of its own.
LOGGED_SETTINGS = (TrainSettings, OptimizerSettings, ScheduleSettings, LossSettings, NetSettings)


def log_run(config: Config, run: Run, backend: str, workers: int, metrics: dict[str, float]) -> None:
    """Log a finished run: its settings as parameters, a curve of each metric by epoch, and the final metrics.

    Training is done when this is called, so a server that can't be reached is a warning, not an error.

    Args:
        config: the settings that the run was trained with.
        run: whose folder holds the history of the epochs.
        backend: a tag, as is `workers`.
        metrics: `{split}_{metric}` of the best checkpoint.
    """
    settings = config.get(TrackingSettings)
    if not settings.is_on:
        return
    try:
        _log(config, settings, run, backend, workers, metrics)
    except Exception as error:  # MLflow raises errors of its database driver and of its HTTP client, too
        log.warning("run %s is not in MLflow: %s", run.run_id, (str(error).splitlines() or [type(error).__name__])[0])


def tracking_uri(config: Config) -> str:
    """The address of the runs, for `mlflow ui --backend-store-uri …`: `tracking.uri`, or SQLite under `paths.home`."""
    database = config.get(Paths).root / "tracking" / "mlflow.db"
    return config.get(TrackingSettings).uri or f"sqlite:///{database}"


def _log(
    config: Config, settings: TrackingSettings, run: Run, backend: str, workers: int, final_metrics: dict[str, float]
) -> None:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    for logger in ("mlflow", "alembic"):  # each migration of a new database is a line otherwise
        logging.getLogger(logger).setLevel(logging.WARNING)
    (config.get(Paths).root / "tracking").mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri(config))
    # By the client, not by `mlflow.log_metric`: that keeps an active run in a global, and sends each value alone.
    experiment = client.get_experiment_by_name(settings.experiment)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(settings.experiment)
    mlflow_run_id = client.create_run(experiment_id, run_name=run.run_id).info.run_id
    values = {
        f"{section.section}.{key}": value
        for section in LOGGED_SETTINGS
        for key, value in config.get(section).model_dump().items()
    }
    parameters = [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in values.items()]
    # (metric, value, epoch)
    curves = [
        (key, value, int(row["epoch"]))
        for row in read_jsonl(run.folder / HISTORY)
        for key, value in row.items()
        if key not in ("epoch", "started_at")
    ]
    curves += [(key, value, 0) for key, value in final_metrics.items()]
    # MLflow allows no @ in names; timestamp 0, for the steps are epochs.
    metrics = [Metric(key.replace("@", "_at_"), value, 0, epoch) for key, value, epoch in curves]
    tags = {"model": run.model, "dt": run.day.isoformat(), "backend": backend, "workers": str(workers)}
    client.log_batch(mlflow_run_id, metrics, parameters, [RunTag(key, value) for key, value in tags.items()])
    client.set_terminated(mlflow_run_id)
