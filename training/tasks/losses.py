"""Losses by row, so that rows can have weights; training minimises `sum(weight × loss) / rows`.

Scores are logits. References: focal, Lin et al. 2017; N-pair, Sohn 2016; triplet, Schroff et al. 2015; center, Wen et
al. 2016; CTC, Graves et al. 2006.
"""

import logging
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from conf import UserError
from training.settings import LossSettings

log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor, LossSettings], Tensor]


# --- of a score and a label 0 or 1 (mse and mae: of a probability); any shape, element by element ---


def cross_entropy(score: Tensor, label: Tensor, _: LossSettings) -> Tensor:
    return functional.binary_cross_entropy_with_logits(score, label, reduction="none")


def focal(score: Tensor, label: Tensor, settings: LossSettings) -> Tensor:
    """−α (1 − p)^γ log p of the right answer's probability p, α being 1 − α for negatives."""
    plain = functional.binary_cross_entropy_with_logits(score, label, reduction="none")
    p_true = torch.exp(-plain)  # probability of the true label
    alpha = settings.focal_alpha * label + (1 - settings.focal_alpha) * (1 - label)
    return alpha * (1 - p_true) ** settings.focal_gamma * plain


def hinge(score: Tensor, label: Tensor, _: LossSettings) -> Tensor:
    return functional.relu(1 - (2 * label - 1) * score)


def mse(score: Tensor, label: Tensor, _: LossSettings) -> Tensor:
    return (torch.sigmoid(score) - label).square()


def mae(score: Tensor, label: Tensor, _: LossSettings) -> Tensor:
    return (torch.sigmoid(score) - label).abs()


def exponential(score: Tensor, label: Tensor, _: LossSettings) -> Tensor:
    """exp(−y s), y being −1 or 1: AdaBoost's."""
    return torch.exp(-(2 * label - 1) * score)


BINARY: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "hinge": hinge,
    "mse": mse,
    "mae": mae,
    "exponential": exponential,
}


# --- of scores (rows, classes) and the number of the right class (rows,) ---


def cross_entropy_of_classes(scores: Tensor, label: Tensor, settings: LossSettings) -> Tensor:
    return functional.cross_entropy(scores, label, reduction="none", label_smoothing=settings.smoothing)


def focal_of_classes(scores: Tensor, label: Tensor, settings: LossSettings) -> Tensor:
    plain = functional.cross_entropy(scores, label, reduction="none")
    return (1 - torch.exp(-plain)) ** settings.focal_gamma * plain


def hinge_of_classes(scores: Tensor, label: Tensor, _: LossSettings) -> Tensor:
    return functional.multi_margin_loss(scores, label, reduction="none")


OF_CLASSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy_of_classes,
    "focal": focal_of_classes,
    "hinge": hinge_of_classes,
}


# --- of vectors ---


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """max(0, |a − p|² − |a − n|² + margin); all (rows, dim)."""
    near, far = (anchor - positive).square().sum(-1), (anchor - negative).square().sum(-1)
    return functional.relu(near - far + margin)


def n_pair(anchor: Tensor, positive: Tensor) -> Tensor:
    """Each row's positive against the positives of all other rows; both (rows, dim)."""
    return functional.cross_entropy(
        anchor @ positive.T, torch.arange(len(anchor), device=anchor.device), reduction="none"
    )


class Center(nn.Module):
    """½ |x − center of its class|²: pulls the vectors of a class together, beside another loss."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.zeros(classes, dim))

    def forward(self, vectors: Tensor, label: Tensor) -> Tensor:
        return 0.5 * (vectors - self.centers[label]).square().sum(-1)


# --- of sequences ---


def ctc(log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor, *, blank: int = 0) -> Tensor:
    """(rows,) cost of reading `targets` (rows, longest) out of `log_probs` (steps, rows, classes), however aligned."""
    return functional.ctc_loss(log_probs, targets, lengths, target_lengths, blank=blank, reduction="none")


# --- around them ---


def penalty(parameters: Mapping[str, Tensor], settings: LossSettings) -> Tensor | float:
    """λ1 Σ|w| + ½ λ2 Σ w² over weight matrices (biases and norms go free)."""
    total: Tensor | float = 0.0
    if settings.l1 or settings.l2:
        for weight in parameters.values():
            if weight.ndim > 1:
                total = total + settings.l1 * weight.abs().sum() + 0.5 * settings.l2 * weight.square().sum()
    return total


def warn_when_unbalanced(losses: Mapping[str, float]) -> bool:
    """Whether losses that are added up differ by more than two orders of magnitude: the small one teaches nothing."""
    sizes = {name: abs(value) for name, value in losses.items() if value}
    if len(sizes) < 2 or max(sizes.values()) <= 100 * min(sizes.values()):
        return False
    listing = ", ".join(f"{name} {value:.3g}" for name, value in losses.items())
    log.warning("losses that are added up differ by more than two orders of magnitude: %s", listing)
    return True


def named(losses: Mapping[str, Loss], name: str, what: str) -> Loss:
    """The loss called `name` for `what`. Raises UserError that lists those that fit."""
    if name not in losses:
        raise UserError(f"loss.name={name} is not for {what}; choose from {', '.join(losses)}")
    return losses[name]
