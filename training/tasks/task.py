"""What a task is: the data set that a model reads, the loss of a row, and the metrics of a split."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.inputs.batch import Batch
from training.inputs.schema import Inputs
from training.settings import LossSettings

Floats = NDArray[np.floating[Any]]
Names = NDArray[np.object_]
Predict = Callable[[Batch], Floats]
"""`Task.predict` with a net, or the mean over five crops of it."""


def table_metrics(task: "Task", metrics: dict[str, float]) -> dict[str, float]:
    """`metrics` of a split under their names in `ads_model_metric`: `log_loss` gets the task's name for its loss."""
    return {task.loss_metric if name == "log_loss" else name: value for name, value in metrics.items()}


class Task(Protocol):
    """One kind of prediction. The loop, the checks and the commands know this protocol and none of its classes."""

    @property
    def kind(self) -> str:
        """The data set under `datasets/`."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Its columns of labels."""
        ...

    @property
    def lists(self) -> tuple[str, ...]:
        """Its columns of lists of ids."""
        ...

    @property
    def row_key(self) -> str:
        """The column that tells rows of predictions apart."""
        ...

    @property
    def needs_catalogue(self) -> bool:
        """Whether models score all items, and so read what `write_item_catalog` writes."""
        ...

    @property
    def loss_metric(self) -> str:
        """Name in `ads_model_metric` of what `measure` calls `log_loss`: only a click's is one label's log loss."""
        ...

    def model_inputs(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        """The arguments of the model's `forward`."""
        ...

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        """(rows,) losses. Raises UserError for a `loss.name` that is not for this task."""
        ...

    def uninformed_loss(self, net: nn.Module, inputs: Inputs, rows: int) -> float:
        """Mean loss of a model that knows nothing, in a batch of `rows`: about what an untrained one should have."""
        ...

    def predict(self, net: nn.Module, batch: Batch, inputs: Inputs) -> Tensor:
        """(rows, outputs) what `measure` takes: probabilities, or the rank of the right item."""
        ...

    def measure(self, predictions: Floats, labels: Floats) -> dict[str, float]:
        """Metrics of a whole split; models are chosen by the smallest `log_loss`."""
        ...

    def answer(self, net: nn.Module, batch: Batch, inputs: Inputs, k: int, predict: Predict) -> tuple[Names, Floats]:
        """(rows, n) answers and their scores, for `ads_prediction`: labels, the best class, or the best `k` items."""
        ...
