"""Which classes make a body of the grouped coding small.

Any classes give a valid file. Good ones are searched for as in k-means: given the
density of each group, every index of an axis takes the class under which its weights
cost the least, the class itself included; then densities are counted anew.

It is done twice: by which weights are kept alone, and by their magnitudes too. These
are known by a few thresholds: of the weights of a group that reach one, a part reaches
the next, and that is one more density. A weight is kept if it reaches the first.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import (
    axis_classes,
    class_refinement,
    kept_counts,
    magnitudes,
)
from deepcomp_jax.codings.common import Counts, Labels, Leaf
from deepcomp_jax.codings.grouping import MAX_GROUPS, Classes
from deepcomp_jax.codings.kept_counts import Kept

_MAX_CLASSES = 12  # of an axis
_STEPS = (0.5, 1.0)  # between classes, in nats of the odds, to begin with
_OCTAVES = 0.25  # between classes by magnitude, to begin with
_ROUNDS = 4
_FEW_ROUNDS = 2  # by magnitude: what comes after them is less than a part in 1000
_DOUBT = 0.003  # of the bits, by which estimates may be wrong
_DOUBT_BITS = 256  # and some more
_SHARE = 0.001  # of the bits, which magnitudes have to save
_PLAIN_SHARE = 0.004  # the same if all weights are in one group otherwise
_HOPE = 1.5  # times what a sample says they save
_SPARSE = 8  # weights of which less than one is kept: densities say nearly all
_GROUP_BITS = 14  # what one more group adds to a body, roughly
_AXIS_BITS = 24  # what one more axis with classes adds, besides these

Margins = dict[int, NDArray[np.int64]]  # kept weights at each index of each axis


class Found(NamedTuple):
    """Classes of the axes of a tensor.

    Attributes:
        dense: By how many weights their indices keep.
        large: By how large these are, too; None if that hardly makes a difference.
        sure: Whether a body with the latter is the smaller one beyond doubt.
    """

    dense: Classes
    large: Classes | None = None
    sure: bool = False


def find(labels: Labels, leaf: Leaf, counts: Counts) -> Found:
    """Classes of which some make a small body.

    Args:
        labels: All labels of the leaf, uint[size].
        leaf: The leaf.
        counts: How often each label occurs.
    """
    dense = classes(labels, leaf.shape)
    if not is_worth_while(labels, leaf, counts, dense):
        return Found(dense)
    marks = magnitudes.thresholds(leaf, counts)
    if not marks:  # more than half of the weights are the largest there are
        return Found(dense)
    planes = [
        kept_counts.kept(magnitudes.at_least(labels, leaf, mark), leaf.shape)
        for mark in marks
    ]
    some = _subsets(leaf.shape)[0]
    energies = magnitudes.energies(leaf, counts, marks)
    started = _start_by_size(some, planes, energies)
    large, in_group = class_refinement.refine(started, planes, _FEW_ROUNDS)
    if class_refinement.group_sizes(large, leaf.shape).size > MAX_GROUPS:
        return Found(dense)
    now = _bits(large, in_group, leaf.shape, math.inf)
    before = _bits(dense, _reaching(dense, planes), leaf.shape, math.inf)
    bits = magnitudes.entropy(counts)
    doubt = _DOUBT * bits + _DOUBT_BITS
    is_plain = all(own is None for own in dense)
    if now > before + (-_PLAIN_SHARE * bits if is_plain else doubt):
        return Found(dense)
    return Found(dense, large, now < before - doubt)


def is_worth_while(labels: Labels, leaf: Leaf, counts: Counts, dense: Classes) -> bool:
    """Whether magnitudes may make a body smaller than densities do.

    It takes little time, however large the leaf is.

    Args:
        labels: All labels of the leaf, uint[size].
        leaf: The leaf.
        counts: How often each label occurs.
        dense: Classes by density.
    """
    indices = sum(size for size in leaf.shape if size > 1)
    if not _subsets(leaf.shape):
        return False
    is_ternary = magnitudes.of_labels(leaf).max() < 2
    if is_ternary or counts[1:].sum() * _SPARSE < labels.size:
        return False
    is_plain = all(own is None for own in dense)
    least = (_PLAIN_SHARE if is_plain else _SHARE) * magnitudes.entropy(counts)
    least += _GROUP_BITS + _AXIS_BITS + indices
    return _HOPE * magnitudes.uneven(labels, leaf) > least


def classes(labels: NDArray[np.integer], shape: Sequence[int]) -> Classes:
    """Classes of the axes of a tensor, by how many weights their indices keep.

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
    for some in _subsets(shape):
        for step in _STEPS:
            started = _start(some, kept, shape, step)
            tried, in_group = class_refinement.refine(started, [of], _ROUNDS)
            size = _bits(tried, in_group, shape, least)
            if (
                size < least
                and class_refinement.group_sizes(tried, shape).size <= MAX_GROUPS
            ):
                best, least = tried, size
    return best


def _reaching(given: Classes, planes: Sequence[Kept]) -> list[NDArray[np.int64]]:
    """How many weights of each group reach each threshold, for each of them."""
    axis = max(range(len(given)), key=lambda a: given[a] is not None)
    own = given[axis]
    if own is None:
        own = np.zeros(planes[0].shape[axis], np.uint8)
    return [
        class_refinement.by_group(kept_counts.count(of, axis, given), own)
        for of in planes
    ]


def _is_even(kept: Margins, size: int, bits: float) -> bool:
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
        2 * math.log(2) * saved[axis]
        < free + magnitudes.DEVIATIONS * math.sqrt(2 * free)
        for axis, free in freedom.items()
    )


def _position_bits(sizes: NDArray[np.int64], kept: NDArray[np.int64]) -> float:
    """Bits of the positions of weights that are kept in groups of these sizes."""
    some, left = np.maximum(sizes, 1), sizes - kept
    words = (kept * np.log2(some / np.maximum(kept, 1))).sum()
    words += (left * np.log2(some / np.maximum(left, 1))).sum()
    return float(words)


def _subsets(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Which axes may have classes: all, the two largest, and each of those alone.

    None may if there is but one axis of more than one index.
    """
    axes = [a for a, size in enumerate(shape) if size > 1]
    if len(axes) < 2:
        return []
    large = sorted(sorted(axes, key=lambda a: -shape[a])[:2])
    some = dict.fromkeys([tuple(axes), tuple(large), *((a,) for a in large)])
    most = axis_classes.MAX_INDICES
    return [subset for subset in some if sum(shape[a] for a in subset) <= most]


def _start(
    axes: Sequence[int], kept: Margins, shape: Sequence[int], step: float
) -> Classes:
    """Classes from how many weights each index keeps, in steps of its logarithm."""
    started: list[NDArray[np.uint8] | None] = [None] * len(shape)
    for axis in axes:
        started[axis] = _levels(np.log(kept[axis] + 0.5), step)
    return tuple(started)


def _start_by_size(
    axes: Sequence[int], planes: Sequence[Kept], energies: Sequence[float]
) -> Classes:
    """Classes from how large the weights of each index are, in steps of octaves.

    Args:
        axes: Those that may have classes.
        planes: Which weights reach each threshold.
        energies: What that adds to the square of a weight.
    """
    shape = planes[0].shape
    none: Classes = (None,) * len(shape)
    started: list[NDArray[np.uint8] | None] = [None] * len(shape)
    for axis in axes:
        total = np.zeros(shape[axis])
        for of, energy in zip(planes, energies, strict=True):
            total += energy * kept_counts.count(of, axis, none)[:, 0]
        started[axis] = _levels(np.log2(total + energies[0]) / 2, _OCTAVES)
    return tuple(started)


def _levels(logarithms: NDArray[np.float64], step: float) -> NDArray[np.uint8]:
    """Classes by steps below the greatest of some logarithms."""
    levels = np.rint((logarithms - logarithms.max()) / step).astype(np.int64)
    levels = np.maximum(levels, 1 - _MAX_CLASSES)
    return (levels - levels.min()).astype(np.uint8)


def _bits(
    given: Classes,
    in_group: Sequence[NDArray[np.int64]],
    shape: Sequence[int],
    most: float,
) -> float:
    """Roughly what classes and positions take in a body; any more than `most` if so.

    And what tells which thresholds are reached, if there are several.
    """
    sizes = class_refinement.group_sizes(given, shape)
    axes = [own for own in given if own is not None]
    words = _AXIS_BITS * len(axes) + float(_GROUP_BITS * np.count_nonzero(sizes))
    for counts in in_group:
        reached = np.append(counts, np.zeros(sizes.size, np.int64))[: sizes.size]
        words += _position_bits(sizes, reached)
        sizes = reached
    for own in axes:
        if words < most:  # the rest takes the time
            words += axis_classes.choose(own)[1]
    return words
