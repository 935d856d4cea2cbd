"""Softmax loss over all items, a block of rows at a time: the scores of a batch are never in memory as a whole.

On a CPU a batch's scores, some 800 × 12,000, are 40 MB that are written and read several times; blocks of a few MB
stay in the processor's cache. The backward pass computes the scores again, which costs less than to read them.
"""

from typing import Any

import torch
from torch import Tensor

BLOCK_SCORES = 1_500_000


def full_softmax_loss(users: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """(rows,) −log softmax(users · itemsᵀ)[target], with the gradients of `cross_entropy`.

    Args:
        users: (rows, D).
        items: (items, D) of all items.
        target: (rows,) row of `items` that was chosen.
    """
    losses: Tensor = _FullSoftmax.apply(users, items, target)  # type: ignore[no-untyped-call]
    return losses


def row_blocks(users: Tensor, items: Tensor) -> list[slice]:
    """Slices of the rows of `users` (rows, D) whose scores of all `items` (items, D) the processor's cache holds."""
    size = max(BLOCK_SCORES // max(len(items), 1), 1)
    # At least one: an empty batch has predictions of no rows.
    return [slice(start, start + size) for start in range(0, max(len(users), 1), size)]


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, users: Tensor, items: Tensor, target: Tensor) -> Tensor:
        log_sum, positive = users.new_empty(len(users)), users.new_empty(len(users))
        for block in row_blocks(users, items):
            scores = users[block] @ items.T
            log_sum[block] = scores.logsumexp(1)
            positive[block] = scores.gather(1, target[block].unsqueeze(1)).squeeze(1)
        ctx.save_for_backward(users, items, target, log_sum)
        return log_sum - positive

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        users, items, target, log_sum = ctx.saved_tensors
        of_users, of_items = torch.empty_like(users), torch.zeros_like(items)
        for block in row_blocks(users, items):
            gradient = gradients[0][block]
            # d loss / d scores = softmax − 1 at the target.
            scores = (users[block] @ items.T).sub_(log_sum[block].unsqueeze(1)).exp_().mul_(gradient.unsqueeze(1))
            scores[torch.arange(len(scores)), target[block]] -= gradient
            of_users[block] = scores @ items
            of_items.addmm_(scores.T, users[block])
        return of_users, of_items, None
