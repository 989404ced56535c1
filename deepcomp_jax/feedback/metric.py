"""What an error costs: factors of the moments along the two sides of a matrix.

With inputs x and derivatives g at the outputs, an error E of a matrix costs about
tr(G E A E^T), A being the mean of x x^T and G that of g g^T (Kronecker factors, Martens
and Grosse, arXiv 1503.05671). A triangular factor of each turns that into a sum of
squares, each of one error and of errors before it: what feedback needs (Tseng et al.,
YAQA, arXiv 2505.22988, section 4).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 64  # rows; of such blocks BLAS makes no threads


class Side(NamedTuple):
    """One side of a matrix: its rows, or its columns.

    Attributes:
        order: In which they are rounded, int64[n]: those first that weigh most.
        weights: What a squared error costs once those after it make up for it, in that
            order, float64[n]. Without moments all are 1.
        unit: How much of an error of i goes into j, float32[n, n], in that order; ones
            on the diagonal and zeros below it. None if errors do not go on.
    """

    order: NDArray[np.int64]
    weights: NDArray[np.float64]
    unit: NDArray[np.float32] | None


def alike(size: int) -> Side:
    """A side of which nothing is known."""
    return Side(np.arange(size), np.ones(size), None)


def side(moments: np.ndarray, damping: float) -> Side:
    """A side with moments.

    Args:
        moments: Those of all pairs, [n, n], or of each alone, [n]. The unit is
            arbitrary.
        damping: What is added to each second moment, in units of their mean.
    """
    diagonal = moments if moments.ndim == 1 else np.diagonal(moments)
    mean = float(np.mean(diagonal, dtype=np.float64))
    if not 0 < mean < np.inf:  # nothing was seen
        return alike(diagonal.size)
    # With equal moments, the order of the leaf.
    order = np.argsort(-diagonal, kind="stable")
    if moments.ndim == 1:
        return Side(order, diagonal[order] / mean + damping, None)
    damped = moments[np.ix_(order, order)].astype(np.float64)
    damped /= mean
    damped[np.diag_indices_from(damped)] += damping
    # The factor is upper, so that errors go from the first to the last.
    factor = _cholesky(damped[::-1, ::-1])[::-1, ::-1]
    diagonal = np.diagonal(factor).copy()
    factor /= diagonal
    return Side(order, np.square(diagonal), factor.astype(np.float32))


def _cholesky(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower factor of a matrix, block by block.

    Threads of BLAS would compete with those of other leaves, and the last bits of what
    they find depend on how many there are.

    Args:
        matrix: [n, n], symmetric and positive definite.
    """
    n = len(matrix)
    size = n + -n % _BLOCK
    left = np.eye(size)
    left[:n, :n] = matrix
    for first in range(0, size, _BLOCK):
        own = slice(first, first + _BLOCK)
        left[own, own] = np.linalg.cholesky(left[own, own])
        left[own, first + _BLOCK :] = 0
        rest = left[first + _BLOCK :, own].reshape(-1, _BLOCK, _BLOCK)
        rest = rest @ np.linalg.inv(left[own, own]).T
        left[first + _BLOCK :, own] = rest.reshape(-1, _BLOCK)
        for i, block in enumerate(rest):
            start = first + (i + 1) * _BLOCK
            change = (rest[i:] @ block.T).reshape(-1, _BLOCK)
            left[start:, start : start + _BLOCK] -= change
    return left[:n, :n]
