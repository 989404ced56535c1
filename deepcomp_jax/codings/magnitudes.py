"""How far the labels of a leaf are from zero: what varies between rows and columns.

The magnitude of a weight is the number of its entry, counted from zero away: 1 for the
entries next to zero, 0 if it is pruned. Where nearly all weights are kept, rows and
columns differ in magnitudes much more than in how many weights they keep.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings.common import Counts, Labels, Leaf

_PLANES = 4  # thresholds at most
_FALL = 0.5  # of the weights that are at least so large, from one to the next
_INDICES = 64  # of an axis that are looked at to see whether it is even
_SAMPLE = 1 << 16  # weights that are
_HASH = 2654435769  # 2**32 over the golden ratio: multiples spread evenly
DEVIATIONS = 3  # standard ones, which chance may make of differences


def of_labels(leaf: Leaf) -> NDArray[np.int64]:
    """The magnitude that each label stands for, int64[entries + 1]."""
    entry = np.arange(leaf.entries) - leaf.negatives
    return np.append(0, np.where(entry < 0, -entry, entry + 1))


def at_least(labels: Labels, leaf: Leaf, threshold: int) -> NDArray[np.bool_]:
    """Which weights have a magnitude of at least a threshold above zero, bool[size]."""
    large = labels >= leaf.negatives + threshold
    if threshold <= leaf.negatives:
        large |= (labels < leaf.negatives + 2 - threshold) & (labels > 0)
    return large


def thresholds(leaf: Leaf, counts: Counts) -> list[int]:
    """Magnitudes that tell weights apart, ascending: each is reached by fewer.

    Args:
        leaf: The leaf.
        counts: How often each label occurs.
    """
    reached = np.cumsum(np.bincount(of_labels(leaf), counts)[::-1])[::-1]
    chosen: list[int] = []
    last = reached[0]
    for magnitude in range(1, reached.size):
        now = reached[magnitude]
        if not now or len(chosen) == _PLANES:
            break
        if now <= _FALL * last or (magnitude == 1 and now < last):
            chosen.append(magnitude)
            last = now
    return chosen


def energies(leaf: Leaf, counts: Counts, chosen: Sequence[int]) -> list[float]:
    """What each threshold that a weight reaches adds to its square, on the average."""
    of_label = of_labels(leaf)
    edges = [0, *chosen, of_label.size + 1]
    means: list[float] = []
    for low, high in zip(edges, edges[1:], strict=False):
        here = (of_label >= low) & (of_label < high)
        total = max(int(counts[here].sum()), 1)
        means.append(float(counts[here] @ of_label[here] ** 2) / total)
    return np.diff(means).tolist()


def entropy(counts: Counts) -> float:
    """Bits of labels at the order-0 entropy of how often each occurs."""
    found = counts[counts > 0]
    return float((found * np.log2(found.sum() / found)).sum())


def uneven(labels: Labels, leaf: Leaf) -> float:
    """About how many bits magnitudes save that depend on the index of an axis.

    A sample tells; what chance may make counts nothing.

    The means of logarithms are compared as in an analysis of variance (Fisher,
    *Statistical Methods for Research Workers*, chapter 7): but for chance, the squares
    of their distances, in units of the variance, sum to about the number of indices.
    What is beyond that is twice the nats that scales of their own would save.

    Args:
        labels: All labels of the leaf, uint[size].
        leaf: The leaf.
    """
    score = np.rint(16 * np.log2(1 + of_labels(leaf))).astype(np.int64)
    nats = 0.0
    for axis, size in enumerate(leaf.shape):
        if size == 1:
            continue
        found = score.take(_sample(labels, leaf.shape, axis))
        each, freedom = found.shape[1], len(found) - 1
        sums = found.sum(axis=1)
        total = int(sums.sum())
        # Whole numbers: the same everywhere.
        spread = found.size * int((found * found).sum()) - total * total
        between = len(found) * int((sums * sums).sum()) - total * total
        if not spread:
            continue
        excess = found.size * between / spread - freedom
        if excess > DEVIATIONS * math.sqrt(2 * freedom):
            nats += excess / 2 * (labels.size / (len(found) * each))
    return nats / math.log(2)


def _sample(labels: Labels, shape: Sequence[int], axis: int) -> Labels:
    """Some labels of some indices of an axis, uint[indices, labels]."""
    before, size = math.prod(shape[:axis]), shape[axis]
    after = math.prod(shape[axis + 1 :])
    spread = np.arange(_INDICES, dtype=np.int64) * _HASH % (1 << 32)
    chosen = np.unique(spread * min(size, 1 << 24) >> 32) if size > _INDICES else None
    indices = np.arange(size) if chosen is None else chosen
    thin = -(-before * after * indices.size // _SAMPLE)
    of_before = min(before, thin)
    of_after = -(-thin // of_before)
    matrix = labels.reshape(before, size, after)
    some = matrix[::of_before, indices, ::of_after]
    return some.transpose(1, 0, 2).reshape(indices.size, -1)
