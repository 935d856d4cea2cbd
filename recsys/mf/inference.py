"""Bayesian logistic matrix factorisation by variational inference, with side information of users and items.

    P(click) = σ(context + b_u + b_i + uᵀv),    (u, b_u) ~ N(W_U x_u, Λ_U⁻¹),    (v, b_i) ~ N(W_I x_i, Λ_I⁻¹)

A user whose vector is uncertain, because hardly anything was shown to them, is predicted by what their side information
says, and probabilities are averages over what the vectors may be: a maximum-likelihood factorisation of the same rows
is far too sure of itself. The logistic is bounded by a quadratic (Jaakkola and Jordan 2000), so that each vector has a
normal posterior in closed form; priors are fitted to the posteriors (empirical Bayes), as in Matchbox (Stern et al.
2009). Vectors of `size` K + 2 hold K factors, a bias of their own, and a 1 that the other side's bias is multiplied by.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from recsys.mf import kernels
from recsys.settings import MFSettings

Floats = NDArray[np.float64]

START_VARIANCE = 0.1  # of every coordinate, before the first update
CONTEXT_L2 = 2.0  # a prior of the context effects; each has thousands of rows


@dataclass(frozen=True)
class Feedback:
    """Impressions: who was shown what, in which context, and whether they clicked; all (rows,) in the same order."""

    user: NDArray[np.int32]  # codes from 0
    item: NDArray[np.int32]
    label: NDArray[np.float32]  # 1 for a click
    weight: NDArray[np.float32]
    context: sparse.csr_matrix  # (rows, contexts) of ones


@dataclass
class Side:
    """Posterior of the users' or of the items' vectors, and their prior.

    Attributes:
        mean: (entities, size).
        covariance: (entities, size, size), zero in the coordinate that is 1.
        features: (entities, columns) side information, the last column 1.
        weights: (columns, size) W of the prior's mean.
        prior: (size, size) covariance of the prior.
        one: the coordinate that is 1.
    """

    mean: Floats
    covariance: NDArray[np.float32]
    features: sparse.csr_matrix
    weights: Floats
    prior: Floats
    one: int

    @property
    def free(self) -> list[int]:
        """The coordinates that are learned: all but `one`."""
        return [i for i in range(self.mean.shape[1]) if i != self.one]

    def normal_matrix(self, l2: float) -> tuple[Floats, bool]:
        """XᵀX + λI of the side information, factorised for `cho_solve`: no sweep changes it."""
        gram = (self.features.T @ self.features).toarray()
        return cast("tuple[Floats, bool]", cho_factor(gram + l2 * np.eye(len(gram))))

    def prior_mean(self, features: sparse.csr_matrix) -> Floats:
        """Expected vectors (n, size) of entities of which only the side information is known."""
        mean = np.asarray(features @ self.weights)
        mean[:, self.one] = 1.0
        return mean


@dataclass
class Posterior:
    """What was learned: vectors of users and items, and what the context adds to the log odds."""

    users: Side
    items: Side
    intercept: float
    context: Floats  # (contexts,)


def fit(feedback: Feedback, users: sparse.csr_matrix, items: sparse.csr_matrix, settings: MFSettings) -> Posterior:
    """Fit the posterior in `mf.iterations` sweeps; each costs rows · size² operations a side, on all cores.

    Args:
        feedback: codes are rows of `users` and `items`.
        users: (users, columns) side information, the last column 1.
        items: (items, columns) the same.
        settings: the section `mf`.

    Returns:
        The same for the same input, whatever the number of threads.
    """
    rng = np.random.default_rng(settings.seed)
    size = settings.factors + 2
    rate = np.clip(np.average(feedback.label, weights=feedback.weight), 1e-4, 1 - 1e-4) if len(feedback.label) else 0.5
    posterior = Posterior(
        _start(users, size, size - 2, rng),  # a user's 1 meets the item's bias …
        _start(items, size, size - 1, rng),  # … and an item's 1 the user's
        float(np.log(rate / (1 - rate))),
        np.zeros(feedback.context.shape[1]),
    )
    by_user = _by_entity(feedback, feedback.user, feedback.item, users.shape[0])
    by_item = _by_entity(feedback, feedback.item, feedback.user, items.shape[0])
    user_matrix, item_matrix = (side.normal_matrix(settings.side_l2) for side in (posterior.users, posterior.items))
    for _ in range(settings.iterations if len(feedback.label) else 0):
        for side, other, ordered, matrix in (
            (posterior.users, posterior.items, by_user, user_matrix),
            (posterior.items, posterior.users, by_item, item_matrix),
        ):
            _update_side(side, other, ordered, _offsets(posterior, feedback))
            _fit_prior(side, matrix)
        _update_context(posterior, feedback)
    return posterior


def predict(
    users: Side,
    user_code: NDArray[np.int32],
    user_mean: Floats,
    items: Side,
    item_code: NDArray[np.int32],
    item_mean: Floats,
    offset: Floats,
) -> Floats:
    """Probabilities (rows,) of clicks, averaged over the posteriors of a user and an item a row.

    The average of a logistic under a normal of variance s² is σ(m / √(1 + π s²/8)) (MacKay 1992).

    Args:
        users: the users' side.
        user_code: (rows,) rows of `users`; −1 for a user of whom only the side information is known.
        user_mean: (rows, size) their means.
        items: the same of items.
        item_code: (rows,).
        item_mean: (rows, size).
        offset: (rows,) intercept and context.
    """
    probabilities = np.empty(len(offset))
    kernels.predict(
        user_mean, user_code, users.covariance, users.prior.astype(np.float32),
        item_mean, item_code, items.covariance, items.prior.astype(np.float32), offset, probabilities,
    )  # fmt: skip
    return probabilities


def _start(features: sparse.csr_matrix, size: int, one: int, rng: np.random.Generator) -> Side:
    """A side before its first update: small random factors, which break the symmetry between them."""
    entities = features.shape[0]
    mean = np.zeros((entities, size))
    mean[:, : size - 2] = rng.normal(0, 0.3, (entities, size - 2))
    mean[:, one] = 1.0
    free = [i for i in range(size) if i != one]
    covariance = np.zeros((entities, size, size), np.float32)
    covariance[:, free, free] = START_VARIANCE
    prior = np.zeros((size, size))
    prior[free, free] = 1.0
    return Side(mean, covariance, features, np.zeros((features.shape[1], size)), prior, one)


@dataclass(frozen=True)
class _Ordered:
    """Feedback in the order of one side's entities."""

    starts: NDArray[np.int64]  # (entities + 1,)
    rows: NDArray[np.int64]  # (rows,) the rows of each entity one after the other
    other: NDArray[np.int32]  # (rows,) codes of the other side
    label: NDArray[np.float32]
    weight: NDArray[np.float32]


def _by_entity(feedback: Feedback, codes: NDArray[np.int32], other: NDArray[np.int32], entities: int) -> _Ordered:
    rows = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=entities))])
    return _Ordered(starts, rows, other[rows], feedback.label[rows], feedback.weight[rows])


def _offsets(posterior: Posterior, feedback: Feedback) -> Floats:
    effects = feedback.context @ posterior.context  # (rows,)
    return posterior.intercept + np.asarray(effects)


def _update_side(side: Side, other: Side, ordered: _Ordered, offset: Floats) -> None:
    """Replace the posterior of all vectors of a side, given the other side."""
    free = np.array(side.free)
    inner = side.prior[np.ix_(free, free)]
    kernels.update_posteriors(
        ordered.starts, ordered.other, ordered.label, ordered.weight, offset[ordered.rows],
        _second_moments(side), other.mean, _second_moments(other), side.mean, side.covariance,
        side.prior_mean(side.features), np.linalg.inv(inner), free, side.one,
    )  # fmt: skip


def _second_moments(side: Side) -> NDArray[np.float32]:
    """E[x xᵀ] of each vector of a side, packed: (entities, size · (size + 1) / 2)."""
    entities, size = side.mean.shape
    packed = np.empty((entities, size * (size + 1) // 2), np.float32)
    kernels.pack_second_moments(side.mean, side.covariance, packed)
    return packed


def _fit_prior(side: Side, matrix: tuple[Floats, bool]) -> None:
    """Fit the prior to the posteriors: a ridge regression on the side information, and the covariance around it."""
    entities = len(side.mean)
    if not entities:
        return
    free, x = side.free, side.features
    side.weights[:, free] = cho_solve(matrix, np.asarray(x.T @ side.mean[:, free]))
    residual = side.mean - side.prior_mean(x)
    scatter = residual.T @ residual + side.covariance.sum(axis=0, dtype=np.float64)
    # As if one more vector of variance 1 had been seen: a side of few entities has a covariance as well.
    side.prior[:] = 0
    side.prior[np.ix_(free, free)] = (scatter[np.ix_(free, free)] + np.eye(len(free))) / (entities + 1)


def _update_context(posterior: Posterior, feedback: Feedback) -> None:
    """Effects of the context on the log odds: a weighted ridge regression on the same bound."""
    users, items, context = posterior.users, posterior.items, feedback.context
    count = context.shape[1]
    grams, targets = np.zeros((kernels.CHUNKS, count, count)), np.zeros((kernels.CHUNKS, count))
    kernels.context_equations(
        feedback.user, feedback.item, feedback.label, feedback.weight, _offsets(posterior, feedback),
        posterior.intercept, users.mean, _second_moments(users), items.mean, _second_moments(items),
        context.indptr, context.indices, grams, targets,
    )  # fmt: skip
    posterior.context = np.linalg.solve(grams.sum(axis=0) + CONTEXT_L2 * np.eye(count), targets.sum(axis=0))
