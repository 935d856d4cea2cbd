"""Which of several classes: the topic of a cover or of a title."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from features.metrics.classification import top_k_error
from training.inputs.batch import Batch
from training.inputs.schema import Inputs
from training.settings import LossSettings
from training.tasks import losses
from training.tasks.task import Floats, Names, Predict


@dataclass(frozen=True)
class Classification:
    """One class a row. Models give scores (rows, classes), for `loss.name=ctc` (rows, steps, 1 + classes).

    Predictions are probabilities (rows, classes).

    Args:
        kind: covers or titles.
        lists: the column of a title's words.
    """

    kind: str
    lists: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("label",)
    row_key: str = "item_id"
    needs_item_catalog: bool = False
    loss_metric: str = "cross_entropy"

    def model_inputs(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        if batch.image is not None:
            image = batch.image  # (rows, channels, height, width)
            # Bytes become −1 … 1; augmented images are floats in that range already.
            return (image if image.is_floating_point() else image.float() / 127.5 - 1,)
        return tuple(ids.to_padded(inputs.list_length) for ids in batch.lists)

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        loss_of = losses.loss_named(losses.MULTI_CLASS, settings.name, "classes")
        return loss_of(net(*self.model_inputs(batch, inputs)), batch.label.long(), settings)

    def uninformed_loss(self, net: nn.Module, inputs: Inputs, rows: int) -> float:
        return math.log(len(inputs.classes))

    def predict(self, net: nn.Module, batch: Batch, inputs: Inputs) -> Tensor:
        scores: Tensor = net(*self.model_inputs(batch, inputs))  # (rows, classes), or of each step for `ctc`
        if scores.ndim == 3:
            scores = losses.ctc_class_scores(scores)
        return functional.softmax(scores.float(), dim=1)

    def measure(self, predictions: Floats, labels: Floats) -> dict[str, float]:
        # (rows,) probability of the true class; at least 1e-12, whose −log is 28
        p_true = predictions[np.arange(len(labels)), labels.astype(int)]
        metrics = {
            "log_loss": float(-np.mean(np.log(np.maximum(p_true, 1e-12)))),
            "accuracy": float(np.mean(predictions.argmax(1) == labels)),
        }
        if predictions.shape[1] > 5:
            metrics["top_5_error"] = top_k_error(labels.astype(int), predictions, k=5)
        return metrics

    def answer(self, net: nn.Module, batch: Batch, inputs: Inputs, k: int, predict: Predict) -> tuple[Names, Floats]:
        predictions = predict(batch)
        best = predictions.argmax(1)[:, None]  # (rows, 1)
        return np.array(inputs.classes, object)[best], np.take_along_axis(predictions, best, axis=1)
