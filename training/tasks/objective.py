"""The objective that training minimises: a net, the loss of its task, distillation and center loss, in one module.

All of it runs inside one `forward`, so that whoever averages gradients sees every parameter.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from conf import Config, UserError
from training.inputs.batch import Batch
from training.inputs.schema import Inputs
from training.settings import AugmentSettings, LossSettings
from training.tasks import losses
from training.tasks.augment import augment, five_crops
from training.tasks.task import Floats, Task

BALANCE_BATCHES = 100  # batches between looks at whether losses that are added up are of one size

OwnMetric = Callable[[Floats, Floats], float | Mapping[str, float]]
"""A metric of `train.metrics`: (labels, predictions) -> a number, or several by name (`features.metrics.METRICS`)."""


class Objective(nn.Module):
    """A net with its loss: `forward(batch)` gives the losses (rows,), `predict(batch)` what the task measures.

    Args:
        net: a model's module, which takes the task's `model_inputs`.
        task: how rows become losses and predictions.
        inputs: names and sizes of what the net reads.
        config: of which the sections `loss` and `augment` are read.

    Raises UserError when `loss.center` is set for a net without vectors before its last layer.
    """

    def __init__(self, net: nn.Module, task: Task, inputs: Inputs, config: Config) -> None:
        super().__init__()
        self.net = net
        self.task, self.inputs = task, inputs
        self.settings, self.augmentation = config.get(LossSettings), config.get(AugmentSettings)
        # Filled for training alone: a finished run predicts also where the user's functions are no longer there.
        self.own_metrics: dict[str, OwnMetric] = {}
        self.center: losses.Center | None = None
        if self.settings.center:
            self.center = losses.Center(len(inputs.classes), _width_of(net))
        # A list, so that a teacher's weights are neither saved nor trained.
        self.teacher: list[nn.Module] = []
        self._batches = 0

    def forward(self, batch: Batch) -> Tensor:
        """(rows,) losses, unweighted: (1 − d) · task + d · distillation + c · center, d and c being settings."""
        batch = self._augmented(batch)
        loss = self.task.loss(self.net, batch, self.inputs, self.settings)
        if self.teacher:
            loss = (1 - self.settings.distil) * loss + self.settings.distil * self._distillation_loss(batch)
        if self.center is not None:
            net: Any = self.net
            # A second pass up to the last layer: a model's `forward` gives scores only.
            vectors = net.features(*self.task.model_inputs(batch, self.inputs))  # (rows, width)
            center_loss = self.settings.center * self.center(vectors, batch.label.long())
            # Not of each batch: a GPU has to end all its work before the two numbers can be read.
            if self._batches % BALANCE_BATCHES == 0:
                losses.warn_when_unbalanced(
                    {"classes": float(loss.detach().mean()), "center": float(center_loss.detach().mean())}
                )
            self._batches += 1
            loss = loss + center_loss
        return loss

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Predictions (rows, outputs) without gradients; the mean over five crops where `augment.five_crops` is set."""
        if batch.image is None or not self.augmentation.five_crops:
            return self.task.predict(self.net, batch, self.inputs)
        crops = five_crops(batch.image.float() / 127.5 - 1)
        per_crop = [self.task.predict(self.net, replace(batch, image=crop), self.inputs) for crop in crops]
        return torch.stack(per_crop).mean(dim=0)

    def _augmented(self, batch: Batch) -> Batch:
        # Bytes to −1 … 1 first; `model_inputs` leaves floats as they are.
        if batch.image is None or not self.training:
            return batch
        return replace(batch, image=augment(batch.image.float() / 127.5 - 1, self.augmentation))

    def _distillation_loss(self, batch: Batch) -> Tensor:
        """(rows,) cross-entropy against the teacher's softened predictions (Hinton et al. 2015, eq. 1)."""
        arguments = self.task.model_inputs(batch, self.inputs)
        with torch.no_grad():
            teacher_scores = self.teacher[0](*arguments)
        scores, temperature = self.net(*arguments), self.settings.temperature
        if scores.ndim > 2:
            raise UserError("a teacher is for models that give scores of rows, not of steps (loss.name=ctc)")
        if teacher_scores.shape != scores.shape:
            raise UserError("the teacher is of another task: its scores have another shape")
        # Binary: one logit (rows,) or several (rows, labels), each with a soft target of its own.
        if scores.ndim == 1 or not self.inputs.classes:
            losses_by_label = functional.binary_cross_entropy_with_logits(
                scores / temperature, torch.sigmoid(teacher_scores / temperature), reduction="none"
            )
            return temperature**2 * (losses_by_label if losses_by_label.ndim == 1 else losses_by_label.sum(1))
        # T² keeps the size of the gradients, which softening divides by it (section 2 of the paper).
        divergence = functional.kl_div(
            functional.log_softmax(scores / temperature, 1),
            functional.softmax(teacher_scores / temperature, 1),
            reduction="none",
        )
        return temperature**2 * divergence.sum(1)


def _width_of(net: nn.Module) -> int:
    """Width of the vectors before the net's last layer. Raises UserError when it has none."""
    head = getattr(net, "head", None)
    if not isinstance(head, nn.Linear) or not hasattr(net, "features"):
        raise UserError("loss.center is for models of covers and titles, which have vectors before their last layer")
    return head.in_features
