"""Matrix factorisation of implicit feedback by alternating least squares (Hu et al. 2008), compiled, or on MLlib.

Histories on the driver are fitted by conjugate gradients (Takács et al. 2011), larger ones by MLlib; the objective is
the same. A user's vector is solved when the user is scored, from their history and the same normal equations, so that
users who came after training have one too:

    u = (YᵀY + α Y_uᵀY_u + λ (n_u + items / α) I)⁻¹ (1 + α) Σ y,    λ scaled as in Rendle et al. 2022.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.ml.recommendation import ALS
from pyspark.sql import functions as F
from scipy import sparse

from recsys.recall.history import History, UserBatch
from recsys.recall.kernels import jit
from recsys.recall.lists import TopItems, in_threads
from recsys.recall.vectors import QUERIES, ItemVectors, build_vectors
from recsys.settings import RecallSettings

CG_STEPS = 3  # of a row, from its last solution


@dataclass(frozen=True)
class AlsScorer:
    """Item factors and the hyper-parameters that a user's vector is solved with."""

    items: ItemVectors  # (items, rank); zeros for items that nobody chose, which are not proposed
    alpha: float
    l2: float

    def top_items(self, batch: UserBatch, k: int) -> TopItems:
        """Items by the inner product of user and item factors; one solve of (rank, rank) per user."""
        users = solve_users(self.items.vectors, batch.chosen, self.alpha, self.l2)  # (users, rank)
        return self.items.top(users, batch, k)


def fit(history: History, settings: RecallSettings) -> AlsScorer:
    """Fit the item factors on the histories, on the driver or on Spark."""
    if history.all_users is not None:
        factors = fit_factors(history.all_users.chosen, settings)
        queries = history.all_users.chosen[:QUERIES]
    else:
        factors = _distributed_factors(history, settings)
        queries = history.newest_users(QUERIES).chosen
    # Zeros stand for an item that nobody chose: a product with them says nothing.
    listed = np.flatnonzero(factors.any(axis=1))
    users = solve_users(factors, queries, settings.als_alpha, settings.als_user_l2)
    vectors = build_vectors("als", factors, listed, users, settings.exact_items)
    return AlsScorer(vectors, settings.als_alpha, settings.als_user_l2)


def solve_users(
    factors: NDArray[np.float32], chosen: sparse.csr_matrix, alpha: float, l2: float
) -> NDArray[np.float32]:
    """(users, rank) vectors of users with histories `chosen` (users, items); zeros for a cold user."""
    num_users, rank = chosen.shape[0], factors.shape[1]
    matrices, targets = np.empty((num_users, rank, rank)), np.empty((num_users, rank, 1))
    wide = factors.astype(np.float64)  # (items, rank)
    # YᵀY once for all users: each user's matrix differs from it by the items of their history alone (Hu et al. 2008).
    _normal_equations(chosen.indptr, chosen.indices, wide, wide.T @ wide, alpha, l2, matrices, targets)
    return np.linalg.solve(matrices, targets)[:, :, 0].astype(np.float32)


def fit_factors(chosen: sparse.csr_matrix, settings: RecallSettings) -> NDArray[np.float32]:
    """Item factors (items, rank) by `als_iterations` alternations; zeros for an item that nobody chose.

    Args:
        chosen: (users, items) ones.
        settings: `als_*` and the seed.
    """
    rng = np.random.default_rng(settings.seed)
    by_item = chosen.T.tocsr()  # (items, users)
    scale = 1 / np.sqrt(settings.als_rank)
    users, items = (
        (scale * rng.standard_normal((size, settings.als_rank))).astype(np.float32) for size in chosen.shape
    )
    # Else the random start of an item that nobody chose would count in YᵀY as if somebody had.
    items[np.diff(by_item.indptr) == 0] = 0
    for _ in range(settings.als_iterations):
        for matrix, fixed, solved in ((chosen, items, users), (by_item, users, items)):
            gram = fixed.T @ fixed  # (rank, rank)
            arguments = (matrix.indptr, matrix.indices, fixed, gram, settings.als_alpha, settings.als_l2, CG_STEPS)
            in_threads(_solve_rows, len(solved), *arguments, solved)
    return np.asarray(items, np.float32)


def _distributed_factors(history: History, settings: RecallSettings) -> NDArray[np.float32]:
    """`fit_factors` on MLlib.

    Users are numbered in the order of their ids: MLlib's random start depends on the numbers.
    """
    numbered = (
        history.histories.select("user_id", "items")
        .rdd.sortBy(lambda row: row["user_id"])
        .zipWithIndex()
        .map(lambda pair: (int(pair[1]), [int(item) for item in pair[0]["items"]]))
        .toDF("user int, items array<int>")
    )
    ratings = numbered.select("user", F.explode("items").alias("item"), F.lit(1.0).cast("float").alias("rating"))
    factors = np.zeros((history.num_items, settings.als_rank), np.float32)
    if ratings.isEmpty():  # MLlib fails on it
        return factors
    blocks = settings.als_blocks or ratings.sparkSession.sparkContext.defaultParallelism
    als = ALS(
        rank=settings.als_rank, maxIter=settings.als_iterations, regParam=settings.als_l2, alpha=settings.als_alpha,
        implicitPrefs=True, userCol="user", itemCol="item", ratingCol="rating", seed=settings.seed,
        numUserBlocks=blocks, numItemBlocks=blocks,
    )  # fmt: skip
    rows: pd.DataFrame = als.fit(ratings).itemFactors.toPandas()
    factors[rows["id"]] = np.stack(rows["features"])
    return factors


@jit
def _normal_equations(indptr, indices, items, gram, alpha, l2, matrices, targets):  # type: ignore[no-untyped-def]
    """Left (rows, rank, rank) and right sides (rows, rank, 1) of each row; see the module. I and 0 for a cold one."""
    rank = items.shape[1]
    for row in range(len(matrices)):
        matrix, target = matrices[row], targets[row, :, 0]
        length = indptr[row + 1] - indptr[row]
        target[:] = 0
        matrix[:] = gram
        if not length:
            matrix[:] = 0
        for entry in range(indptr[row], indptr[row + 1]):
            y = items[indices[entry]]
            for first in range(rank):
                target[first] += (1 + alpha) * y[first]
                for second in range(rank):
                    matrix[first, second] += alpha * y[first] * y[second]
        for column in range(rank):
            # λ (n_u + items / α): the ridge grows with the history, so that λ means the same for long and short ones.
            matrix[column, column] += l2 * (length + len(items) / alpha) if length else 1.0


@jit
def _solve_rows(indptr, indices, fixed, gram, alpha, l2, steps, solved, start, stop):  # type: ignore[no-untyped-def]
    """Rows of an alternation: `steps` of conjugate gradients towards (G + α Σ yyᵀ + λ n I)⁻¹ (1 + α) Σ y.

    Args:
        indptr, indices: of the rows' entries, whose vectors y are rows of `fixed` (columns, rank).
        gram: (rank, rank) G, of `fixed`.
        solved: (rows, rank) in and out; a row without entries becomes 0.
    """
    rank = fixed.shape[1]
    residual, direction, image = np.empty(rank, np.float32), np.empty(rank, np.float32), np.empty(rank, np.float32)
    for row in range(start, stop):
        x, first, last = solved[row], indptr[row], indptr[row + 1]
        if first == last:
            x[:] = 0
            continue
        _apply(indices, first, last, fixed, gram, alpha, l2, x, image)
        residual[:] = -image
        for entry in range(first, last):
            y = fixed[indices[entry]]
            for column in range(rank):
                residual[column] += np.float32(1 + alpha) * y[column]
        direction[:] = residual
        norm = _dot(residual, residual)
        for _ in range(steps):
            # Solved: another step would divide by 0.
            if norm < 1e-20:
                break
            _apply(indices, first, last, fixed, gram, alpha, l2, direction, image)
            step = norm / _dot(direction, image)
            for column in range(rank):
                x[column] += step * direction[column]
                residual[column] -= step * image[column]
            before, norm = norm, _dot(residual, residual)
            # Fletcher and Reeves' ratio keeps directions conjugate.
            ratio = norm / before
            for column in range(rank):
                direction[column] = residual[column] + ratio * direction[column]


@jit
def _dot(left, right):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for column in range(len(left)):
        total += left[column] * right[column]
    return total


@jit
def _apply(indices, first, last, fixed, gram, alpha, l2, x, image):  # type: ignore[no-untyped-def]
    """image = (G + α Σ yyᵀ + λ n I) x."""
    ridge = np.float32(l2 * (last - first))
    for column in range(len(x)):
        image[column] = ridge * x[column]
    # Row by row, which is how the matrix lies in memory; it is symmetric.
    for row in range(len(x)):
        for column in range(len(x)):
            image[column] += x[row] * gram[row, column]
    for entry in range(first, last):
        y = fixed[indices[entry]]
        share = np.float32(alpha) * _dot(y, x)
        for column in range(len(x)):
            image[column] += share * y[column]
