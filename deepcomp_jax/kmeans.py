"""One-dimensional clustering of weights: codebooks of least squared error.

`optimal` finds the best codebook of a given size, `nonparametric` and
`by_explained_variance` choose the size as well, and `lloyd` descends from one of the
three starts that the paper compares. All are deterministic, run on the host, and return
centroids in float64, strictly ascending, never more than there are distinct values.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deepcomp_jax import _kmeans_dp, _kmeans_runs
from deepcomp_jax._kmeans_dp import MAX_BINS
from deepcomp_jax._kmeans_runs import Floats, Ints, Runs

_BLUR = 3e-5  # most that bins may cost, in squared errors of the codebook
_MANY_CENTROIDS = 32  # beyond which bins must be finer to cost so little


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
    return _codebook(_program(values, importance, k, smaller=False), k)


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
    return _path(_program(values, importance, k_max))


class _Program(NamedTuple):
    """The dynamic program for 1 ... k centroids, solved."""

    runs: Runs
    borders: Ints  # of the bins that it puts together
    gains: Floats  # [k] and
    starts: np.ndarray  # [k, bins + 2], from `_kmeans_dp.table`


def _program(
    values: ArrayLike, importance: ArrayLike | None, k: int, *, smaller: bool = True
) -> _Program:
    """Solves for k centroids, or as many as there are distinct values.

    A histogram takes the place of many values where it costs next to nothing: bins of
    width d raise the squared error of clusters that are D wide by about (d / D)^2 of
    it, which is also the part of it that is within bins.

    Args:
        values, importance, k: As for `optimal`.
        smaller: Whether codebooks of fewer than k centroids are wanted too.
    """
    bits = 11 if k <= _MANY_CENTROIDS else 14
    if found := _kmeans_runs.binned(values, importance, bits):
        runs, blur = found
        program = _solved(runs, k, smaller)
        error = runs.energy - program.gains[-1] if program.gains.size else 0.0
        if blur <= _BLUR * max(error, 0.0):
            return program
    return _solved(_kmeans_runs.summed(values, importance), k, smaller)


def _solved(runs: Runs, k: int, smaller: bool) -> _Program:
    count = min(k, runs.distinct.size)
    if count < runs.distinct.size:
        _check_bins(count)
    elif not smaller:
        return _Program(runs, runs.distinct, np.zeros(0), np.zeros((0, 0), np.int32))
    borders = _kmeans_dp.bins(runs)
    return _Program(runs, borders, *_kmeans_dp.table(runs, borders, count))


def _codebook(program: _Program, k: int) -> Floats:
    runs = program.runs
    if k >= runs.distinct.size:
        return runs.values[runs.distinct]
    return _kmeans_dp.best(runs, program.borders, program.starts, k)


def _path(program: _Program) -> Path:
    runs, count = program.runs, program.gains.size
    distinct = runs.distinct.size
    errors = np.maximum(runs.energy - program.gains, 0.0)
    errors[distinct - 1 :] = 0.0

    def codebook(k: int) -> Floats:
        _check_count(k)
        if count < min(k, distinct):
            raise ValueError(f"codebook of {k} centroids asked of a path up to {count}")
        return _codebook(program, k)

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
    runs = _kmeans_runs.summed(values, importance)
    if k >= runs.distinct.size:
        return runs.values[runs.distinct]
    return _kmeans_dp.descend(runs, _initial(runs, k, init, seed), iterations)


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
    program = _program(values, importance, k_max)
    path = _path(program)
    if path.sse.size == 0:
        return path.codebook(1)
    price = cluster_cost * path.sse[0] / program.runs.total
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
    ordered, weights = _kmeans_runs.ordered(values, importance)
    points = np.asarray(centroids, np.float64).ravel()
    if ordered.size == 0:
        return 0.0
    if points.size == 0 or not (points[1:] > points[:-1]).all():
        raise ValueError("centroids must be strictly ascending and at least one")
    edges = _kmeans_dp.nearest(ordered, points)
    errors = ordered - np.repeat(points, np.diff(edges))
    return float(np.dot(errors, errors if weights is None else errors * weights))


def _check_count(k: int) -> None:
    if k < 1:
        raise ValueError(f"the number of centroids must be at least 1, got {k}")


def _check_bins(k: int) -> None:
    """Rejects more centroids than bins, which the values are cut into before."""
    if k > MAX_BINS:
        raise ValueError(
            f"{k} centroids of still more distinct values: at most {MAX_BINS} can be "
            "found; take fewer, or a grid (`rate.grid`)"
        )


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
