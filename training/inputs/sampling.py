"""Which rows of the training part a run learns from, by a draw that a row keeps over epochs, workers and reruns."""

from dataclasses import replace

import torch
from torch import Tensor

from training.inputs.batch import Batch
from training.settings import TrainSettings

_PRIME = 0x9E3779B97F4A7C15 - 2**64  # the golden ratio's bits, which spread what they multiply

POISSON = (0.36787944, 0.73575888, 0.91969860, 0.98101184, 0.99634015, 0.99940582, 0.99991676, 0.9999898)  # P(K ≤ k)


def row_draws(batch: Batch, seed: int) -> Tensor:
    """(rows,) numbers from 0 up to 1, by a hash of a row's ids, numbers and lists; equal rows have equal draws."""
    parts = [batch.sparse, batch.dense.contiguous().view(torch.int32).long()]
    parts += [ids.padded(8) for ids in batch.lists]
    if batch.image is not None:
        parts.append(batch.image.flatten(1).long().sum(1, keepdim=True))
    state = torch.full((len(batch),), seed + 1, dtype=torch.int64)
    for column in torch.cat(parts, dim=1).unbind(1):
        state = (state ^ column) * _PRIME
        state = state ^ (state >> 29)
    return (state & (2**53 - 1)).double() / 2**53


def learned_from(batch: Batch, settings: TrainSettings) -> Batch:
    """The batch with the weights that training gives its rows: 0 for those kept aside, Poisson(1) for bagging."""
    weight = batch.weight
    if settings.train_dev:
        weight = weight * ~kept_aside(batch, settings)
    if settings.bagging:
        draws = row_draws(batch, settings.seed + 1_000_003)
        # Σ over k of [draw ≥ P(K ≤ k)] is Poisson(1); beyond 8 the chance is one in a million.
        bounds = torch.tensor(POISSON, dtype=torch.float64)
        weight = weight * (draws.unsqueeze(1) >= bounds).sum(1)
    return batch if weight is batch.weight else replace(batch, weight=weight.float())


def kept_aside(batch: Batch, settings: TrainSettings) -> Tensor:
    """(rows,) which rows of the training part are its dev rows: not learned from, only measured."""
    return row_draws(batch, 0) < settings.train_dev
