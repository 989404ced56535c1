"""The dynamic program that chooses the best runs of sorted values.

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

from deepcomp_jax.kmeans.runs import Floats, Ints, Runs, binned, summed

MAX_BINS = 2048

_BLUR = 3e-5  # most that a histogram may cost, as a part of the squared error
_MANY_CLUSTERS = 32  # more than these need finer bins to cost so little

_MOVES = np.array([0, -1, 1, -2, 2, -3, 3, -4, 4])  # staying comes first: it wins ties
_PASSES = 64


class Program(NamedTuple):
    """The dynamic program, solved for 1 ... k clusters."""

    runs: Runs
    borders: Ints  # of the bins that clusters are made of
    gains: Floats  # [k], the greatest gain with 1 ... k clusters
    starts: NDArray[np.int32]  # [k, bins + 2], from `_table`


def program(
    values: ArrayLike, importance: ArrayLike | None, k: int, *, smaller: bool = True
) -> Program:
    """Solves for k clusters, or as many as there are distinct values.

    A histogram takes the place of many values where it costs next to nothing: bins of
    width d raise the squared error of clusters that are D wide by about (d / D)^2 of
    it, which is also the part of it that is within bins.

    Args:
        values, importance, k: As for `kmeans.optimal`.
        smaller: Whether fewer than k clusters are of interest too.
    """
    bits = 11 if k <= _MANY_CLUSTERS else 14
    if found := binned(values, importance, bits):
        runs, blur = found
        solved = _solved(runs, k, smaller)
        error = runs.energy - solved.gains[-1] if solved.gains.size else 0.0
        if blur <= _BLUR * max(error, 0.0):
            return solved
    return _solved(summed(values, importance), k, smaller)


def _solved(runs: Runs, k: int, smaller: bool) -> Program:
    count, distinct = min(k, runs.distinct.size), runs.distinct.size
    if count == distinct and not smaller:
        return Program(runs, runs.distinct, np.zeros(0), np.zeros((0, 0), np.int32))
    if MAX_BINS < count < distinct:
        raise ValueError(
            f"{count} centroids of still more distinct values: at most {MAX_BINS} can "
            "be found; take fewer, or a grid (`rate.grid`)"
        )
    borders = _bins(runs)
    return Program(runs, borders, *_table(runs, borders, count))


def codebook(solved: Program, k: int) -> Floats:
    """The centroids of the best k clusters, refined between the bins."""
    runs, borders = solved.runs, solved.borders
    if k >= runs.distinct.size:
        return runs.values[runs.distinct]
    at, chosen = borders.size - 1, [borders.size - 1]
    for row in solved.starts[k - 1 :: -1]:
        at = int(row[at])
        chosen.append(at)
        if at == 0:
            break
    edges = borders[chosen[::-1]]
    if borders.size <= runs.distinct.size:
        edges = _refine(runs, edges)
    return descend(runs, _means(runs, edges), _PASSES)


def _bins(runs: Runs) -> Ints:
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


def _table(runs: Runs, borders: Ints, k: int) -> tuple[Floats, NDArray[np.int32]]:
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
