"""Embedding tables sharded by row over the workers, for tables that are too big for one device.

Rank r of W holds rows r·⌈N/W⌉ … (r + 1)·⌈N/W⌉ − 1 of a table of N rows, from its construction on. A look-up sends
each id of a batch once, to the rank that has its row, which sends the row back; gradients go the other way. What a rank
sends grows with the ids of its batch, not with the number of ranks. Works over torch's process group (Ray and Spark).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_IS_SHARDING = ContextVar("is_sharding", default=False)
# A multiple of 16: torch draws normal numbers by sixteen, and blocks of them are the numbers of one draw.
_BLOCK_ROWS = 1 << 16


@contextmanager
def sharded_tables(is_sharding: bool = True) -> Iterator[None]:
    """Have the networks that are built within hold this rank's shards of their tables, where `is_sharding`."""
    token = _IS_SHARDING.set(is_sharding)
    try:
        yield
    finally:
        _IS_SHARDING.reset(token)


def is_sharding() -> bool:
    """Whether networks are built with shards of their tables now."""
    return _IS_SHARDING.get()


class ShardedEmbedding(nn.Module):
    """`nn.Embedding` of which this rank holds a shard: (…) ids -> (…, D). Every rank must look up as often."""

    def __init__(self, num_rows: int, dim: int) -> None:
        super().__init__()
        self.num_rows = num_rows
        is_distributed = dist.is_available() and dist.is_initialized()
        self.world_size = dist.get_world_size() if is_distributed else 1
        self.rank = dist.get_rank() if self.world_size > 1 else 0
        # ⌈N/W⌉; the last rows of the last ranks may be padding, so that shards have one size.
        self.rows_per_rank = -(-num_rows // self.world_size)
        self.first_row = self.rank * self.rows_per_rank
        self.weight = nn.Parameter(torch.zeros(self.rows_per_rank, dim))
        self.sparse = False
        self.fill(nn.init.normal_)  # as `nn.Embedding` starts

    @torch.no_grad()
    def fill(self, init: Callable[[Tensor], Any]) -> None:
        """Fill the rows with what `init` gives the whole table, so that what is drawn next is as with a whole one, too.

        Each rank draws all of the table, in blocks, and keeps its own rows.

        Args:
            init: fills a tensor in place, number after number; one that rejects numbers and draws again
                (`trunc_normal_`) gives others of the same distribution, the same for any number of ranks.
        """
        # A last block of fewer than 16 rows would be drawn in another order: the one before takes them.
        starts = range(0, max(self.num_rows - 15, 1), _BLOCK_ROWS)
        for start in starts:
            end = self.num_rows if start == starts[-1] else start + _BLOCK_ROWS
            block = self.weight.new_empty((end - start, self.weight.shape[1]))
            init(block)
            self.put(start, block)

    @torch.no_grad()
    def put(self, start: int, block: Tensor, into: Tensor | None = None) -> None:
        """Copy its part of rows `start` … of the whole table into the weights, or into a tensor of their shape."""
        first = self.first_row
        low, high = max(start, first), min(start + len(block), first + self.rows_per_rank, self.num_rows)
        if low < high:
            target = self.weight if into is None else into
            target[low - first : high - first] = block[low - start : high - start]

    @property
    def num_own_rows(self) -> int:
        """Rows of this rank that are no padding."""
        return max(0, min(self.rows_per_rank, self.num_rows - self.first_row))

    def shard_of(self, full: Tensor) -> Tensor:
        """This rank's rows of a full table: (N, …) -> (rows_per_rank, …)."""
        shard = full.new_zeros((self.rows_per_rank, *full.shape[1:]))
        self.put(0, full, shard)
        return shard

    def forward(self, ids: Tensor) -> Tensor:
        if self.world_size == 1:
            return nn.functional.embedding(ids, self.weight, sparse=self.sparse)
        arguments = (self.weight, ids, self.rank, self.rows_per_rank, self.sparse)
        rows: Tensor = _ShardedLookup.apply(*arguments)  # type: ignore[no-untyped-call]
        return rows


class _ShardedLookup(torch.autograd.Function):
    """Unique ids to the ranks that have them, rows back; gradients go the other way, added up for each unique id."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, rank: int, rows_per_rank: int, is_sparse: bool) -> Tensor:
        unique, inverse = torch.unique(ids, return_inverse=True)  # sorted, so by rank as well
        owners = unique.div(rows_per_rank, rounding_mode="floor")
        counts = torch.bincount(owners, minlength=dist.get_world_size())  # (W,) ids that this rank asks each rank for
        requested = torch.empty_like(counts)  # (W,) and is asked for by each
        dist.all_to_all_single(requested, counts)
        sent, received = torch.stack([counts, requested]).tolist()  # of uneven splits the host must know the sizes
        local_rows = _all_to_all(unique, received, sent) - rank * rows_per_rank
        rows = _all_to_all(weight[local_rows], sent, received)  # (unique, D)
        ctx.save_for_backward(inverse, local_rows)
        ctx.splits, ctx.shape, ctx.is_sparse = (sent, received), weight.shape, is_sparse
        return rows[inverse]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        inverse, local_rows = ctx.saved_tensors
        sent, received = ctx.splits
        by_id = gradients[0].reshape(-1, ctx.shape[1])
        summed = by_id.new_zeros((sum(sent), ctx.shape[1])).index_add_(0, inverse.flatten(), by_id)  # (unique, D)
        by_row = _all_to_all(summed, received, sent)
        by_row = by_row / dist.get_world_size()  # means over the ranks, as the gradients of all other weights are
        if ctx.is_sparse:
            weight_gradient = torch.sparse_coo_tensor(
                local_rows.unsqueeze(0), by_row, ctx.shape, check_invariants=False
            )
        else:
            weight_gradient = by_row.new_zeros(ctx.shape).index_add_(0, local_rows, by_row)
        return weight_gradient, None, None, None, None


def sharded_modules(net: nn.Module) -> list[tuple[str, ShardedEmbedding]]:
    """The sharded tables of `net` with their names: averaging their weights would mix rows of different ids."""
    return [(name, module) for name, module in net.named_modules() if isinstance(module, ShardedEmbedding)]


def clip_grad_norm(net: nn.Module, max_norm: float) -> None:
    """Scale the gradients down to the norm `max_norm`, as `nn.utils.clip_grad_norm_` does, over the rows of all ranks.

    By the norm of its own rows, each rank would scale by another factor, and the weights that all share would drift
    apart. Every rank must call it.
    """
    tables = [module for _, module in sharded_modules(net)]
    is_sharded = bool(tables) and tables[0].world_size > 1
    trained = [weight for weight in net.parameters() if weight.grad is not None]
    if not is_sharded and not any(weight.grad.is_sparse for weight in trained if weight.grad is not None):
        nn.utils.clip_grad_norm_(trained, max_norm)
        return
    shard_ids = {id(table.weight) for table in tables}  # tensors compare by element
    sharded_square, shared_square = (torch.zeros((), device=trained[0].device) for _ in range(2))
    values = [gradient_values(weight) for weight in trained]
    for weight, value in zip(trained, values, strict=True):
        if id(weight) in shard_ids:
            sharded_square = sharded_square + value.square().sum()
        else:
            shared_square = shared_square + value.square().sum()
    if is_sharded:
        dist.all_reduce(sharded_square)
    factor = (max_norm / ((sharded_square + shared_square).sqrt() + 1e-6)).clamp(max=1.0)  # 1e-6 as in torch
    for value in values:
        value.mul_(factor)


def gradient_values(weight: Tensor) -> Tensor:
    """The numbers of a gradient; of a sparse one those of its rows, each row once. Changes of them are its own."""
    assert weight.grad is not None
    if not weight.grad.is_sparse:
        return weight.grad
    weight.grad = weight.grad.coalesce()
    return weight.grad.values()


def share_overflow(net: nn.Module) -> None:
    """Have the gradients of every rank overflow when those of one rank's shards do; every rank must call it.

    `GradScaler` looks at the gradients of its own rank. Those of shards differ between the ranks, and one rank would
    skip a step that the others take. Nothing waits for a GPU.
    """
    tables = [module for _, module in sharded_modules(net) if module.weight.grad is not None]
    if not tables or tables[0].world_size == 1:
        return
    gradients = [gradient_values(table.weight) for table in tables]
    # A sum is not finite where one of its numbers is not; one that overflows by itself skips a step in vain.
    overflow = torch.stack([~gradient.sum().isfinite() for gradient in gradients]).any().float()
    dist.all_reduce(overflow, op=dist.ReduceOp.MAX)
    gradients[0].view(-1)[:1].add_(torch.where(overflow > 0, torch.inf, 0.0))


def full_shapes(net: nn.Module) -> dict[str, torch.Size]:
    """Name and shape of each tensor of `net`'s state, of sharded tables that of the whole."""
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    for name, module in sharded_modules(net):
        shapes[f"{name}.weight"] = torch.Size((module.num_rows, module.weight.shape[1]))
    return shapes


def load_full_weights(net: nn.Module, weights: dict[str, Tensor], *, strict: bool = True) -> None:
    """Load a state with full tables, of which this rank takes its rows; `strict`: of all weights of `net`."""
    state = dict(weights)
    for name, module in sharded_modules(net):
        if f"{name}.weight" in weights:
            state[f"{name}.weight"] = module.shard_of(weights[f"{name}.weight"])
    net.load_state_dict(state, strict=strict)


def sharded_parameters(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[int, ShardedEmbedding]]:
    """Each sharded table with its number in the optimizer's state, which counts parameters over its groups."""
    order = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    return [(order.index(id(m.weight)), m) for _, m in sharded_modules(net) if id(m.weight) in order]


def _all_to_all(tensor: Tensor, received: list[int], sent: list[int]) -> Tensor:
    """(Σ received, …): the first `sent[0]` rows of `tensor` go to rank 0, the next to rank 1 …; theirs come here."""
    output = tensor.new_empty((sum(received), *tensor.shape[1:]))
    dist.all_to_all_single(output, tensor.contiguous(), received, sent)
    return output
