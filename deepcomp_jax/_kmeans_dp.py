"""Runs of sorted values, and the dynamic program that chooses the best ones.

In one dimension the clusters of an optimal codebook are runs of the sorted values, so
the optimum can be found by dynamic programming instead of by descent from a guess
(H. Wang and M. Song, "Ckmeans.1d.dp: Optimal k-means Clustering in One Dimension by
Dynamic Programming", The R Journal 3/2, 2011). With S and W the sums of the centered
values and of their importances over a run, the squared error of a clustering is

    sum of w x^2  -  sum over clusters of S^2 / W,

and the program maximizes the second sum, the gain. The gain satisfies the quadrangle
inequality, so the best start of the last run never moves left when values are added at
the right: whole columns of the program are solved together, widely spaced ones first.

Large inputs are first cut into at most `MAX_BINS` bins. Each cut is in the middle of a
bin's range of values, costly bins first, so that no bin of noticeable weight bridges a
gap in the data. The borders are then moved, jointly, to where they belong between the
uncut values.

A border is a position in the sorted values; equal values are never separated.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_BINS = 2048

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TINY = 2.0**-50  # least importance of a value, as a share of their sum
_MOVES = np.array([0, -1, 1, -2, 2, -3, 3, -4, 4])  # staying comes first: it wins ties
_PASSES = 64


class Runs(NamedTuple):
    """Sorted values, with the prefix sums that make any run of them cheap to sum up."""

    values: Floats  # [n] ascending
    weight: Floats  # [n + 1] scaled importance of the values before position i
    moment: Floats  # [n + 1] scaled importance times centered, scaled value, likewise
    energy: float  # sum of scaled importance times squared centered, scaled value
    center: float  # mean of the scaled values
    scale: float  # a power of two: scaled value = value * scale
    total: float  # sum of the importances, not scaled
    unit: float  # a squared error in units of the caller = scaled one * unit
    distinct: Ints  # positions at which a new value begins; the first is 0


def ordered(
    values: ArrayLike, importance: ArrayLike | None
) -> tuple[Floats, Floats | None]:
    """Checks and sorts values; those of importance zero are left out.

    Returns:
        The values in ascending order and their importances (None if all are 1).

    Raises:
        TypeError: `values` are complex.
        ValueError: Values or importances are not finite, an importance is negative,
            all are zero, or the shapes differ.
    """
    given = np.asarray(values)
    if np.iscomplexobj(given):
        raise TypeError(f"values must be real, got {given.dtype}")
    flat = given.ravel()
    flat = flat if flat.dtype == np.float32 else flat.astype(np.float64)
    _check_all(np.isfinite(flat), flat, "values must be finite")
    if importance is None:
        return np.sort(flat).astype(np.float64) + 0.0, None  # + 0.0: no negative zero
    weights = np.asarray(importance, np.float64)
    if weights.shape != given.shape:
        raise ValueError(f"importance has shape {weights.shape}, values {given.shape}")
    weights = weights.ravel()
    valid = (weights >= 0) & np.isfinite(weights)
    _check_all(valid, weights, "importance must be finite and not negative")
    order = np.argsort(flat, kind="stable")
    order = order[weights[order] > 0]
    if flat.size and not order.size:
        raise ValueError("importance must not be zero for every value")
    return flat[order].astype(np.float64) + 0.0, weights[order]


def _check_all(
    valid: NDArray[np.bool_], given: NDArray[np.floating], rule: str
) -> None:
    if not valid.all():
        at = int(np.argmin(valid))
        raise ValueError(f"{rule}: got {given[at]} at flat index {at}")


def _power_of_two(size: float) -> float:
    """A factor that brings `size` between 1/2 and 1, or near it, without rounding."""
    exponent = int(np.clip(np.frexp(size)[1], -1000, 1000))
    return float(np.ldexp(1.0, -exponent))


def summed(values: ArrayLike, importance: ArrayLike | None) -> Runs:
    """Sorts values and prepares their sums; errors as `ordered`."""
    x, weights = ordered(values, importance)
    if x.size == 0:
        zero = np.zeros(1)
        return Runs(x, zero, zero, 0.0, 0.0, 1.0, 0.0, 1.0, np.zeros(0, np.int64))
    distinct = np.flatnonzero(np.append(True, x[1:] != x[:-1])[: x.size])
    scale = _power_of_two(max(abs(x[0]), abs(x[-1])))
    weight, shrink = np.arange(x.size + 1.0), 1.0
    if weights is not None:
        shrink = _power_of_two(weights.max())
        weights = weights * shrink
        # Otherwise the running sum would absorb the least ones and stand still.
        weights = np.maximum(weights, _TINY * weights.sum())
        np.cumsum(weights, out=weight[1:])
    scaled = x * scale
    total = scaled.sum() if weights is None else np.dot(scaled, weights)
    center = float(total / weight[-1])
    scaled -= center
    weighted = scaled if weights is None else scaled * weights
    moment = np.zeros(x.size + 1)
    np.cumsum(weighted, out=moment[1:])
    energy = float(np.dot(weighted, scaled))
    sizes = energy, center, scale, float(weight[-1]) / shrink
    return Runs(x, weight, moment, *sizes, 1 / shrink / scale / scale, distinct)


def bins(runs: Runs) -> Ints:
    """Borders of at most MAX_BINS bins, from 0 to the number of values."""
    x = runs.values
    if runs.distinct.size <= MAX_BINS:
        return np.append(runs.distinct, x.size)
    borders = np.array([0, x.size])
    while (room := MAX_BINS + 1 - borders.size) > 0:
        first, last = x[borders[:-1]], x[borders[1:] - 1]
        spread = last * runs.scale - first * runs.scale
        # An upper bound of the bin's squared error; 0 if its values are all the same.
        bound = np.diff(runs.weight[borders]) * spread * spread
        order = np.argsort(-bound, kind="stable")[:room]
        worst = order[bound[order] >= bound[order[0]] / 8]
        if bound[worst[0]] == 0:
            break
        cuts = np.searchsorted(x, _middle(first[worst], last[worst]), side="right")
        borders = np.sort(np.append(borders, cuts))
    return borders


def _middle(low: Floats, high: Floats) -> Floats:
    """Midpoints, but always below `high`: a value at a midpoint belongs to `low`."""
    middle = low / 2 + high / 2
    return np.where(middle < high, middle, low)


class _Level(NamedTuple):
    """Columns of the program that are solved together, between solved ones."""

    columns: Ints
    left: Ints
    right: Ints


def _levels(m: int, fan: int = 4) -> list[_Level]:
    """Columns 1 ... m in rounds; columns 0 and m + 1 bound the others."""
    levels, step = [], 1
    while step * fan <= m:
        step *= fan
    outer = (m + 1) * fan
    while step:
        columns = np.arange(step, m + 1, step)
        columns = columns[columns % outer != 0]
        left = columns // outer * outer
        levels.append(_Level(columns, left, np.minimum(left + outer, m + 1)))
        outer, step = step, step // fan
    return levels


def table(runs: Runs, borders: Ints, k: int) -> tuple[Floats, NDArray[np.int32]]:
    """The dynamic program over the bins between `borders`.

    Returns:
        gains: float64[k], the greatest gain with 1 ... k clusters.
        starts: int32[k, bins + 2], the bin at which the last cluster begins when the
            first j bins (second index) are put into i + 1 clusters (first index).
    """
    weight, moment = runs.weight[borders], runs.moment[borders]
    m = borders.size - 1
    levels = _levels(m)
    starts = np.zeros((k, m + 2), np.int32)
    best = np.zeros(m + 1)
    best[1:] = moment[1:] ** 2 / weight[1:]
    gains = np.zeros(k)
    gains[:1] = best[m]
    for i in range(1, k):
        starts[i, m + 1] = m - 1
        previous, best = best, best.copy()
        for level in levels:
            _solve(level, previous, best, starts[i], weight, moment)
        gains[i] = best[m]
    return gains, starts


def _solve(
    level: _Level,
    previous: Floats,
    best: Floats,
    starts: NDArray[np.int32],
    weight: Floats,
    moment: Floats,
) -> None:
    """Solves the columns of one level: each tries the starts its neighbors allow."""
    columns = level.columns
    low = starts[level.left]
    # Rounding can swap two starts that are equally good: a range is never empty.
    high = np.maximum(np.minimum(starts[level.right], columns - 1), low)
    count = high - low + 1
    ends = np.cumsum(count)
    begins = ends - count
    tried = np.arange(ends[-1]) + np.repeat(low - begins, count)
    gain = np.repeat(moment[columns], count) - moment[tried]
    gain *= gain
    gain /= np.repeat(weight[columns], count) - weight[tried]
    gain += previous[tried]
    most = np.maximum.reduceat(gain, begins)
    hits = np.flatnonzero(gain == np.repeat(most, count))
    starts[columns] = tried[hits[np.searchsorted(hits, begins)]]
    best[columns] = most


def best(runs: Runs, borders: Ints, starts: NDArray[np.int32], k: int) -> Floats:
    """The centroids of the program's best k clusters, refined between the bins."""
    at, chosen = borders.size - 1, [borders.size - 1]
    for row in starts[k - 1 :: -1]:
        at = int(row[at])
        chosen.append(at)
        if at == 0:
            break
    edges = borders[chosen[::-1]]
    if borders.size <= runs.distinct.size:
        edges = _refine(runs, edges)
    return descend(runs, _means(runs, edges), _PASSES)


def _refine(runs: Runs, edges: Ints) -> Ints:
    """Moves all borders of clusters jointly, in ever smaller steps, while it helps."""
    borders = np.append(runs.distinct, runs.values.size)
    at = np.searchsorted(borders, edges)
    size = np.diff(at)
    step = -(-np.minimum(size[:-1], size[1:]) // (4 * _MOVES.max()))
    step = np.concatenate(([0], step, [0]))
    for _ in range(_PASSES):
        before, at = at, _move(runs, borders, at, step)
        if step.max() <= 1 and np.array_equal(before, at):
            break
        step = (step + 1) // 2
    return borders[at]


def _move(runs: Runs, borders: Ints, at: Ints, step: Ints) -> Ints:
    """The best choice of one move, in steps, for every border at once."""
    tried = np.clip(at[:, None] + step[:, None] * _MOVES, 0, borders.size - 1)
    weight, moment = runs.weight[borders[tried]], runs.moment[borders[tried]]
    gain = (moment[1:, None, :] - moment[:-1, :, None]) ** 2
    size = weight[1:, None, :] - weight[:-1, :, None]
    gain = np.divide(gain, size, out=np.full_like(gain, -np.inf), where=size > 0)
    came = np.zeros((at.size, _MOVES.size), np.int64)
    total = np.where(_MOVES == 0, 0.0, -np.inf)
    for i, cluster in enumerate(gain, start=1):
        sums = total[:, None] + cluster
        came[i], total = sums.argmax(axis=0), sums.max(axis=0)
    moved, move = at.copy(), 0
    for i in range(at.size - 1, 0, -1):
        moved[i] = tried[i, move]
        move = came[i, move]
    return moved


def _means(runs: Runs, edges: Ints) -> Floats:
    """Means of runs that are not empty, each within the values of its run."""
    mean = np.diff(runs.moment[edges]) / np.diff(runs.weight[edges])
    mean = (mean + runs.center) / runs.scale
    return np.clip(mean, runs.values[edges[:-1]], runs.values[edges[1:] - 1])


def nearest(x: Floats, centroids: Floats) -> Ints:
    """Borders between the sorted values nearest to each centroid, ties to the lower."""
    inner = np.searchsorted(x, _middle(centroids[:-1], centroids[1:]), side="right")
    return np.concatenate(([0], inner, [x.size]))


def descend(runs: Runs, centroids: Floats, iterations: int) -> Floats:
    """Lloyd's iterations until the clusters stay; an empty one keeps its centroid."""
    edges = np.zeros(0, np.int64)
    for _ in range(iterations):
        before, edges = edges, nearest(runs.values, centroids)
        if np.array_equal(before, edges):
            break
        full = np.flatnonzero(np.diff(edges))
        centroids = centroids.copy()
        centroids[full] = _means(runs, edges[np.append(full, edges.size - 1)])
    return centroids
