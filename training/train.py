"""Train a deep model on the training set of a day: `millrace train deepfm --date D --backend horovod`."""

import logging
from datetime import date
from typing import Any

from conf import Config, Paths, UserError
from conf.cli import one_of
from conf.runs import resume_run, start_run
from conf.versions import current
from features.catalog import DENSE, SPARSE
from training.fit import Job
from training.launch import BACKENDS
from training.models import builder_of

log = logging.getLogger(__name__)


def run(config: Config, model: str, day: date, *, backend: str, workers: int, resume: bool = False) -> dict[str, Any]:
    """Train, and leave a run folder with weights, checkpoints and metrics.

    `resume` goes on in the newest run folder of this model and day that was not finished.
    """
    builder_of(model)
    one_of("backend", backend, tuple(BACKENDS))
    dataset, _ = current(config.get(Paths).datasets("examples", day), made_by=f"millrace features build --date {day}")
    name = model.replace(":", ".")
    unfinished = resume_run(config, name, day) if resume else None
    if resume and unfinished is None:
        raise UserError(f"no unfinished run of {model} for {day} to resume")
    with start_run(config, name, day, resumed=unfinished) as found:
        (found.model_folder, found.checkpoints)  # noqa: B018 - made here, before workers need them
        job = Job(
            config,
            model,
            dataset,
            found.folder,
            tuple(f"f_{feature.name}" for feature in SPARSE),
            tuple(f"f_{feature.name}" for feature in DENSE),
            tuple(feature.buckets for feature in SPARSE),
        )
        numbers = BACKENDS[backend](job, workers)
        for split in ("valid", "test"):
            for metric in ("auc", "log_loss"):
                found.metric("train", split, metric, numbers[f"{split}_{metric}"], int(numbers[f"{split}_rows"]))
    return {"run_id": found.run_id, "backend": backend, "workers": workers, **numbers}
