"""Which rows of the training set a run learns from: held out (train-dev) rows and bagging, by a hash of each row.

A hash instead of a random generator: a row keeps its draw over epochs, workers, shuffles and reruns.
"""

from dataclasses import replace

import torch
from torch import Tensor

from training.inputs.batch import Batch
from training.settings import TrainSettings

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2⁶⁴ / golden ratio as int64: the multiplier of Fibonacci hashing

POISSON_CDF = (0.36787944, 0.73575888, 0.91969860, 0.98101184, 0.99634015, 0.99940582, 0.99991676, 0.9999898)
"""P(K ≤ k) of Poisson(1) for k = 0 … 7."""

BAGGING_SEED = 1_000_003  # apart from the draws of train-dev rows, whose seed is 0


def hash_uniform(batch: Batch, seed: int) -> Tensor:
    """(rows,) float64 in [0, 1), a hash of each row's ids, numbers, lists and image; equal rows have equal hashes."""
    columns = [batch.sparse, batch.dense.contiguous().view(torch.int32).long()]  # the bits of floats
    columns += [ids.to_padded(8) for ids in batch.lists]  # the newest ids tell rows apart well enough
    if batch.image is not None:
        columns.append(batch.image.flatten(1).long().sum(1, keepdim=True))
    state = torch.full((len(batch),), seed + 1, dtype=torch.int64)
    for column in torch.cat(columns, dim=1).unbind(1):
        state = (state ^ column) * _GOLDEN  # wraps modulo 2⁶⁴
        state = state ^ (state >> 29)
    return (state & (2**53 - 1)).double() / 2**53  # 53 bits: what a float64 holds exactly


def apply_sampling(batch: Batch, settings: TrainSettings) -> Batch:
    """The batch with the weights that its rows have in training: 0 for train-dev rows, Poisson(1) with bagging.

    Poisson weights are the bootstrap of data that passes as a stream (Oza and Russell 2001).
    """
    weight = batch.weight
    if settings.train_dev:
        weight = weight * ~is_train_dev(batch, settings)
    if settings.bagging:
        draws = hash_uniform(batch, settings.seed + BAGGING_SEED)
        # The inverse CDF: K is how many P(K ≤ k) a draw reaches. That K is above 8 has a chance of one in a million.
        weight = weight * (draws.unsqueeze(1) >= torch.tensor(POISSON_CDF, dtype=torch.float64)).sum(1)
    return batch if weight is batch.weight else replace(batch, weight=weight.float())


def is_train_dev(batch: Batch, settings: TrainSettings) -> Tensor:
    """(rows,) bool: rows of the training set that are measured and never learned from (`train.train_dev`)."""
    return hash_uniform(batch, 0) < settings.train_dev
