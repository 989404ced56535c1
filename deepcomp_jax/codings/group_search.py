"""Which classes and tables make a body of the grouped coding small.

Any classes give a valid file. Good ones are searched for as in k-means: given the
density of each group, every index of an axis takes the class under which its weights
cost the least, the class itself included; then densities are counted anew.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import axis_classes, kept_counts, symbol_models
from deepcomp_jax.codings.common import Leaf
from deepcomp_jax.codings.grouping import MAX_GROUPS, Classes

_MAX_CLASSES = 12  # of an axis
_STEPS = (0.5, 1.0)  # between classes, in nats of the odds, to begin with
_ROUNDS = 4
_GROUP_BITS = 14  # what one more group adds to a body, roughly
_AXIS_BITS = 24  # what one more axis with classes adds, besides these
_DEVIATIONS = 3  # standard ones, which chance may make of differences

Kept = dict[int, NDArray[np.int64]]  # kept weights at each index of each axis


def classes(labels: NDArray[np.integer], shape: Sequence[int]) -> Classes:
    """Classes of the axes of a tensor.

    Args:
        labels: Not zero where a weight is kept, int[size].
        shape: Shape of the tensor.
    """
    none: Classes = tuple(None for _ in shape)
    axes = [a for a, size in enumerate(shape) if size > 1]
    total = int(np.count_nonzero(labels))
    if len(axes) < 2 or not 0 < total < labels.size:
        return none
    of = kept_counts.kept(labels, shape)
    kept = {a: kept_counts.count(of, a, none)[:, 0] for a in axes}
    best, least = none, _position_bits(np.array([labels.size]), np.array([total]))
    if _is_even(kept, labels.size, least):
        return none
    least += _GROUP_BITS
    for some in _subsets(axes, shape):
        for step in _STEPS:
            started = _start(some, kept, shape, step)
            tried, in_group = _refine(started, of, kept)
            tried = tuple(None if c is None or not c.any() else c for c in tried)
            size = _bits(tried, in_group, shape, least)
            if size < least and _group_sizes(tried, shape).size <= MAX_GROUPS:
                best, least = tried, size
    return best


def _is_even(kept: Kept, size: int, bits: float) -> bool:
    """Whether the indices of every axis keep as many weights, but for chance.

    The bits that densities of their own would save the indices of an axis are those of
    a G-test (Sokal and Rohlf, *Biometry*, chapter 17): if all are equally dense, twice
    their nats have about a chi-squared distribution. What chance makes does not pay for
    classes, and no more does what would be less than they take at least.
    """
    saved = {
        axis: bits - _position_bits(np.full(own.size, size // own.size), own)
        for axis, own in kept.items()
    }
    if sum(saved.values()) < _GROUP_BITS + _AXIS_BITS:
        return True
    freedom = {axis: own.size - 1 for axis, own in kept.items()}
    return all(
        2 * math.log(2) * saved[axis] < free + _DEVIATIONS * math.sqrt(2 * free)
        for axis, free in freedom.items()
    )


def _position_bits(sizes: NDArray[np.int64], kept: NDArray[np.int64]) -> float:
    """Bits of the positions of weights that are kept in groups of these sizes."""
    some, left = np.maximum(sizes, 1), sizes - kept
    words = (kept * np.log2(some / np.maximum(kept, 1))).sum()
    words += (left * np.log2(some / np.maximum(left, 1))).sum()
    return float(words)


def tables(
    member: NDArray[np.uint8],
    indices: NDArray[np.integer],
    groups: int,
    leaf: Leaf,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Which groups share a table of indices.

    Args:
        member: Group of each weight that is kept, uint8[n], n > 0.
        indices: Index of its entry in the codebook, uint[n].
        groups: Number of groups.
        leaf: The leaf of the weights.

    Returns:
        The table of each group, uint8[groups], ascending; and how often each entry is
        used with each table, int64[tables, entries].
    """
    pairs = member.astype(np.int64) * leaf.entries + indices
    counts = np.bincount(pairs, minlength=groups * leaf.entries)
    return joined(counts.reshape(groups, leaf.entries), leaf.negatives)


def joined(
    counts: NDArray[np.int64], negatives: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Which groups share a table, as `tables` says it, from counts alone.

    Args:
        counts: How often each entry is used in each group, int64[groups, entries].
        negatives: Entries below zero.
    """
    ends = _split(counts, negatives)
    chosen = np.zeros(len(counts), np.uint8)
    chosen[ends] = 1
    merged = np.add.reduceat(counts, [0, *ends], axis=0)
    return np.cumsum(chosen).astype(np.uint8), merged


def _split(counts: NDArray[np.int64], negatives: int) -> list[int]:
    """Where a new table pays, between rows of counts; each part has some counts."""
    if len(counts) < 2:
        return []
    sums = np.cumsum(counts, axis=0)
    total = symbol_models.fit(sums[-1:], negatives)[1][0]
    before, after = sums[:-1], sums[-1] - sums[:-1]
    possible = before.any(axis=1) & after.any(axis=1)
    if not possible.any():
        return []
    both = np.full(len(before), np.inf)
    parts = [
        symbol_models.fit(part[possible], negatives)[1] for part in (before, after)
    ]
    both[possible] = parts[0] + parts[1]
    at = int(both.argmin())
    if both[at] >= total:
        return []
    low, high = counts[: at + 1], counts[at + 1 :]
    return [
        *_split(low, negatives),
        at + 1,
        *(at + 1 + end for end in _split(high, negatives)),
    ]


def _subsets(axes: Sequence[int], shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Which axes may have classes: all, the two largest, and each of those alone."""
    large = sorted(sorted(axes, key=lambda a: -shape[a])[:2])
    some = dict.fromkeys([tuple(axes), tuple(large), *((a,) for a in large)])
    most = axis_classes.MAX_INDICES
    return [subset for subset in some if sum(shape[a] for a in subset) <= most]


def _start(
    axes: Sequence[int], kept: Kept, shape: Sequence[int], step: float
) -> Classes:
    """Classes from how many weights each index keeps, in steps of its logarithm."""
    started: list[NDArray[np.uint8] | None] = [None] * len(shape)
    for axis in axes:
        rates = np.log(kept[axis] + 0.5)
        levels = np.rint((rates - rates.max()) / step).astype(np.int64)
        levels = np.maximum(levels, 1 - _MAX_CLASSES)
        started[axis] = (levels - levels.min()).astype(np.uint8)
    return tuple(started)


def _refine(
    given: Classes, of: kept_counts.Kept, kept: Kept
) -> tuple[Classes, NDArray[np.int64]]:
    """Gives every index the class that makes its weights cheapest, again and again.

    Returns:
        The classes, and the kept weights of each group.
    """
    now, in_group = list(given), np.zeros(0, np.int64)
    alone = sum(own is not None for own in given) == 1
    for _ in range(_ROUNDS):
        changed = False
        for axis, old in enumerate(now):
            if old is not None:
                counts = kept[axis][:, None]
                if not alone:
                    counts = kept_counts.count(of, axis, tuple(now))
                now[axis] = new = _cheapest(axis, tuple(now), counts, of.shape)
                in_group = _kept(counts, new)
                changed |= not np.array_equal(old, new)
        if not changed:
            break
    return tuple(now), in_group


def _cheapest(
    axis: int, now: Classes, counts: NDArray[np.int64], shape: Sequence[int]
) -> NDArray[np.uint8]:
    """The class of each index of an axis under which its weights take the fewest bits.

    By the classes of the other axes alone, index i has `sizes[r]` values in group r, of
    which `counts[i, r]` are kept. If its class is c, these are in group r + c of the
    tensor, and the density of that group sets their price.
    """
    old = now[axis]
    assert old is not None
    others = [None if a == axis else of_axis for a, of_axis in enumerate(now)]
    sizes = _group_sizes(others, shape) // shape[axis]
    used = np.bincount(old)  # indices of each class
    kept_bits, left_bits = _costs(
        np.convolve(sizes, used), _kept(counts, old), sizes.size + used.size
    )
    groups = np.arange(sizes.size)[:, None] + np.arange(used.size)
    price = counts @ (kept_bits - left_bits)[groups] + sizes @ left_bits[groups]
    price += np.log2(shape[axis] / (used + 0.25))  # of the class itself
    best = price.argmin(axis=1)
    return (best - best.min()).astype(np.uint8)


def _kept(counts: NDArray[np.int64], of_axis: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Weights of each group, from those of each index and group of the other axes."""
    kept = np.zeros(counts.shape[1] + int(of_axis.max()), np.int64)
    for group in range(int(of_axis.max()) + 1):
        kept[group : group + counts.shape[1]] += counts[of_axis == group].sum(axis=0)
    return kept


def _group_sizes(
    given: Sequence[NDArray[np.uint8] | None], shape: Sequence[int]
) -> NDArray[np.int64]:
    """Values in each group: a class adds to the group, so histograms convolve."""
    sizes = np.ones(1, np.int64)
    for of_axis, size in zip(given, shape, strict=True):
        sizes = (
            sizes * size
            if of_axis is None
            else np.convolve(sizes, np.bincount(of_axis))
        )
    return sizes


def _costs(
    sizes: NDArray[np.int64], kept: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bits of a weight that is kept and of one that is not, by group.

    Densities of small groups lean on a line through those of all groups.
    """
    both = np.zeros((2, groups))
    both[0, : sizes.size], both[1, : kept.size] = sizes, kept
    wide, full = both
    odds = np.log((full + 0.5) / (wide - full + 0.5))
    line = 1 / (1 + np.exp(-_line(odds, wide + 1e-3)))
    density = np.clip((full + 8 * line) / (wide + 8), 1e-6, 1 - 1e-6)
    return -np.log2(density), -np.log2(1 - density)


def _line(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The line that is nearest to values at 0, 1, 2..., by weighted squares."""
    places = np.arange(values.size)
    total = weights.sum()
    middle, height = weights @ places / total, weights @ values / total
    away = places - middle
    slope = (weights * away) @ (values - height) / ((weights * away) @ away)
    return height + slope * away


def _bits(
    given: Classes, kept: NDArray[np.int64], shape: Sequence[int], most: float
) -> float:
    """Roughly what classes and positions take in a body; any more than `most` if so."""
    sizes = _group_sizes(given, shape)
    kept = np.append(kept, np.zeros(sizes.size, np.int64))[: sizes.size]
    axes = [own for own in given if own is not None]
    words = _position_bits(sizes, kept) + _AXIS_BITS * len(axes)
    words += float(_GROUP_BITS * np.count_nonzero(sizes))
    for own in axes:
        if words < most:  # the rest takes the time
            words += axis_classes.choose(own)[1]
    return words
