"""Losses of each row, unreduced, so that rows can have weights: training minimises sum(weight × loss) / rows.

Scores are logits. References: focal, Lin et al. 2017; N-pair, Sohn 2016; triplet, Schroff et al. 2015; center, Wen et
al. 2016; CTC, Graves et al. 2006.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from conf import UserError
from training.settings import LossSettings

log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor, LossSettings], Tensor]


# --- binary: of a score and a label 0 or 1, any shape, element by element ---


def focal(score: Tensor, label: Tensor, settings: LossSettings) -> Tensor:
    """−α_t (1 − p_t)^γ log p_t, p_t being the probability of the true label, α_t = α or 1 − α (Lin et al., eq. 5)."""
    cross_entropies = functional.binary_cross_entropy_with_logits(score, label, reduction="none")
    p_true = torch.exp(-cross_entropies)
    alpha = settings.focal_alpha * label + (1 - settings.focal_alpha) * (1 - label)
    return alpha * (1 - p_true) ** settings.focal_gamma * cross_entropies


BINARY: dict[str, Loss] = {
    # −log σ(s) of a positive, −log(1 − σ(s)) of a negative: the log loss of the predicted probability.
    # Of logits, not of σ(s): the logarithm of a saturated sigmoid would be infinite.
    "cross_entropy": lambda score, label, _: functional.binary_cross_entropy_with_logits(
        score, label, reduction="none"
    ),
    "focal": focal,
    # max(0, 1 − y s), y being −1 or 1: the loss of support vector machines.
    "hinge": lambda score, label, _: functional.relu(1 - (2 * label - 1) * score),
    # (σ(s) − y)²: of the probability, not of the logit, so it is the Brier score.
    "mse": lambda score, label, _: (torch.sigmoid(score) - label).square(),
    # |σ(s) − y|, of the probability; its minimum is the median, so probabilities end near 0 and 1.
    "mae": lambda score, label, _: (torch.sigmoid(score) - label).abs(),
    # exp(−y s), y being −1 or 1: the loss of AdaBoost, which grows without bound for outliers.
    "exponential": lambda score, label, _: torch.exp(-(2 * label - 1) * score),
}


# --- multi-class: of scores (rows, classes) and the number of the true class (rows,), int64 ---


def softmax_focal(scores: Tensor, label: Tensor, settings: LossSettings) -> Tensor:
    """−(1 − p)^γ log p, p being the probability of the true class (Lin et al., eq. 4, over a softmax)."""
    cross_entropies = functional.cross_entropy(scores, label, reduction="none")
    return (1 - torch.exp(-cross_entropies)) ** settings.focal_gamma * cross_entropies


def ctc(scores: Tensor, label: Tensor, _: LossSettings) -> Tensor:
    """−log of the probability that the steps read as `label`, over all alignments (Graves et al., eq. 8), (rows,).

    Args:
        scores: (rows, steps, 1 + classes) logits of each step, that of the blank, which emits nothing, first.
        label: (rows,) one class a row, or (rows, longest) a sequence of them, filled up by −1; int64.

    Raises:
        UserError: the model gives one score a class for the whole row.
    """
    if scores.ndim != 3:
        raise UserError("loss.name=ctc needs scores of each step, (rows, steps, 1 + classes); this model's are of rows")
    log_probs = scores.log_softmax(2).transpose(0, 1)  # (steps, rows, 1 + classes), as torch wants it
    targets = label.reshape(len(label), -1) + 1  # (rows, longest); the blank is class 0, what fills up becomes it
    num_steps = torch.full((len(scores),), scores.shape[1], device=scores.device)
    return functional.ctc_loss(log_probs, targets, num_steps, (targets > 0).sum(1), reduction="none")


def ctc_class_scores(scores: Tensor) -> Tensor:
    """(rows, classes) log probability that the steps read as that class alone; `scores` as in `ctc`.

    Costs a pass of `ctc` for each class.
    """
    classes = torch.arange(scores.shape[2] - 1, device=scores.device)
    return torch.stack([-ctc(scores, label.expand(len(scores)), LossSettings()) for label in classes], dim=1)


MULTI_CLASS: dict[str, Loss] = {
    # −log softmax(s) of the true class; `loss.smoothing` spreads a share of the target evenly over all classes.
    "cross_entropy": lambda scores, label, settings: functional.cross_entropy(
        scores, label, reduction="none", label_smoothing=settings.smoothing
    ),
    "focal": softmax_focal,
    # Σ over the other classes of max(0, 1 − s_true + s), over the number of classes (Weston and Watkins 1999).
    "hinge": lambda scores, label, _: functional.multi_margin_loss(scores, label, reduction="none"),
    "ctc": ctc,
}


# --- metric learning: of vectors (rows, dim) ---


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """(rows,) max(0, |a − p|² − |a − n|² + margin): the negative is to be farther away, by a squared distance."""
    positive_distance = (anchor - positive).square().sum(-1)
    negative_distance = (anchor - negative).square().sum(-1)
    return functional.relu(positive_distance - negative_distance + margin)


def n_pair(anchor: Tensor, positive: Tensor) -> Tensor:
    """Softmax of each row's positive among the positives of all rows, (rows,): the batch gives the negatives.

    log(1 + Σ_{j≠i} exp(aᵢ·pⱼ − aᵢ·pᵢ)) (Sohn 2016), without its L2 penalty of the vectors.
    """
    scores = anchor @ positive.T  # (rows, rows); the diagonal is right
    return functional.cross_entropy(scores, torch.arange(len(anchor), device=anchor.device), reduction="none")


class Center(nn.Module):
    """½ |x − center of its class|²: pulls the vectors of a class together, beside another loss (Wen et al., eq. 2).

    The centers are parameters, learned with the net, instead of running means as in the paper.
    """

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.zeros(classes, dim))

    def forward(self, vectors: Tensor, label: Tensor) -> Tensor:
        """(rows, dim) vectors, (rows,) classes -> (rows,)."""
        offsets = vectors - self.centers[label]  # (rows, dim)
        return 0.5 * offsets.square().sum(-1)


# --- added to a loss, and choosing one ---


def penalty(parameters: Iterable[Tensor], settings: LossSettings) -> Tensor | float:
    """λ1 Σ|w| + ½ λ2 Σ w² over weight matrices and embedding tables; biases and norms are free.

    Dense: it reads every row of a table, also those that no row of the batch has. 0.0 when both are off.
    """
    total: Tensor | float = 0.0
    if settings.l1 or settings.l2:
        for weight in parameters:
            if weight.ndim > 1:
                total = total + settings.l1 * weight.abs().sum() + 0.5 * settings.l2 * weight.square().sum()
    return total


def warn_when_unbalanced(losses: Mapping[str, float]) -> bool:
    """Warn when losses that are added up differ by more than two orders of magnitude; returns whether they do.

    The gradients of the smallest then hardly matter. Losses of exactly 0 are ignored.
    """
    sizes = {name: abs(value) for name, value in losses.items() if value}
    if len(sizes) < 2 or max(sizes.values()) <= 100 * min(sizes.values()):
        return False
    listing = ", ".join(f"{name} {value:.3g}" for name, value in losses.items())
    log.warning("losses that are added up differ by more than two orders of magnitude: %s", listing)
    return True


def loss_named(losses: Mapping[str, Loss], name: str, targets: str) -> Loss:
    """The loss called `name`. Raises UserError that lists the losses for such `targets` (clicks, classes)."""
    if name not in losses:
        raise UserError(f"loss.name={name} is not for {targets}; choose from {', '.join(losses)}")
    return losses[name]
