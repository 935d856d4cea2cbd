"""Embedding tables sharded by row over the workers, for tables that are too big for one device.

Rank r of W holds rows r·⌈N/W⌉ … (r + 1)·⌈N/W⌉ − 1 of a table of N rows. A look-up sends each id of a batch once, to the
rank that has its row, which sends the row back; gradients go the other way. What a rank sends grows with the ids of its
batch, not with the number of ranks. Works over torch's process group (Ray and Spark).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.nn.layers import FieldEmbedding


class ShardedEmbedding(nn.Module):
    """`nn.Embedding` of which this rank holds a shard: (…) ids -> (…, D). Every rank must look up as often."""

    def __init__(self, full: nn.Embedding) -> None:
        super().__init__()
        self.num_rows = full.num_embeddings
        is_distributed = dist.is_available() and dist.is_initialized()
        self.world_size = dist.get_world_size() if is_distributed else 1
        self.rank = dist.get_rank() if self.world_size > 1 else 0
        # ⌈N/W⌉; the last rows of the last ranks may be padding, for gathering needs shards of one size.
        self.rows_per_rank = -(-self.num_rows // self.world_size)
        self.weight = nn.Parameter(self.shard_of(full.weight.detach()))
        self.sparse = full.sparse

    def shard_of(self, full: Tensor) -> Tensor:
        """This rank's rows of a full table: (N, …) -> (rows_per_rank, …)."""
        shard = full[self.rank * self.rows_per_rank : (self.rank + 1) * self.rows_per_rank]
        missing = self.rows_per_rank - len(shard)
        return torch.cat([shard, shard.new_zeros((missing, *shard.shape[1:]))]) if missing else shard.clone()

    def gather(self, shard: Tensor) -> Tensor:
        """The full table of the shards of all ranks: (rows_per_rank, …) -> (N, …). Every rank must call it."""
        shards = _all_gather(shard).flatten(0, 1) if self.world_size > 1 else shard
        return shards[: self.num_rows]

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
            weight_gradient = torch.sparse_coo_tensor(local_rows.unsqueeze(0), by_row, ctx.shape)
        else:
            weight_gradient = by_row.new_zeros(ctx.shape).index_add_(0, local_rows, by_row)
        return weight_gradient, None, None, None, None


def shard_tables(net: nn.Module) -> None:
    """Replace the table of every `FieldEmbedding` in `net` by this rank's shard of it."""
    for module in net.modules():
        if isinstance(module, FieldEmbedding):
            module.table = ShardedEmbedding(module.table)  # type: ignore[assignment]


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


def gather_weights(net: nn.Module) -> dict[str, Tensor]:
    """The state of `net` with full tables in place of shards; every rank must call it."""
    state = dict(net.state_dict())
    for name, module in sharded_modules(net):
        state[f"{name}.weight"] = module.gather(module.weight.detach())
    return state


def load_full_weights(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a state with full tables, of which this rank takes its rows."""
    state = dict(weights)
    for name, module in sharded_modules(net):
        state[f"{name}.weight"] = module.shard_of(weights[f"{name}.weight"])
    net.load_state_dict(state)


def gather_optimizer_state(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state with full tensors (momentum, squares) in place of this rank's; every rank must call it."""
    state = optimizer.state_dict()
    # Copied: the dicts of `state_dict()` are the optimizer's own, which training goes on with.
    state["state"] = {number: dict(slots) for number, slots in state["state"].items()}
    for number, module in _sharded_parameters(net, optimizer):
        slots = state["state"].get(number, {})
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == module.weight.shape:
                slots[name] = module.gather(value)
    return state


def shard_optimizer_state(
    net: nn.Module, optimizer_state: dict[str, Any], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The optimizer's state with this rank's rows in place of full tensors; the reverse of `gather_optimizer_state`."""
    for number, module in _sharded_parameters(net, optimizer):
        slots = optimizer_state["state"].get(number, {})
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == module.num_rows:
                slots[name] = module.shard_of(value)
    return optimizer_state


def _sharded_parameters(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[int, ShardedEmbedding]]:
    """Each sharded table with its number in the optimizer's state, which counts parameters over its groups."""
    order = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    return [(order.index(id(m.weight)), m) for _, m in sharded_modules(net) if id(m.weight) in order]


def _all_to_all(tensor: Tensor, received: list[int], sent: list[int]) -> Tensor:
    """(Σ received, …): the first `sent[0]` rows of `tensor` go to rank 0, the next to rank 1 …; theirs come here."""
    output = tensor.new_empty((sum(received), *tensor.shape[1:]))
    dist.all_to_all_single(output, tensor.contiguous(), received, sent)
    return output


def _all_gather(tensor: Tensor) -> Tensor:
    """(W, …): the tensors of all ranks, which must have one shape."""
    tensors = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(tensors, tensor.contiguous())
    return torch.stack(tensors)
