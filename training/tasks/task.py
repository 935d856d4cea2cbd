"""What a task is: the data set that a model reads, the loss of a row, and the metrics of a split."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.inputs.batch import Batch
from training.inputs.dataset import DatasetTask
from training.inputs.schema import Inputs
from training.settings import LossSettings

# (rows, outputs) unless said otherwise; in single or double precision.
Floats = NDArray[np.floating[Any]]
Names = NDArray[np.object_]
Predict = Callable[[Batch], Floats]
"""`Task.predict` with a net, or the mean over five crops of it."""


def table_metrics(task: "Task", metrics: dict[str, float]) -> dict[str, float]:
    """`metrics` of a split under their names in `ads_model_metric`: `log_loss` gets the task's name for its loss."""
    return {task.loss_metric if name == "log_loss" else name: value for name, value in metrics.items()}


class FeatureInputs:
    """The inputs of models that read the catalog's features: ids, numbers, and the task's lists."""

    def model_inputs(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        """`sparse` (rows, fields), `dense` (rows, features), and each list (rows, list_length).

        Lists that are fields follow the other ids of `sparse`, each in as many columns as it is long: see
        `FieldEmbedding`.
        """
        lists = [ids.to_padded(inputs.list_length) for ids in batch.lists[: len(inputs.lists)]]
        sequences = zip(batch.lists[len(inputs.lists) :], inputs.sequence_lengths, strict=True)
        fields = [batch.sparse, *(ids.to_padded(length) for ids, length in sequences)]
        return (torch.cat(fields, 1) if inputs.sequences else batch.sparse, batch.dense, *lists)


class Task(DatasetTask, Protocol):
    """One kind of prediction. The loop, the checks and the commands know this protocol and none of its classes.

    Tasks are frozen values without weights: the same object serves all models of its kind.
    """

    @property
    def row_key(self) -> str:
        """The column that tells rows of predictions apart."""
        ...

    @property
    def needs_item_catalog(self) -> bool:
        """Whether models score all items, and so read what `write_item_catalog` writes."""
        ...

    @property
    def loss_metric(self) -> str:
        """Name in `ads_model_metric` of what `measure` calls `log_loss`: only a click's is one label's log loss."""
        ...

    def model_inputs(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        """The arguments of the model's `forward`, in its order; tensors whose first dimension is the rows."""
        ...

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        """(rows,) losses, padding rows included. Raises UserError for a `loss.name` that is not for this task."""
        ...

    def uninformed_loss(self, net: nn.Module, inputs: Inputs, rows: int) -> float:
        """Mean loss of a model that knows nothing, in a batch of `rows`: about what an untrained one should have."""
        ...

    def predict(self, net: nn.Module, batch: Batch, inputs: Inputs) -> Tensor:
        """(rows, outputs) what `measure` takes: probabilities, or rank and loss of the item that was chosen."""
        ...

    def measure(self, predictions: Floats, labels: Floats) -> dict[str, float]:
        """Metrics of a whole split by name, at k as `name@k`. Checkpoints are chosen by the smallest `log_loss`.

        Args:
            predictions: (rows, outputs) of `predict`.
            labels: (rows,) or (rows, labels), NaN where a label was not observed.
        """
        ...

    def answer(self, net: nn.Module, batch: Batch, inputs: Inputs, k: int, predict: Predict) -> tuple[Names, Floats]:
        """Rows of `ads_prediction`: (rows, n) names of labels, classes or items, and (rows, n) their scores.

        `n` is the number of labels, 1 for the best class, `k` for the best items. `predict` gives arrays.
        """
        ...
