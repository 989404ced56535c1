"""How many weights are kept at each index of an axis, by the groups of the other axes.

The search of classes asks for it again and again. A tensor is seen as a matrix here, of
rows and columns of about the same number, and of each weight there is one bit: whether
it is kept. Of each row, or column, those of a group of the others are counted 64 at a
time, which takes a small part of a nanosecond for each weight.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings.grouping import Classes

_BLOCK = 1 << 14  # words treated together: what is made of them fits a cache


class Kept(NamedTuple):
    """Which weights of a tensor are kept.

    Attributes:
        shape: Of the tensor.
        split: How many of its axes are those of rows; the others are of columns.
        rows: A bit for each weight of a row, uint64[rows, words].
        columns: A bit for each weight of a column, uint64[columns, words].
    """

    shape: tuple[int, ...]
    split: int
    rows: NDArray[np.uint64]
    columns: NDArray[np.uint64]


def kept(labels: NDArray[np.integer] | NDArray[np.bool_], shape: Sequence[int]) -> Kept:
    """What is known of a tensor.

    Args:
        labels: Not zero where a weight is kept, int[size] or bool[size].
        shape: Shape of the tensor.
    """
    heights = [math.prod(shape[:split]) for split in range(len(shape) + 1)]
    split = max(
        range(len(heights)), key=lambda k: min(heights[k], labels.size // heights[k])
    )
    mask = (labels != 0).reshape(heights[split], -1)
    rows, columns = np.packbits(mask, axis=1), _packed_columns(mask).T
    return Kept(tuple(shape), split, _words(rows), _words(columns))


def _packed_columns(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What `np.packbits` makes along the first axis, several times as fast."""
    packed = np.zeros((-(-len(mask) // 8), mask.shape[1]), np.uint8)
    for bit in range(8):
        own = mask[bit::8].view(np.uint8)
        packed[: len(own)] |= own << np.uint8(7 - bit)
    return packed


def _words(packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Bytes of bits as words of them, uint64[n, words]; the rest are zeros."""
    words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view(np.uint64)


def count(of: Kept, axis: int, classes: Classes) -> NDArray[np.int64]:
    """The kept weights at each index of an axis, by their group.

    Args:
        of: The tensor.
        axis: The axis.
        classes: Those of the other axes; that of the axis itself is not looked at.

    Returns:
        int64[shape[axis], groups], of the groups by the classes of the other axes.
    """
    others = [None if a == axis else own for a, own in enumerate(classes)]
    rows = _group(others[: of.split], of.shape[: of.split])
    columns = _group(others[of.split :], of.shape[of.split :])
    is_row = axis < of.split
    own, other = (rows, columns) if is_row else (columns, rows)
    groups = int(other.max()) + 1
    found = _in_groups(of.rows if is_row else of.columns, other, groups)
    shape = of.shape[: of.split] if is_row else of.shape[of.split :]
    return _folded(found, own, shape, axis if is_row else axis - of.split)


def _group(
    classes: Sequence[NDArray[np.uint8] | None], shape: Sequence[int]
) -> NDArray[np.uint8]:
    """The group of each row, or column, by the classes of their axes."""
    total = np.zeros(1, np.uint8)
    for own, size in zip(classes, shape, strict=True):
        total = (
            total[:, None] + (np.zeros(size, np.uint8) if own is None else own)
        ).ravel()
    return total


def _in_groups(
    bits: NDArray[np.uint64], other: NDArray[np.uint8], groups: int
) -> NDArray[np.int64]:
    """Kept weights of each row by group of their column: int64[rows, groups]."""
    members = other == np.arange(groups, dtype=np.uint8)[:, None]
    members = _words(np.packbits(members, axis=1))
    counts = np.zeros((len(bits), groups), np.int64)
    rows = max(_BLOCK // members.size, 1)
    for first in range(0, len(bits), rows):
        part = slice(first, first + rows)
        ones = np.bitwise_count(bits[part, None] & members)
        ones.sum(axis=2, dtype=np.int64, out=counts[part])
    return counts


def _folded(
    found: NDArray[np.int64],
    group: NDArray[np.uint8],
    shape: Sequence[int],
    axis: int,
) -> NDArray[np.int64]:
    """Counts of the indices of an axis, from those of rows and the groups of these."""
    if len(found) == shape[axis]:
        return found  # there is no other axis, and so all are in group 0
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    index = np.broadcast_to(
        np.arange(shape[axis])[:, None], (before, shape[axis], after)
    ).ravel()
    groups = int(group.max()) + found.shape[1]
    at = index * groups + group
    total = np.zeros(shape[axis] * groups, np.int64)
    for column in range(found.shape[1]):
        # Whole numbers below 2**53 are exact.
        total += np.bincount(at + column, found[:, column], total.size).astype(np.int64)
    return total.reshape(-1, groups)
