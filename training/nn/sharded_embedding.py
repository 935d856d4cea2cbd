"""Embedding tables spread by row over the workers, for tables that are too big for one device.

Rank r holds rows r·⌈N/W⌉ … of a table. A look-up sends every rank's ids to all, each answers for its rows, and the sum
of the answers is everybody's; gradients go the other way. Works over torch's process group (Ray and Spark).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from conf import UserError
from training.nn.layers import Fields


class ShardedEmbedding(nn.Module):
    """`nn.Embedding` of which this rank holds a part. (…) ids -> (…, dim); every rank looks up as many ids."""

    def __init__(self, full: nn.Embedding) -> None:
        super().__init__()
        self.num_rows, self.world_size, self.rank = full.num_embeddings, _world_size(), _rank()
        self.weight = nn.Parameter(self.part_of(full.weight.detach()))

    @property
    def rows_each(self) -> int:
        """Rows that a rank holds; the last ones of the last rank may stand for nothing."""
        return -(-self.num_rows // self.world_size)

    def part_of(self, full: Tensor) -> Tensor:
        """This rank's rows of a whole table."""
        part = full[self.rank * self.rows_each : (self.rank + 1) * self.rows_each]
        missing = self.rows_each - len(part)
        return torch.cat([part, part.new_zeros((missing, *part.shape[1:]))]) if missing else part.clone()

    def forward(self, ids: Tensor) -> Tensor:
        if self.world_size == 1:
            return nn.functional.embedding(ids, self.weight)
        rows: Tensor = _LookUp.apply(self.weight, ids, self.rank, self.rows_each)  # type: ignore[no-untyped-call]
        return rows


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, rank: int, rows_each: int) -> Tensor:
        everybodys = _of_all(ids)  # (W, …)
        is_mine = everybodys.div(rows_each, rounding_mode="floor") == rank
        mine = everybodys[is_mine] - rank * rows_each
        embedded = weight.new_zeros((*everybodys.shape, weight.shape[1]))
        embedded[is_mine] = weight[mine]
        dist.all_reduce(embedded)
        ctx.save_for_backward(is_mine, mine)
        ctx.shape = weight.shape
        return embedded[dist.get_rank()].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        is_mine, mine = ctx.saved_tensors
        of_all = _of_all(gradients[0].contiguous())
        # Means over the ranks, as the gradients of all other weights are.
        gradient = of_all.new_zeros(ctx.shape).index_add_(0, mine, of_all[is_mine]) / dist.get_world_size()
        return gradient, None, None, None


def shard_tables(net: nn.Module) -> None:
    """Keep only this rank's rows of the tables of all fields."""
    for module in net.modules():
        if isinstance(module, Fields):
            module.table = ShardedEmbedding(module.table)  # type: ignore[assignment]


def is_sharded(net: nn.Module) -> bool:
    return any(isinstance(module, ShardedEmbedding) for module in net.modules())


def mark_for_ddp(net: nn.Module) -> None:
    """Tell DistributedDataParallel to leave the parts alone: each rank's are its own."""
    names = [f"{name}.weight" for name, module in net.named_modules() if isinstance(module, ShardedEmbedding)]
    net._ddp_params_and_buffers_to_ignore = names  # type: ignore[assignment]


def refuse_on_horovod(net: nn.Module) -> None:
    """Raises UserError: Horovod would average parts that belong to different rows."""
    if is_sharded(net):
        raise UserError("net.sharded works with --backend ray and spark; Horovod has every worker hold all rows")


def clip_norm(net: nn.Module, most: float) -> None:
    """Shorten the gradients to `most`, as torch does, their length taken over the rows of all ranks.

    By its own rows alone, each rank would shorten by another factor, and weights that all hold would drift apart.
    """
    parts = [module.weight for module in net.modules() if isinstance(module, ShardedEmbedding)]
    if not parts or _world_size() == 1:
        nn.utils.clip_grad_norm_(net.parameters(), most)
        return
    spread = {id(weight) for weight in parts}
    own, shared = (torch.zeros((), device=parts[0].device) for _ in range(2))
    for weight in net.parameters():
        if weight.grad is not None:
            square = weight.grad.square().sum()
            own, shared = (own + square, shared) if id(weight) in spread else (own, shared + square)
    dist.all_reduce(own)
    factor = (most / ((own + shared).sqrt() + 1e-6)).clamp(max=1.0)
    for weight in net.parameters():
        if weight.grad is not None:
            weight.grad.mul_(factor)


def whole_state(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state with whole tables in place of this rank's parts; every rank must call it."""
    state = optimizer.state_dict()
    state["state"] = {
        place: dict(slots) for place, slots in state["state"].items()
    }  # its own are the optimizer's, live
    for position, module in _places(net, optimizer):
        slots = state["state"].get(position, {})
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == module.weight.shape:
                slots[name] = _whole(module, value)
    return state


def whole_weights(net: nn.Module) -> dict[str, Tensor]:
    """The state of a net with whole tables; every rank must call it."""
    state = dict(net.state_dict())
    for name, module in net.named_modules():
        if isinstance(module, ShardedEmbedding):
            state[f"{name}.weight"] = _whole(module, module.weight.detach())
    return state


def load_whole(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a state with whole tables, of which each rank takes its rows."""
    parts = dict(weights)
    for name, module in net.named_modules():
        if isinstance(module, ShardedEmbedding):
            parts[f"{name}.weight"] = module.part_of(weights[f"{name}.weight"])
    net.load_state_dict(parts)


def parts_of_state(net: nn.Module, optimizer_state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state with this rank's rows in place of whole tables."""
    for position, module in _places(net, optimizer):
        slots = optimizer_state["state"].get(position, {})
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == module.num_rows:
                slots[name] = module.part_of(value)
    return optimizer_state


def _places(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[int, ShardedEmbedding]]:
    """Number of each table's weight in the optimizer's state, which counts parameters over its groups."""
    order = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    tables = [module for module in net.modules() if isinstance(module, ShardedEmbedding)]
    return [(order.index(id(module.weight)), module) for module in tables if id(module.weight) in order]


def _whole(module: ShardedEmbedding, part: Tensor) -> Tensor:
    return _of_all(part).flatten(0, 1)[: module.num_rows] if module.world_size > 1 else part[: module.num_rows]


def _of_all(tensor: Tensor) -> Tensor:
    """(W, …): the tensors of all ranks."""
    shards = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(shards, tensor.contiguous())
    return torch.stack(shards)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
