"""Several labels at once: click, like, purchase."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from features.dataset.names import OUTCOME_LABELS
from training.inputs.batch import Batch
from training.inputs.schema import Inputs
from training.settings import LossSettings
from training.tasks import losses
from training.tasks.click import Click, label_metrics
from training.tasks.task import Floats


@dataclass(frozen=True)
class MultiLabel(Click):
    """Click, like and purchase at once. Models give logits (rows, labels); the loss is the sum over the labels.

    A label that is missing (NaN) has no loss: nobody can like what was not opened.
    """

    labels: tuple[str, ...] = ("label", *OUTCOME_LABELS)
    loss_metric: str = "log_loss_sum"

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        targets = self.targets(batch.label)  # (rows, labels)
        is_observed = ~targets.isnan()
        # 0 for what is not observed before the loss, and its loss 0 after it: NaN · 0 has a NaN gradient.
        loss_of = losses.loss_named(losses.BINARY, settings.name, "clicks")
        by_label = loss_of(net(*self.model_inputs(batch, inputs)), torch.where(is_observed, targets, 0.0), settings)
        return torch.where(is_observed, by_label, 0.0).sum(dim=1)

    def targets(self, labels: Tensor) -> Tensor:
        """(rows, labels) what the model's logits predict, of the label columns of the same shape."""
        return labels

    def measure(self, predictions: Floats, labels: Floats) -> dict[str, float]:
        targets = self.targets(torch.from_numpy(np.asarray(labels, np.float32))).numpy()
        metrics: dict[str, float] = {}
        for i, name in enumerate(self.labels):
            is_observed = ~np.isnan(targets[:, i])
            if is_observed.any():
                of_label = label_metrics(predictions[is_observed, i], targets[is_observed, i])
                metrics |= {f"{metric}_{name}": value for metric, value in of_label.items()}
        metrics["log_loss"] = sum(value for name, value in metrics.items() if name.startswith("log_loss_"))
        # Models of several labels are compared with models of clicks by the AUC of the first label, the click.
        if f"auc_{self.labels[0]}" in metrics:
            metrics["auc"] = metrics[f"auc_{self.labels[0]}"]
        return metrics


@dataclass(frozen=True)
class EntireSpace(MultiLabel):
    """Click, and click with like, both over all impressions (ESMM, Ma et al. 2018)."""

    labels: tuple[str, ...] = ("label", OUTCOME_LABELS[0])

    def targets(self, labels: Tensor) -> Tensor:
        click, like = labels[:, 0], labels[:, 1].nan_to_num()  # a like is NaN where nothing was opened
        return torch.stack([click, click * like], dim=1)
