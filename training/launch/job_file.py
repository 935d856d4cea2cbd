"""A job as a JSON file in its run folder, for workers on other machines or started by another command.

It holds the settings of training alone: no other section, and so no password, leaves this process.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conf import Config
from conf.atomic import write_atomically
from training.inputs.batch import Columns
from training.inputs.schema import Inputs
from training.loop.job import Job
from training.net_settings import NetSettings
from training.settings import (
    AugmentSettings,
    LossSettings,
    OptimizerSettings,
    RaySettings,
    ScheduleSettings,
    TrainSettings,
    TransferSettings,
)

FILE = "job.json"
SAVED_SETTINGS = (  # sections that the loop, the models and the feed read
    TrainSettings,
    OptimizerSettings,
    ScheduleSettings,
    LossSettings,
    AugmentSettings,
    TransferSettings,
    NetSettings,
    RaySettings,
)


def save(job: Job) -> Path:
    """Write a job into its run folder, which all workers must see, and return the file."""
    values = {section.section: job.config.get(section).model_dump(mode="json") for section in SAVED_SETTINGS}
    about = {
        "profile": job.config.profile,
        "settings": values,
        "model": job.model,
        "dataset": job.dataset,
        "run_folder": job.run_folder,
        "inputs": asdict(job.inputs),
        "columns": asdict(job.columns),
        "version": job.version,
        "start_from": job.start_from,
        "teacher": job.teacher,
    }
    path = job.run_folder / FILE
    write_atomically(path, json.dumps(about, indent=2, default=str))  # paths become text
    return path


def load(path: Path) -> Job:
    """The job that `save` wrote to `path`, with defaults for all settings that it does not hold."""
    about = json.loads(path.read_text(encoding="utf-8"))
    start_from, teacher = (Path(about[name]) if about[name] else None for name in ("start_from", "teacher"))
    return Job(
        Config(about["profile"], about["settings"]),
        about["model"],
        Path(about["dataset"]),
        Path(about["run_folder"]),
        Inputs.from_dict(about["inputs"]),
        _columns(about["columns"]),
        about["version"],
        start_from,
        teacher,
    )


def _columns(values: dict[str, Any]) -> Columns:
    # JSON has lists for tuples, which would make the frozen dataclass unhashable.
    arguments: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
    return Columns(**arguments)
