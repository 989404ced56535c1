"""Groups of equally dense values: which values of a tensor are coded together.

Each index of an axis has a class, and the group of a value is the sum of the classes of
its indices. The values of a group are numbered in C order: their *rank*.

A tensor is seen as a matrix here: a row for all axes but the last, a column for the
last that has more than one index. In a row, the columns of one class belong to one
group; so ranks and positions follow from each other without a look at every value.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.streams.counting import bincount

MAX_GROUPS = 63  # a varint has a bit for each
_BLOCK = 1 << 16  # rows treated together
Classes = tuple[NDArray[np.uint8] | None, ...]  # of each axis; None: all are 0


class Groups(NamedTuple):
    """The groups of a tensor.

    Attributes:
        rows: Group of each row, without that of the column; uint8[rows].
        columns: Class of each column, uint8[columns].
        ranks: Number of columns of the same class before each column, int64[columns];
            this and the next are empty if all columns have one class, and `first` is
            too if there are no classes at all.
        order: Columns by class, int64[columns].
        first: Where each class begins in `order`, and the last one ends.
        sizes: Number of values of each group, int64[groups].
    """

    rows: NDArray[np.uint8]
    columns: NDArray[np.uint8]
    ranks: NDArray[np.int64]
    order: NDArray[np.int64]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]


def groups(shape: Sequence[int], classes: Classes) -> Groups:
    """The groups of a tensor, from the classes of its axes.

    Without classes nothing is allocated: a tensor of any size may take a few bytes.
    """
    if all(axis is None for axis in classes):
        zeros = np.broadcast_to(np.uint8(0), math.prod(shape[:-1]))
        column = np.broadcast_to(np.uint8(0), shape[-1] if shape else 1)
        none, size = np.zeros(0, np.int64), np.array([math.prod(shape)])
        return Groups(zeros, column, none, none, none, size)
    # Axes of one index may stand anywhere: in front they make rows no shorter.
    axes = sorted(zip(shape, classes, strict=True), key=lambda axis: axis[0] != 1)
    rows = np.zeros(1, np.uint8)
    for size, axis in axes[:-1]:
        own = np.zeros(size, np.uint8) if axis is None else axis
        rows = (rows[:, None] + own).ravel()
    width, columns = axes[-1]
    if columns is None:
        columns, none = np.broadcast_to(np.uint8(0), width), np.zeros(0, np.int64)
        sizes = bincount(rows) * width
        return Groups(rows, columns, none, none, np.array([0, width]), sizes)
    order = np.argsort(columns, kind="stable")
    each = np.bincount(columns)
    first = np.append(0, np.cumsum(each))
    ranks = np.empty(width, np.int64)
    ranks[order] = np.arange(width) - first[columns[order]]
    sizes = np.convolve(bincount(rows), each)
    return Groups(rows, columns, ranks, order, first, sizes)


def members(positions: NDArray[np.int64], groups: Groups) -> NDArray[np.uint8]:
    """The group of each position of the flattened tensor."""
    row, column = np.divmod(positions, groups.columns.size)
    return groups.rows[row] + groups.columns[column]


def of_all(groups: Groups) -> NDArray[np.uint8]:
    """The group of each value of the flattened tensor."""
    return (groups.rows[:, None] + groups.columns).ravel()


def split(
    positions: NDArray[np.int64], groups: Groups
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.intp]]:
    """Sorts positions of a tensor by group and rank.

    Args:
        positions: Positions in the flattened tensor, ascending, int64[n].
        groups: The groups.

    Returns:
        The group and the rank of each, and the order in which to take `positions`.
    """
    if groups.sizes.size == 1:
        return np.zeros(positions.size, np.uint8), positions, np.arange(positions.size)
    width = groups.columns.size
    narrow = np.int32 if groups.rows.size * width < 1 << 31 else np.int64
    places = positions.astype(narrow)
    row = places // narrow(width)  # several times as fast as `np.divmod`
    column = places - row * narrow(width)
    member = groups.rows.take(row) + groups.columns.take(column)
    order = np.argsort(member, kind="stable")
    member, row, column = member.take(order), row.take(order), column.take(order)
    ranks = groups.ranks.take(column) if groups.ranks.size else column.astype(np.int64)
    for group, part in parts(np.bincount(member, minlength=groups.sizes.size)):
        ranks[part] += before(groups, group)[row[part]]
    return member, ranks, order


def locator(
    groups: Groups, group: int
) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """What turns ranks in a group into positions in the flattened tensor."""
    if groups.sizes.size == 1:
        return lambda ranks: ranks
    earlier = before(groups, group)

    def locate(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        same = ranks.astype(earlier.dtype)  # else all of the table is copied
        row = np.searchsorted(earlier, same, side="right") - 1
        at = groups.first[group - groups.rows[row].astype(np.int64)]
        column = at + ranks - earlier[row]
        if groups.order.size:
            column = groups.order[column]
        return row * groups.columns.size + column

    return locate


def before(groups: Groups, group: int) -> NDArray[np.integer]:
    """How many values of a group are in the rows before each row, int[rows].

    In the narrowest dtype and block by block: there may be half as many rows as values.
    """
    each = np.diff(groups.first)
    width_of = np.zeros(MAX_GROUPS, np.int64)  # by class of the row
    for column_class, columns in enumerate(each[: group + 1].tolist()):
        width_of[group - column_class] = columns
    is_wide = int(groups.sizes[group]) >> 32
    earlier = np.empty(groups.rows.size, np.int64 if is_wide else np.uint32)
    total = 0
    for start in range(0, earlier.size, _BLOCK):
        here = width_of[groups.rows[start : start + _BLOCK]]
        ends = np.cumsum(here)
        earlier[start : start + _BLOCK] = ends - here + total
        total += int(ends[-1])
    return earlier


def parts(counts: NDArray[np.integer]) -> list[tuple[int, slice]]:
    """Where the members of each group are, of those that have some."""
    ends = np.cumsum(counts).tolist()
    return [
        (group, slice(end - int(count), end))
        for group, (count, end) in enumerate(zip(counts, ends, strict=True))
        if count
    ]
