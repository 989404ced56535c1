"""Classes made better, as clusters are by k-means: the steps that are done repeatedly.

Given the densities of groups, every index of an axis takes the class under which its
weights cost the least, the class itself included; then densities are counted anew.
There may be several, each of weights that reach a threshold among those that reach the
one before.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import kept_counts
from deepcomp_jax.codings.grouping import Classes
from deepcomp_jax.codings.kept_counts import Kept

_FINE = 1 << 20  # parts of a bit
_PRODUCTS = 1 << 17  # of numbers, in a product of matrices at once


def refine(
    given: Classes, planes: Sequence[Kept], rounds: int
) -> tuple[Classes, list[NDArray[np.int64]]]:
    """Gives every index the class that makes its weights cheapest, again and again.

    Args:
        given: The classes to begin with.
        planes: Which weights reach each threshold: of the ones before, a part.
        rounds: How often at most.

    Returns:
        The classes, and how many weights of each group reach each threshold.
    """
    now, in_group = list(given), [np.zeros(0, np.int64)]
    alone, here = sum(own is not None for own in given) == 1, None
    for _ in range(rounds):
        changed = False
        for axis, old in enumerate(now):
            if old is not None:
                if here is None or not alone:
                    here = [kept_counts.count(of, axis, tuple(now)) for of in planes]
                now[axis] = new = _cheapest(axis, tuple(now), here, planes[0].shape)
                in_group = [by_group(counts, new) for counts in here]
                changed |= not np.array_equal(old, new)
        if not changed:
            break
    left = tuple(None if own is None or not own.any() else own for own in now)
    return left, in_group


def _cheapest(
    axis: int,
    now: Classes,
    here: Sequence[NDArray[np.int64]],
    shape: Sequence[int],
) -> NDArray[np.uint8]:
    """The class of each index of an axis under which its weights take the fewest bits.

    By the classes of the other axes alone, index i has `sizes[r]` values in group r, of
    which `here[0][i, r]` reach the first threshold, and so on. If its class is c, these
    are in group r + c of the tensor, and the densities of that group set their price.
    """
    old = now[axis]
    assert old is not None
    others = [None if a == axis else of_axis for a, of_axis in enumerate(now)]
    sizes = group_sizes(others, shape) // shape[axis]
    used = np.bincount(old)  # indices of each class
    groups = np.arange(sizes.size)[:, None] + np.arange(used.size)
    price, before = np.zeros(used.size), np.convolve(sizes, used)
    room = sizes.size + used.size
    for counts in here:
        reached = by_group(counts, old)
        reach_bits, stay_bits = _costs(before, reached, room)
        price = price + _product(counts, (reach_bits - stay_bits)[groups])
        price += _product(sizes, stay_bits[groups])
        sizes, before = counts, reached
    price += np.log2(shape[axis] / (used + 0.25))  # of the class itself
    best = price.argmin(axis=1)
    return (best - best.min()).astype(np.uint8)


def _product(
    counts: NDArray[np.int64], prices: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The matrix product, some rows at a time.

    For more a library of linear algebra may start threads, which take longer to wait
    for each other than the product does.
    """
    rows = max(_PRODUCTS // prices.size, 1)
    if len(counts) <= rows or counts.ndim < 2:
        return counts @ prices
    parts = range(0, len(counts), rows)
    return np.concatenate([counts[first : first + rows] @ prices for first in parts])


def by_group(
    counts: NDArray[np.int64], of_axis: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Weights of each group, from those of each index and group of the other axes."""
    order = np.argsort(of_axis, kind="stable")
    used = np.bincount(of_axis)
    some = np.flatnonzero(used)
    firsts = (np.cumsum(used) - used)[some]
    kept = np.zeros(counts.shape[1] + used.size - 1, np.int64)
    sums = np.add.reduceat(counts.take(order, axis=0), firsts, axis=0)
    for group, own in zip(some.tolist(), sums, strict=True):
        kept[group : group + own.size] += own
    return kept


def group_sizes(
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
    both = -np.log2([density, 1 - density])
    # Their products with counts are exact, in whichever order they are added up.
    kept_bits, left_bits = np.rint(both * _FINE) / _FINE
    return kept_bits, left_bits


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
