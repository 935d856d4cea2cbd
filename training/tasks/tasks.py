"""What models are trained for: which data set they read, what a row costs, and how good the answers are.

A model says by its entry in `MODELS` which task is its own; the loop knows only this protocol.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from conf import UserError
from features.metrics.classification import auc, log_loss, top_k_error
from training.inputs.batch import Batch
from training.inputs.schema import Inputs
from training.settings import LossSettings
from training.tasks import losses

Floats = NDArray[np.floating[Any]]
KS = (10, 50)


class Task(Protocol):
    """One kind of question to a model."""

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

    def tensors(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        """What the model's `forward` takes."""
        ...

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        """(rows,) what each row costs."""
        ...

    def answers(self, net: nn.Module, batch: Batch, inputs: Inputs) -> Tensor:
        """(rows, answers) what is measured and predicted."""
        ...

    def measure(self, answers: Floats, labels: Floats) -> dict[str, float]:
        """Numbers of a whole split; `log_loss` is the one that models are chosen by, the smaller the better."""
        ...


@dataclass(frozen=True)
class Click:
    """Whether an impression is clicked. Models give logits (rows,)."""

    lists: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("label",)
    kind: str = "examples"

    def tensors(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        return (batch.sparse, batch.dense, *(ids.padded(inputs.list_length) for ids in batch.lists))

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        cost = losses.named(losses.BINARY, settings.name, "clicks")
        return cost(net(*self.tensors(batch, inputs)), batch.label, settings)

    def answers(self, net: nn.Module, batch: Batch, inputs: Inputs) -> Tensor:
        return torch.sigmoid(net(*self.tensors(batch, inputs))).unsqueeze(1)

    def measure(self, answers: Floats, labels: Floats) -> dict[str, float]:
        return _of_one(answers[:, 0], labels)


@dataclass(frozen=True)
class EngagedClick(Click):
    """Clicks, a clicked row weighing more when a like followed: weighted logistic regression, as YouTube ranks.

    (Covington et al. 2016 weigh by watch time; odds are then the expected engagement.)
    """

    labels: tuple[str, ...] = ("label", "label_like")

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        click, like = batch.label[:, 0], batch.label[:, 1].nan_to_num()
        cost = losses.named(losses.BINARY, settings.name, "clicks")
        return cost(net(*self.tensors(batch, inputs)), click, settings) * (1 + click * like)

    def measure(self, answers: Floats, labels: Floats) -> dict[str, float]:
        return _of_one(answers[:, 0], labels[:, 0])


@dataclass(frozen=True)
class Many(Click):
    """Several labels at once: click, like, purchase. Models give logits (rows, labels).

    A label that is missing (NaN) costs nothing: nobody can like what was not opened.
    """

    labels: tuple[str, ...] = ("label", "label_like", "label_purchase")

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        label = self.wanted(batch.label)
        is_observed = ~label.isnan()
        cost = losses.named(losses.BINARY, settings.name, "clicks")
        each = cost(net(*self.tensors(batch, inputs)), torch.where(is_observed, label, 0.0), settings)
        return torch.where(is_observed, each, 0.0).sum(dim=1)

    def answers(self, net: nn.Module, batch: Batch, inputs: Inputs) -> Tensor:
        return torch.sigmoid(net(*self.tensors(batch, inputs)))

    def wanted(self, label: Tensor) -> Tensor:
        """The labels that the model's logits stand for."""
        return label

    def measure(self, answers: Floats, labels: Floats) -> dict[str, float]:
        targets = self.wanted(torch.from_numpy(np.asarray(labels, np.float32))).numpy()
        metrics: dict[str, float] = {}
        for i, name in enumerate(self.labels):
            is_observed = ~np.isnan(targets[:, i])
            if is_observed.any():
                numbers = _of_one(answers[is_observed, i], targets[is_observed, i])
                metrics |= {f"{metric}_{name}": value for metric, value in numbers.items()}
        metrics["log_loss"] = sum(value for name, value in metrics.items() if name.startswith("log_loss_"))
        if f"auc_{self.labels[0]}" in metrics:
            metrics["auc"] = metrics[f"auc_{self.labels[0]}"]
        return metrics


@dataclass(frozen=True)
class EntireSpace(Many):
    """Click, and click with like, both over all impressions (ESMM, Ma et al. 2018)."""

    labels: tuple[str, ...] = ("label", "label_like")

    def wanted(self, label: Tensor) -> Tensor:
        return torch.stack([label[:, 0], label[:, 0] * label[:, 1].nan_to_num()], dim=1)


@dataclass(frozen=True)
class NextItem:
    """Which item a user chooses next, out of all. Models give `users(…)` and `items(ids)`, (rows, dim) each.

    `sampled`: softmax over the right item and items drawn by popularity; otherwise over the items of the batch. Either
    way scores are corrected by the log of how often an item is drawn (logQ, Bengio and Senécal 2008, Yi et al. 2019).
    """

    sampled: bool = True
    lists: tuple[str, ...] = ("history",)
    labels: tuple[str, ...] = ()
    kind: str = "positives"

    def tensors(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        return (batch.sparse, batch.dense, batch.lists[0].padded(inputs.list_length))

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        item = batch.sparse[:, inputs.place("item_id")]
        user = net(*self.tensors(batch, inputs))
        if settings.name == "n_pair":
            return losses.n_pair(user, _items(net, item))
        if settings.name == "triplet":
            chosen = _items(net, item)
            return losses.triplet(user, chosen, chosen.roll(1, 0), settings.margin)
        if settings.name != "cross_entropy":
            raise UserError(f"loss.name={settings.name} is not for items; choose from cross_entropy, n_pair, triplet")
        return self._over_sampled(net, user, item) if self.sampled else self._over_batch(net, user, item, batch.weight)

    def _over_sampled(self, net: Any, user: Tensor, item: Tensor) -> Tensor:
        negatives = net.catalog.draw(net.num_sampled)
        log_q = net.catalog.log_q
        right = (user * net.items(item)).sum(1) - log_q[item]
        wrong = user @ net.items(negatives).T - log_q[negatives]
        # An item that was drawn by accident is no negative of its own row.
        wrong = wrong.masked_fill(negatives == item.unsqueeze(1), -1e9)
        return functional.cross_entropy(
            torch.cat([right.unsqueeze(1), wrong], 1), torch.zeros_like(item), reduction="none"
        )

    def _over_batch(self, net: Any, user: Tensor, item: Tensor, weight: Tensor) -> Tensor:
        scores = user @ net.items(item).T - net.catalog.log_q[item]
        same = (item == item.unsqueeze(1)) & ~torch.eye(len(item), dtype=torch.bool, device=item.device)
        scores = scores.masked_fill(same | (weight == 0), -1e9)
        # A padding row has no candidate at all; its cost counts for nothing, but must be a number.
        scores = scores + torch.diag((weight == 0).to(scores.dtype) * 1e9)
        return functional.cross_entropy(scores, torch.arange(len(item), device=item.device), reduction="none")

    def answers(self, net: Any, batch: Batch, inputs: Inputs) -> Tensor:
        """(rows, 2): place of the right item among all known ones, and −log of its probability."""
        item = batch.sparse[:, inputs.place("item_id")]
        scores = self.scores(net, batch, inputs)
        right = scores.gather(1, item.unsqueeze(1))
        place = 1 + (scores > right).sum(1)
        return torch.stack([place.to(scores.dtype), scores.logsumexp(1) - right.squeeze(1)], 1)

    def scores(self, net: Any, batch: Batch, inputs: Inputs) -> Tensor:
        """(rows, items) of all items, −1e9 for ids that are no item."""
        everything = torch.arange(inputs.num_items, device=batch.sparse.device)
        scores: Tensor = net(*self.tensors(batch, inputs)) @ net.items(everything).T
        return scores.masked_fill(~net.catalog.known, -1e9)

    def measure(self, answers: Floats, labels: Floats) -> dict[str, float]:
        place = answers[:, 0]
        metrics = {"log_loss": float(np.mean(answers[:, 1], dtype=np.float64))}
        for k in KS:
            metrics[f"recall@{k}"] = float(np.mean(place <= k))
            metrics[f"ndcg@{k}"] = float(np.mean(np.where(place <= k, 1 / np.log2(1 + place), 0.0)))
        return metrics


@dataclass(frozen=True)
class Classes:
    """Which of several classes: the topic of a cover or of a title. Models give scores (rows, classes)."""

    kind: str
    lists: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("label",)

    def tensors(self, batch: Batch, inputs: Inputs) -> tuple[Tensor, ...]:
        if batch.image is not None:
            image = batch.image
            return (image if image.is_floating_point() else image.float() / 127.5 - 1,)
        return tuple(ids.padded(inputs.list_length) for ids in batch.lists)

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        cost = losses.named(losses.OF_CLASSES, settings.name, "classes")
        return cost(net(*self.tensors(batch, inputs)), batch.label.long(), settings)

    def answers(self, net: nn.Module, batch: Batch, inputs: Inputs) -> Tensor:
        return functional.softmax(net(*self.tensors(batch, inputs)), dim=1)

    def measure(self, answers: Floats, labels: Floats) -> dict[str, float]:
        right = answers[np.arange(len(labels)), labels.astype(int)]
        metrics = {
            "log_loss": float(-np.mean(np.log(np.maximum(right, 1e-12)))),
            "accuracy": float(np.mean(answers.argmax(1) == labels)),
        }
        if answers.shape[1] > 5:
            metrics["top_5_error"] = top_k_error(labels.astype(int), answers, k=5)
        return metrics


def _items(net: Any, ids: Tensor) -> Tensor:
    embedded: Tensor = net.items(ids)
    return embedded


def _of_one(scores: Floats, labels: Floats) -> dict[str, float]:
    metrics = {"log_loss": log_loss(labels, scores)}
    if 0 < labels.sum() < len(labels):
        metrics["auc"] = auc(labels, scores)
    return metrics
