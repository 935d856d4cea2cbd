"""What a frozen body finds, computed once: the last layer trains on vectors, many epochs in the time of one (T13).

With `transfer.recipe=last` and `transfer.precompute=true`, for models of covers and titles. The vectors are a data set
in the run's folder, so the last layer trains on any backend; augmentation does not apply, for each row is seen once.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from conf import Config, UserError
from training.inputs.batch import Batch, Columns
from training.inputs.feed import read_epoch
from training.inputs.schema import Inputs
from training.loop import Job, build_objective
from training.models import model_named
from training.saved import load_weights, save_model
from training.settings import TransferSettings
from training.tasks.classification import Classification
from training.workers import LocalWorker

HEAD = "training.frozen:build_head"
FOLDER = "vectors"


@dataclass(frozen=True)
class VectorClassification(Classification):
    """Which class a vector is of."""

    kind: str = FOLDER

    def model_inputs(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        return (batch.dense,)


def build_head(config: Config, inputs: Inputs) -> nn.Module:
    """The last layer alone."""
    return nn.Linear(len(inputs.dense), len(inputs.classes))


build_head.task = VectorClassification()  # type: ignore[attr-defined]


def is_wanted(config: Config) -> bool:
    """Whether the settings ask for it. Raises UserError when they do where more than the last layer learns."""
    settings = config.get(TransferSettings)
    if not settings.precompute:
        return False
    if settings.run is None or settings.recipe != "last":
        raise UserError("transfer.precompute needs transfer.run and transfer.recipe=last: else the body learns, too")
    return True


def head_job(job: Job) -> Job:
    """Compute the vectors of all splits and return the job of the last layer on them, in the same run folder."""
    net = build_objective(job).net.eval()
    if not hasattr(net, "features"):
        raise UserError(f"transfer.precompute is for models of covers and titles, not for {job.model}")
    folder = job.run_folder / FOLDER
    width = 0
    for split in ("train", "valid", "test"):
        width = _write(net, job, split, folder / split)
    names = tuple(f"v{i}" for i in range(width))
    inputs = Inputs(dense=names, classes=job.inputs.classes, labels=job.inputs.labels)
    return replace(
        job, model=HEAD, dataset=folder, inputs=inputs, columns=Columns(dense=names), start_from=None, teacher=None
    )


def put_together(job: Job) -> None:
    """The body with the last layer that was trained takes its place as the run's model."""
    net = build_objective(job).net
    head: nn.Module = net.get_submodule("head")
    head.load_state_dict(load_weights(job.run_folder / "model"))
    for path in (job.run_folder / "model").glob("*.pt"):
        path.unlink()
    save_model(job.run_folder / "model", job.model, net.state_dict(), job.inputs, job.config)


@torch.no_grad()
def _write(net: nn.Module, job: Job, split: str, folder: Path) -> int:
    """Vectors and labels of a split, in its order; returns the length of a vector."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = replace(job.feed(split, LocalWorker()), shuffle_rows=0)
    task, features = model_named(job.model).task, getattr(net, "features")  # noqa: B009 - a module has no such method
    parts = []
    for batch in read_epoch(spec, 0):
        is_real = batch.weight > 0
        vectors = features(*task.model_inputs(batch, job.inputs))[is_real].numpy()
        columns = {f"v{i}": column for i, column in enumerate(vectors.T)}
        parts.append(pa.table({**columns, "label": batch.label[is_real].numpy()}))
    table = pa.concat_tables(parts)
    pq.write_table(table, folder / "part-0.parquet", row_group_size=8192)
    return int(table.num_columns) - 1
