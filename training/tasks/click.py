"""Clicks: a probability for each impression."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from features.dataset.names import OUTCOME_LABELS
from features.metrics.classification import auc, log_loss
from training.inputs.batch import Batch
from training.inputs.schema import Inputs
from training.settings import LossSettings
from training.tasks import losses
from training.tasks.task import FeatureInputs, Floats, Names, Predict


@dataclass(frozen=True)
class Click(FeatureInputs):
    """Whether an impression is clicked. Models give logits (rows,); predictions are probabilities (rows, 1).

    Args:
        lists: columns of lists that the model reads besides ids and numbers, such as the user's history.
    """

    lists: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("label",)
    kind: str = "examples"
    row_key: str = "example_id"
    needs_item_catalog: bool = False
    loss_metric: str = "log_loss"

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        loss_of = losses.loss_named(losses.BINARY, settings.name, "clicks")
        return loss_of(net(*self.model_inputs(batch, inputs)), batch.label, settings)

    def uninformed_loss(self, net: nn.Module, inputs: Inputs, rows: int) -> float:
        return math.log(2) * len(self.labels)  # p = 1/2 for every column of labels

    def predict(self, net: nn.Module, batch: Batch, inputs: Inputs) -> Tensor:
        scores: Tensor = net(*self.model_inputs(batch, inputs))  # (rows,), or (rows, labels) of several labels
        scores = scores.float()  # σ of bfloat16 has 1.0 where it should be 0.999, whose log loss is infinite
        return torch.sigmoid(scores.unsqueeze(1) if scores.ndim == 1 else scores)

    def measure(self, predictions: Floats, labels: Floats) -> dict[str, float]:
        # Of clicks alone, unweighted, whatever else is learned from: so that all click models compare.
        clicks = labels if labels.ndim == 1 else labels[:, 0]  # (rows,)
        return label_metrics(predictions[:, 0], clicks)

    def answer(self, net: nn.Module, batch: Batch, inputs: Inputs, k: int, predict: Predict) -> tuple[Names, Floats]:
        predictions = predict(batch)
        labels = np.array(self.labels[: predictions.shape[1]], object)
        return np.tile(labels, (len(predictions), 1)), predictions


@dataclass(frozen=True)
class EngagedClick(Click):
    """Clicks, a clicked row weighing more when a like followed: weighted logistic regression, as YouTube ranks.

    (Covington et al. 2016 weigh by watch time; odds are then the expected engagement.)
    """

    labels: tuple[str, ...] = ("label", OUTCOME_LABELS[0])

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        click, like = batch.label[:, 0], batch.label[:, 1].nan_to_num()  # a like is NaN where nothing was opened
        loss_of = losses.loss_named(losses.BINARY, settings.name, "clicks")
        return loss_of(net(*self.model_inputs(batch, inputs)), click, settings) * (1 + click * like)


def label_metrics(probabilities: Floats, labels: Floats) -> dict[str, float]:
    """Log loss of one label, and its AUC where both classes occur; `probabilities` and `labels` are (rows,)."""
    metrics = {"log_loss": log_loss(labels, probabilities)}
    if 0 < labels.sum() < len(labels):
        metrics["auc"] = auc(labels, probabilities)
    return metrics
