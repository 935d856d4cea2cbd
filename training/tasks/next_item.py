"""Which item a user chooses next, out of all."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conf import UserError
from training.inputs.batch import Batch
from training.inputs.schema import Inputs
from training.nn.full_softmax import full_softmax_loss, row_blocks
from training.settings import LossSettings
from training.tasks import losses
from training.tasks.task import FeatureInputs, Floats, Names, Predict

CUTOFFS = (10, 50)  # k of recall@k and ndcg@k
EXCLUDED = -1e9  # a score that softmax gives no weight


@dataclass(frozen=True)
class NextItem(FeatureInputs):
    """The next item as a softmax over items. Models give vectors of users, `net(…)`, and of items, `net.items(ids)`.

    `every_position`: the loss is of each item of the history, too, by what came before it; models then give the vectors
    of all positions, `net.states(…)` (rows, list_length, dim), of which `net(…)` is the last.
    `sampled`: softmax over the right item and items drawn by popularity; otherwise over the items of the batch. Either
    way scores are corrected by the log of how often an item is drawn (logQ, Bengio and Senécal 2008, Yi et al. 2019).
    """

    sampled: bool = True
    every_position: bool = False
    lists: tuple[str, ...] = ("history",)
    labels: tuple[str, ...] = ()
    kind: str = "positives"
    row_key: str = "example_id"
    needs_item_catalog: bool = True
    loss_metric: str = "softmax_loss"

    def loss(self, net: nn.Module, batch: Batch, inputs: Inputs, settings: LossSettings) -> Tensor:
        items: Any = net.items
        item = batch.sparse[:, inputs.column_of("item_id")]  # (rows,)
        if self.every_position and settings.name == "cross_entropy":
            return self._over_positions(net, batch, inputs)
        user = net(*self.model_inputs(batch, inputs))  # (rows, dim)
        if settings.name == "n_pair":
            return losses.n_pair(user, items(item))
        if settings.name == "triplet":
            chosen = items(item)
            # The item that the next row chose is the negative.
            return losses.triplet(user, chosen, chosen.roll(1, 0), settings.margin)
        if settings.name != "cross_entropy":
            raise UserError(f"loss.name={settings.name} is not for items; choose from cross_entropy, n_pair, triplet")
        return self._over_sampled(net, user, item) if self.sampled else self._over_batch(net, user, item, batch.weight)

    def _over_positions(self, net: Any, batch: Batch, inputs: Inputs) -> Tensor:
        """(rows,) softmax losses of all positions of a row, summed and scaled: their mean is that over positions."""
        item = batch.sparse[:, inputs.column_of("item_id")]
        sparse, dense, history = self.model_inputs(batch, inputs)
        states = net.states(sparse, dense, history)  # (rows, L, dim)
        targets = torch.cat([history[:, 1:], item.unsqueeze(1)], 1)  # (rows, L), the item after each position
        is_position = history > 0
        is_position[:, -1] = True  # also of a history without items, so that no row is without a loss
        is_position &= (batch.weight > 0).unsqueeze(1)
        if states.device.type == "cpu":  # most positions are padding; a GPU would wait for the number of the others
            row, position = is_position.nonzero(as_tuple=True)
        else:
            places = torch.arange(targets.numel(), device=targets.device)
            row, position = places // targets.shape[1], places % targets.shape[1]
        loss = self._over_sampled(net, states[row, position], targets[row, position])  # (positions,)
        loss = torch.where(is_position[row, position], loss, 0.0)
        by_row = torch.zeros_like(batch.weight, dtype=loss.dtype).index_add(0, row, loss)
        return by_row * (batch.weight > 0).sum() / is_position.sum().clamp(min=1)

    def _over_sampled(self, net: Any, user: Tensor, item: Tensor) -> Tensor:
        """(rows,) softmax loss over the positive and `net.num_sampled` negatives, shared by all rows of the batch.

        Over all items where `net.num_sampled` is 0.
        """
        if not net.num_sampled:
            is_item = net.catalog.is_item  # (items,)
            if user.device.type == "cpu":
                row = (is_item.cumsum(0) - 1).clamp(min=0)  # of each id among the items
                return full_softmax_loss(user, net.items(is_item.nonzero().squeeze(1)), row[item])
            # A GPU would wait for the number of items.
            bias = torch.where(is_item, 0.0, EXCLUDED)
            vectors = net.items(torch.arange(len(bias), device=item.device))
            return functional.cross_entropy(torch.addmm(bias, user, vectors.T), item, reduction="none")
        negatives = net.catalog.sample(net.num_sampled)  # (sampled,)
        log_q = net.catalog.log_q
        positive_scores = (user * net.items(item)).sum(1) - log_q[item]
        negative_scores = user @ net.items(negatives).T - log_q[negatives]  # (rows, sampled)
        # An item that was drawn by accident is no negative of its own row.
        negative_scores = negative_scores.masked_fill(negatives == item.unsqueeze(1), EXCLUDED)
        return functional.cross_entropy(
            torch.cat([positive_scores.unsqueeze(1), negative_scores], 1), torch.zeros_like(item), reduction="none"
        )

    def _over_batch(self, net: Any, user: Tensor, item: Tensor, weight: Tensor) -> Tensor:
        """(rows,) softmax loss over the positives of all rows, those of other items being the negatives."""
        scores = user @ net.items(item).T - net.catalog.log_q[item]  # (rows, rows)
        is_same_item = (item == item.unsqueeze(1)) & ~torch.eye(len(item), dtype=torch.bool, device=item.device)
        scores = scores.masked_fill(is_same_item | (weight == 0), EXCLUDED)
        # A padding row has no candidate at all; its loss has no weight, but must be a number.
        scores = scores + torch.diag((weight == 0).to(scores.dtype) * -EXCLUDED)
        return functional.cross_entropy(scores, torch.arange(len(item), device=item.device), reduction="none")

    def uninformed_loss(self, net: nn.Module, inputs: Inputs, rows: int) -> float:
        nets: Any = net
        if self.sampled and not nets.num_sampled:
            return math.log(max(int(nets.catalog.is_item.sum()), 1))
        return math.log(1 + (nets.num_sampled if self.sampled else rows))

    def predict(self, net: Any, batch: Batch, inputs: Inputs) -> Tensor:
        """(rows, 2): rank of the right item among all items, from 1, and −log of its probability.

        Among items of the same score it has their middle rank, as it would on average in a random order: a model that
        scores all items alike is not the best one.
        Computed here and not in `measure`: scores of all items would be (rows, items) for a whole split.
        """
        item = batch.sparse[:, inputs.column_of("item_id")]
        is_item = net.catalog.is_item
        if item.device.type != "cpu" or not bool(is_item[item].all()):
            return _rank_and_loss(self.scores(net, batch, inputs), item)
        # Ids that are no items cost as much as items, and a block of scores stays in the processor's cache.
        users, items = net(*self.model_inputs(batch, inputs)), net.items(is_item.nonzero().squeeze(1))
        row = (is_item.cumsum(0) - 1)[item]
        return torch.cat([_rank_and_loss(users[of] @ items.T, row[of]) for of in row_blocks(users, items)])

    def scores(self, net: Any, batch: Batch, inputs: Inputs) -> Tensor:
        """(rows, items) scores of all items, `EXCLUDED` for ids that are no item. Not corrected by logQ."""
        item_ids = torch.arange(inputs.num_items, device=batch.sparse.device)
        scores: Tensor = net(*self.model_inputs(batch, inputs)) @ net.items(item_ids).T
        return scores.masked_fill(~net.catalog.is_item, EXCLUDED)

    def measure(self, predictions: Floats, labels: Floats) -> dict[str, float]:
        rank = predictions[:, 0]
        metrics = {"log_loss": float(np.mean(predictions[:, 1], dtype=np.float64))}
        for k in CUTOFFS:
            metrics[f"recall@{k}"] = float(np.mean(rank <= k))
            # One relevant item: the ideal DCG is 1.
            metrics[f"ndcg@{k}"] = float(np.mean(np.where(rank <= k, 1 / np.log2(1 + rank), 0.0)))
        return metrics

    def answer(self, net: nn.Module, batch: Batch, inputs: Inputs, k: int, predict: Predict) -> tuple[Names, Floats]:
        with torch.no_grad():
            scores, best = self.scores(net, batch, inputs).topk(k, dim=1)  # (rows, k)
        return best.numpy().astype(str).astype(object), scores.numpy()


def _rank_and_loss(scores: Tensor, target: Tensor) -> Tensor:
    """(rows, 2) of scores (rows, items): the target's rank, and −log of its probability."""
    scores = scores.float()  # log Σ exp over all items, under autocast, too
    positive_score = scores.gather(1, target.unsqueeze(1))  # (rows, 1)
    better, equal = (scores > positive_score).sum(1), (scores == positive_score).sum(1)  # equal: itself as well
    rank = 1 + better + (equal - 1).to(torch.float32) / 2
    return torch.stack([rank, scores.logsumexp(1) - positive_score.squeeze(1)], 1)
