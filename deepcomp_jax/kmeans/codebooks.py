"""Codebooks from values: of a size, of the size that suits them, or by descent."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deepcomp_jax.kmeans import dynamic_program
from deepcomp_jax.kmeans.dynamic_program import Program, program
from deepcomp_jax.kmeans.runs import Floats, Runs, ordered, summed


class Path(NamedTuple):
    """Optimal codebooks of every size.

    Attributes:
        sse: float64[k], entry k - 1 is the least sum of squared errors with k
            centroids; with more than `MAX_BINS` distinct values, a close upper bound.
        codebook: `codebook(k)` gives the centroids, as `optimal(values, k)` would.
    """

    sse: Floats
    codebook: Callable[[int], Floats]


def optimal(
    values: ArrayLike, k: int, *, importance: ArrayLike | None = None
) -> Floats:
    """Centroids with the least sum of squared distances of the values to the nearest.

    Values that are many, more than 2^20 or, of types of two bytes or fewer, 2^16, are
    not sorted but counted: short ones each by itself, others in bins. Where bins would
    raise the squared error by more than about 3e-5 of it, the values are sorted too.

    Args:
        values: Real array of any shape, finite.
        k: Number of centroids wanted, at least 1.
        importance: Non-negative weight of each value's squared distance, same shape as
            `values`; None means 1. A value of importance 0 is ignored.

    Returns:
        float64[min(k, number of distinct values)], strictly ascending.

    Raises:
        ValueError: `k` is below 1, or above `MAX_BINS` where there are more distinct
            values, or `values` or `importance` are not as described.

    Examples:
        >>> from deepcomp_jax import kmeans
        >>> kmeans.optimal([0, 1, 2, 10, 11], 2)
        array([ 1. , 10.5])
    """
    _check_count(k)
    return dynamic_program.codebook(program(values, importance, k, smaller=False), k)


def optimal_path(
    values: ArrayLike, k_max: int, *, importance: ArrayLike | None = None
) -> Path:
    """Optimal codebooks of 1 to `k_max` centroids from one dynamic program.

    Args:
        values, importance: As for `optimal`.
        k_max: Largest number of centroids, at least 1; reduced to the number of
            distinct values.

    Returns:
        The least squared error for each number of centroids, which never rises, and a
        function that gives each codebook.

    Raises:
        ValueError: As `optimal`.

    Examples:
        >>> from deepcomp_jax import kmeans
        >>> path = kmeans.optimal_path([0, 1, 2, 10, 11], 3)
        >>> path.sse
        array([110.8,   2.5,   1. ])
        >>> path.codebook(3)
        array([ 0. ,  1.5, 10.5])
    """
    _check_count(k_max)
    return _path(program(values, importance, k_max))


def _path(solved: Program) -> Path:
    runs, count = solved.runs, solved.gains.size
    distinct = runs.distinct.size
    errors = np.maximum(runs.energy - solved.gains, 0.0)
    errors[distinct - 1 :] = 0.0

    def codebook(k: int) -> Floats:
        _check_count(k)
        if count < min(k, distinct):
            raise ValueError(f"codebook of {k} centroids asked of a path up to {count}")
        return dynamic_program.codebook(solved, k)

    return Path(np.minimum.accumulate(errors) * runs.unit, codebook)


def lloyd(
    values: ArrayLike,
    k: int,
    *,
    init: Literal["linear", "density", "random"] = "linear",
    seed: int = 0,
    importance: ArrayLike | None = None,
    iterations: int = 300,
) -> Floats:
    """Lloyd's k-means from the starting centroids that the paper compares.

    S. Han, H. Mao and W. J. Dally, "Deep Compression" (arXiv 1510.00149), section 3.2:
    `linear` spaces the centroids evenly between the least and the greatest value,
    `density` evenly in the cumulative distribution, `random` draws k of the distinct
    values. An empty cluster keeps its centroid.

    Args:
        values, k, importance: As for `optimal`.
        init: Where the centroids start.
        seed: Seed of the random start.
        iterations: Steps at most; it stops when the clusters no longer change.

    Returns:
        float64[at most min(k, number of distinct values)], strictly ascending.

    Raises:
        ValueError: As `optimal`, or `init` is unknown or `iterations` is negative.

    Examples:
        Descent can end in a local minimum, far from the best codebook:

        >>> from deepcomp_jax import kmeans
        >>> values = [0, 1, 10, 11, 12, 100]
        >>> kmeans.lloyd(values, 3)
        array([  6.8,  50. , 100. ])
        >>> kmeans.optimal(values, 3)
        array([  0.5,  11. , 100. ])
    """
    _check_count(k)
    if iterations < 0:
        raise ValueError(f"iterations must not be negative, got {iterations}")
    runs = summed(values, importance)
    if k >= runs.distinct.size:
        return runs.values[runs.distinct]
    return dynamic_program.descend(runs, _initial(runs, k, init, seed), iterations)


def nonparametric(
    values: ArrayLike,
    *,
    cluster_cost: float = 0.02,
    k_max: int = 256,
    importance: ArrayLike | None = None,
) -> Floats:
    """Codebook whose size the data choose: DP-means, solved exactly.

    A Dirichlet-process mixture of Gaussians turns, as the variance of its components
    goes to zero, into the problem of minimizing the squared error plus a fixed price
    per cluster (B. Kulis and M. I. Jordan, "Revisiting k-means: New Algorithms via
    Bayesian Nonparametrics", arXiv 1111.0352, section 3). Here the price is
    `cluster_cost * variance(values)`, which makes the choice of k independent of the
    unit of the values. Their algorithm finds a local minimum; the dynamic program holds
    the least error for each k, so the smallest k of least total is read off its table.

    The squared error of n values falls as n * variance / k^2, so the best k grows as
    (n / cluster_cost)^(1/3): eight times the values, twice the centroids.

    Args:
        values, importance: As for `optimal`; the variance is weighted by importance.
        cluster_cost: Price of a centroid in units of the variance of the values, at
            least 0.
        k_max: Centroids at most.

    Returns:
        float64[at most k_max], strictly ascending.

    Raises:
        ValueError: As `optimal`, or `cluster_cost` is negative or not finite.

    Examples:
        >>> from deepcomp_jax import kmeans
        >>> kmeans.nonparametric([0, 1, 2, 10, 11], cluster_cost=0.1)
        array([ 1. , 10.5])
        >>> kmeans.nonparametric([0, 1, 2, 10, 11], cluster_cost=5)
        array([4.8])
    """
    if not (np.isfinite(cluster_cost) and cluster_cost >= 0):
        raise ValueError(
            f"cluster_cost must be finite and not negative, got {cluster_cost}"
        )
    _check_count(k_max)
    solved = program(values, importance, k_max)
    path = _path(solved)
    if path.sse.size == 0:
        return path.codebook(1)
    price = cluster_cost * path.sse[0] / solved.runs.total
    sizes = np.arange(1, path.sse.size + 1)
    return path.codebook(int(sizes[np.argmin(path.sse + price * sizes)]))


def by_explained_variance(
    values: ArrayLike,
    fraction: float,
    *,
    k_max: int = 256,
    importance: ArrayLike | None = None,
) -> Floats:
    """The smallest optimal codebook that explains a fraction of the variance.

    The explained fraction is 1 - (squared error with k centroids) / (squared error with
    one).

    Args:
        values, importance: As for `optimal`.
        fraction: Fraction of the variance to explain, 0 to 1.
        k_max: Centroids at most; so many are returned if even they explain less.

    Returns:
        float64[at most k_max], strictly ascending.

    Raises:
        ValueError: As `optimal`, or `fraction` is outside 0 ... 1.

    Examples:
        Two centroids explain all but 2.5 of 110.8, or 97.7 %:

        >>> from deepcomp_jax import kmeans
        >>> kmeans.by_explained_variance([0, 1, 2, 10, 11], 0.9)
        array([ 1. , 10.5])
        >>> kmeans.by_explained_variance([0, 1, 2, 10, 11], 0.99)
        array([ 0. ,  1.5, 10.5])
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction must be in 0 ... 1, got {fraction}")
    path = optimal_path(values, k_max, importance=importance)
    if path.sse.size == 0:
        return path.codebook(1)
    enough = path.sse <= (1.0 - fraction) * path.sse[0]
    return path.codebook(int(np.argmax(enough)) + 1 if enough.any() else enough.size)


def sse(
    values: ArrayLike, centroids: ArrayLike, *, importance: ArrayLike | None = None
) -> float:
    """Sum of squared distances of the values to their nearest centroid.

    Args:
        values, importance: As for `optimal`.
        centroids: Strictly ascending, at least one unless there are no values.

    Returns:
        The sum of importance times squared distance, in float64.

    Raises:
        ValueError: As `optimal`, or `centroids` is empty or not strictly ascending.

    Examples:
        >>> from deepcomp_jax import kmeans
        >>> kmeans.sse([0, 1, 2, 10, 11], [1, 10.5])
        2.5
    """
    x, weights = ordered(values, importance)
    points = np.asarray(centroids, np.float64).ravel()
    if x.size == 0:
        return 0.0
    if points.size == 0 or not (points[1:] > points[:-1]).all():
        raise ValueError("centroids must be strictly ascending and at least one")
    edges = dynamic_program.nearest(x, points)
    errors = x - np.repeat(points, np.diff(edges))
    return float(np.dot(errors, errors if weights is None else errors * weights))


def _check_count(k: int) -> None:
    if k < 1:
        raise ValueError(f"the number of centroids must be at least 1, got {k}")


def _initial(runs: Runs, k: int, init: str, seed: int) -> Floats:
    x = runs.values
    if init == "linear":
        start = 2 * np.linspace(x[0] / 2, x[-1] / 2, k)
    elif init == "density":
        share = (np.arange(k) + 0.5) / k * runs.weight[-1]
        start = x[np.searchsorted(runs.weight[1:], share, side="right")]
    elif init == "random":
        picked = np.random.default_rng(seed).choice(runs.distinct, k, replace=False)
        start = x[picked]
    else:
        raise ValueError(f"init must be linear, density or random, got {init!r}")
    return np.unique(start)
