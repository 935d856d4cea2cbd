"""Statistics of columns: drift, information about the label, and collinearity."""

import numpy as np
from numpy.typing import NDArray

RIDGE = 1e-9  # keeps a correlation matrix with identical columns invertible


def population_stability(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Population stability index of counts in the same bins: Σ (a − e) ln(a / e) over shares; under 0.1 is calm.

    Args:
        expected: (bins,) rows of the training split.
        actual: (bins,) rows of a later split.
    """
    # e, a: (bins,) shares.
    # Half a row more in each bin: an empty one is rare, not impossible.
    e, a = ((counts + 0.5) / (counts + 0.5).sum() for counts in (expected, actual))
    return float(np.sum((a - e) * np.log(a / e)))


def information_value(clicked: NDArray[np.float64], not_clicked: NDArray[np.float64]) -> float:
    """How far the shares of clicked and of other rows in the same (bins,) lie apart; under 0.02 says little."""
    return population_stability(not_clicked, clicked)


def correlated_pairs(x: NDArray[np.floating], threshold: float) -> dict[tuple[int, int], float]:
    """{(i, j): correlation} of the columns of x (rows, columns) with |correlation| over the threshold, i < j."""
    matrix = np.triu(_correlation(x), 1)  # each pair once, without the diagonal
    return {(int(i), int(j)): float(matrix[i, j]) for i, j in zip(*np.nonzero(np.abs(matrix) > threshold), strict=True)}


def variance_inflation(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """(columns,) 1 / (1 − R²) of each column of x (rows, columns) against the others; constant columns have 0.

    The diagonal of the inverse correlation matrix, which is the same and needs no regression for each column.
    """
    varies = x.std(axis=0) > 0
    inflation = np.zeros(x.shape[1])
    correlation = _correlation(x)[np.ix_(varies, varies)]
    # A tiny ridge keeps copies of one another finite: very large, as they should be.
    inflation[varies] = np.diag(np.linalg.inv(correlation + RIDGE * np.eye(len(correlation))))
    return inflation


def condition_number(x: NDArray[np.floating]) -> float:
    """Largest over smallest singular value of the standardised columns that vary (Belsley et al. 1980); 1 for none."""
    varies = x.std(axis=0) > 0
    if not varies.any():
        return 1.0
    eigenvalues = np.linalg.eigvalsh(_correlation(x)[np.ix_(varies, varies)])
    # Eigenvalues of the correlation matrix are squared singular values of the columns.
    return float(np.sqrt(eigenvalues[-1] / max(eigenvalues[0], 1e-18)))


def _correlation(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """(columns, columns); 0 beside constant columns, where numpy's has NaN; 1 on the diagonal."""
    deviation = x.std(axis=0, dtype=np.float64)  # float32 sums of 500,000 rows lose digits
    z = (x - x.mean(axis=0, dtype=np.float64)) / np.where(deviation > 0, deviation, 1)
    matrix = z.T @ z / max(len(x), 1)  # (columns, columns)
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(matrix)
