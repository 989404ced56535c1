"""How many weights are kept at each index of an axis, by the groups of the other axes.

The search of classes asks for it again and again. A tensor is seen as a matrix here, of
rows and columns of about the same number. Of the kept weights of each row, or column,
those of each group of the others are counted: from their positions if few are kept, and
else by a product of matrices, of zeros and ones, which takes a fraction of a nanosecond
for each value of the tensor.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings.grouping import Classes

_FEW = 16  # a position takes as long as so many values
_BLOCK = 1 << 18  # values treated together: float32 of so many fit a cache


class Kept(NamedTuple):
    """Which weights of a tensor are kept.

    Attributes:
        shape: Of the tensor.
        split: How many of its axes are those of rows; the others are of columns.
        mask: Whether they are kept, bool[rows, columns].
        places: If they are few, the row and the column of each, int64[n]; else None.
        total: How many are kept.
    """

    shape: tuple[int, ...]
    split: int
    mask: NDArray[np.bool_]
    places: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    total: int


def kept(labels: NDArray[np.integer], shape: Sequence[int]) -> Kept:
    """What is known of a tensor.

    Args:
        labels: Not zero where a weight is kept, int[size].
        shape: Shape of the tensor.
    """
    heights = [math.prod(shape[:split]) for split in range(len(shape) + 1)]
    split = max(
        range(len(heights)), key=lambda k: min(heights[k], labels.size // heights[k])
    )
    mask = (labels != 0).reshape(heights[split], -1)
    total, places = int(np.count_nonzero(mask)), None
    if _FEW * total < labels.size:
        places = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return Kept(tuple(shape), split, mask, places, total)


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
    if of.places is not None:
        at, beside = of.places if is_row else of.places[::-1]
        pairs = at * groups + other.astype(np.int64).take(beside)
        found = np.bincount(pairs, minlength=own.size * groups).reshape(-1, groups)
    else:
        found = _product(of.mask, other, groups, is_row=is_row)
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


def _product(
    mask: NDArray[np.bool_], other: NDArray[np.uint8], groups: int, *, is_row: bool
) -> NDArray[np.int64]:
    """Counts of each row, or column, by group of the other: int64[size, groups]."""
    member = (other[:, None] == np.arange(groups, dtype=np.uint8)).astype(np.float32)
    if is_row:
        parts = [part @ member for _, part in _blocks(mask)]
        return np.concatenate(parts).astype(np.int64)
    found = np.zeros((groups, mask.shape[1]))
    for rows, part in _blocks(mask):
        found += member[rows].T @ part
    return found.T.astype(np.int64)


def _blocks(mask: NDArray[np.bool_]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Some rows at a time, as zeros and ones: sums of so few are exact."""
    rows = max(_BLOCK // mask.shape[1], 1)
    for first in range(0, len(mask), rows):
        part = slice(first, min(first + rows, len(mask)))
        yield part, mask[part].astype(np.float32)


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
