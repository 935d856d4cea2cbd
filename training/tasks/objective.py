"""What the loop makes small: a net, the loss of its task, and what is added to it, in one module.

All of it runs inside one `forward`, so that whoever averages gradients sees every parameter.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from conf import Config, UserError
from training.inputs.batch import Batch
from training.inputs.schema import Inputs
from training.settings import AugmentSettings, LossSettings, TrainSettings
from training.tasks import losses
from training.tasks.augment import augment, five_crops
from training.tasks.tasks import Task


class Objective(nn.Module):
    """`forward(batch)` is (rows,) what each row costs; `answers(batch)` what is measured."""

    def __init__(self, net: nn.Module, task: Task, inputs: Inputs, config: Config) -> None:
        super().__init__()
        self.net = net
        self.task, self.inputs = task, inputs
        self.settings, self.augmentation = config.get(LossSettings), config.get(AugmentSettings)
        self.own_metrics = config.get(TrainSettings).metrics
        self.center: losses.Center | None = None
        if self.settings.center:
            self.center = losses.Center(len(inputs.classes), _width_of(net))
        # A list, so that a teacher's weights are neither saved nor trained.
        self.teacher: list[nn.Module] = []

    def forward(self, batch: Batch) -> Tensor:
        batch = self._seen(batch)
        cost = self.task.loss(self.net, batch, self.inputs, self.settings)
        if self.teacher:
            cost = (1 - self.settings.distil) * cost + self.settings.distil * self._distilled(batch)
        if self.center is not None:
            net: Any = self.net
            vectors = net.features(*self.task.tensors(batch, self.inputs))
            pulled = self.settings.center * self.center(vectors, batch.label.long())
            losses.warn_when_unbalanced(
                {"classes": float(cost.detach().mean()), "center": float(pulled.detach().mean())}
            )
            cost = cost + pulled
        return cost

    def penalty(self) -> Tensor | float:
        """L1 and L2 of the weights, once for a batch."""
        return losses.penalty(dict(self.net.named_parameters()), self.settings)

    @torch.no_grad()
    def answers(self, batch: Batch) -> Tensor:
        """(rows, answers), a mean over five crops where that is asked for."""
        if batch.image is None or not self.augmentation.five_crops:
            return self.task.answers(self.net, batch, self.inputs)
        crops = five_crops(batch.image.float() / 127.5 - 1)
        per_crop = [self.task.answers(self.net, replace(batch, image=crop), self.inputs) for crop in crops]
        return torch.stack(per_crop).mean(dim=0)

    def _seen(self, batch: Batch) -> Batch:
        if batch.image is None or not self.training:
            return batch
        return replace(batch, image=augment(batch.image.float() / 127.5 - 1, self.augmentation))

    def _distilled(self, batch: Batch) -> Tensor:
        """What it costs to answer otherwise than the teacher, at a temperature (Hinton et al. 2015)."""
        tensors = self.task.tensors(batch, self.inputs)
        with torch.no_grad():
            teacher_scores = self.teacher[0](*tensors)
        scores, heat = self.net(*tensors), self.settings.temperature
        if teacher_scores.shape != scores.shape:
            raise UserError("the teacher answers another question: its scores have another shape")
        if scores.ndim == 1 or not self.inputs.classes:
            each = functional.binary_cross_entropy_with_logits(
                scores / heat, torch.sigmoid(teacher_scores / heat), reduction="none"
            )
            return heat**2 * (each if each.ndim == 1 else each.sum(1))
        divergence = functional.kl_div(
            functional.log_softmax(scores / heat, 1), functional.softmax(teacher_scores / heat, 1), reduction="none"
        )
        return heat**2 * divergence.sum(1)


def _width_of(net: nn.Module) -> int:
    head = getattr(net, "head", None)
    if not isinstance(head, nn.Linear) or not hasattr(net, "features"):
        raise UserError("loss.center is for models of covers and titles, which have vectors before their last layer")
    return head.in_features
