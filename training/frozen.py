"""Features of a frozen body, computed once: the last layer trains on them, many epochs in the time of one (T13).

With `transfer.recipe=last` and `transfer.precompute=true`, for models of covers and titles. The features are a data set
in the run's folder, so the last layer trains on any backend. Augmentation does not apply: the body sees each row once.
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
from training.loop.job import Job
from training.loop.state import build_objective
from training.models import model_named
from training.saved import load_weights, save_model
from training.settings import TransferSettings
from training.tasks.classification import Classification
from training.workers import LocalWorker

# As a user's own model is named, so that workers elsewhere import it as they do any other.
HEAD = "training.frozen:build_head"
FOLDER = "vectors"


@dataclass(frozen=True)
class VectorClassification(Classification):
    """Classification of precomputed vectors, which the feed reads as dense columns."""

    kind: str = FOLDER

    def model_inputs(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        return (batch.dense,)  # (rows, width)


def build_head(config: Config, inputs: Inputs) -> nn.Module:
    """The last layer alone: vectors (rows, width) -> scores (rows, classes). The builder of the model `HEAD`."""
    return nn.Linear(len(inputs.dense), len(inputs.classes))


build_head.task = VectorClassification()  # type: ignore[attr-defined]


def is_precomputed(config: Config) -> bool:
    """Whether `transfer.precompute` is set.

    Raises UserError when it is, but `transfer.run` is not, or more than the last layer learns: then features change.
    """
    settings = config.get(TransferSettings)
    if not settings.precompute:
        return False
    if settings.run is None or settings.recipe != "last":
        raise UserError("transfer.precompute needs transfer.run and transfer.recipe=last: else the body learns, too")
    return True


def head_job(job: Job) -> Job:
    """Compute the features of all splits, and return the job that trains the last layer on them in the same run folder.

    Costs one pass over the data in this process. Raises UserError when the model has no `features` method.
    """
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


def save_with_head(job: Job) -> None:
    """Replace the run's model, which is the last layer alone, by the whole net: the old body with that last layer."""
    # The objective of `job` starts from the weights of `transfer.run`, body included.
    net = build_objective(job).net
    head: nn.Module = net.get_submodule("head")
    head.load_state_dict(load_weights(job.run_folder / "model"))
    for path in (job.run_folder / "model").glob("*.pt"):  # `load_weights` expects one file
        path.unlink()
    save_model(job.run_folder / "model", job.model, net.state_dict(), job.inputs, job.config)


@torch.no_grad()
def _write(net: nn.Module, job: Job, split: str, folder: Path) -> int:
    """Write features and labels of a split, in its order; returns the width of the features."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = replace(job.feed(split, LocalWorker()), shuffle_rows=0)  # the last layer's own feed shuffles
    task, features = model_named(job.model).task, getattr(net, "features")  # noqa: B009 - a module has no such method
    parts = []
    for batch in read_epoch(spec, 0):
        is_real = batch.weight > 0
        # (rows, width), without the padding rows
        vectors = features(*task.model_inputs(batch, job.inputs))[is_real].numpy()
        columns = {f"v{i}": column for i, column in enumerate(vectors.T)}
        parts.append(pa.table({**columns, "label": batch.label[is_real].numpy()}))
    table = pa.concat_tables(parts)
    pq.write_table(table, folder / "part-0.parquet", row_group_size=8192)
    return int(table.num_columns) - 1  # all but the label
