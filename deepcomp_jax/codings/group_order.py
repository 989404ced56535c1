"""The weights of a tensor that are kept, group by group, as their indices are coded.

Where few are kept, each is looked at: its group and its rank follow from its position.
Else all labels are moved, the pruned ones too, and that by *runs*: the columns of one
class in one row, which are next to each other if columns are sorted by class.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import common, grouping
from deepcomp_jax.codings.grouping import Groups

_FEW = 4  # weights of which less than one is kept
_BLOCK = 1 << 16  # labels moved together: what is made of them fits a cache
_RUN = 4  # labels in a run on the average; of shorter ones each takes its time


class Ordered(NamedTuple):
    """Weights that are kept, by group and rank.

    Attributes:
        labels: Of each, uint[n].
        ranks: Of each in its group, int64[n].
        counts: How many each group has, int64[groups].
    """

    labels: NDArray[np.unsignedinteger]
    ranks: NDArray[np.int64]
    counts: NDArray[np.int64]


def ordered(labels: NDArray[np.unsignedinteger], groups: Groups) -> Ordered:
    """The weights that are kept.

    Args:
        labels: All labels of the leaf, uint[size].
        groups: Their groups.
    """
    count, runs = groups.sizes.size, groups.rows.size * max(groups.first.size - 1, 1)
    few = np.count_nonzero(labels) * _FEW < labels.size
    if count > 1 and not few and runs * _RUN <= labels.size:
        return _of_many(labels, groups)
    positions = common.positions(labels)
    member, ranks, order = grouping.split(positions, groups)
    counts = np.bincount(member, minlength=count)
    return Ordered(labels[positions[order]], ranks, counts)


def _of_many(labels: NDArray[np.unsignedinteger], groups: Groups) -> Ordered:
    """The same, by moving all labels of some rows at a time."""
    count, width = groups.sizes.size, groups.columns.size
    found: list[list[NDArray[np.unsignedinteger]]] = [[] for _ in range(count)]
    ranks: list[list[NDArray[np.int64]]] = [[] for _ in range(count)]
    seen = np.zeros(count, np.int64)  # values of each group so far
    rows = max(_BLOCK // width, 1)
    for first in range(0, groups.rows.size, rows):
        of_rows = groups.rows[first : first + rows]
        block = labels[first * width : (first + of_rows.size) * width]
        order, sizes = _order(of_rows, groups)
        if groups.order.size:
            block = block.reshape(-1, width).take(groups.order, axis=1).ravel()
        block = block.take(order)
        places = np.flatnonzero(block != 0)
        ends = np.cumsum(sizes)
        bounds = [0, *places.searchsorted(ends).tolist()]
        block = block.take(places)
        for group in np.flatnonzero(sizes).tolist():
            part = slice(bounds[group], bounds[group + 1])
            found[group].append(block[part])
            shift = seen[group] + sizes[group] - ends[group]
            ranks[group].append(places[part] + shift)
        seen += sizes
    counts = [sum(part.size for part in parts) for parts in found]
    return Ordered(
        np.concatenate([part for parts in found for part in parts]),
        np.concatenate([part for parts in ranks for part in parts]),
        np.array(counts, np.int64),
    )


def _order(
    rows: NDArray[np.uint8], groups: Groups
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How to take the values of rows so that groups are together, in order of rank.

    Args:
        rows: Group of each row, without that of the column, uint8[rows].
        groups: The groups.

    Returns:
        Where each is if columns are sorted by class; and the values of each group.
    """
    classes, width = groups.first.size - 1, groups.columns.size
    of_run = (rows[:, None] + np.arange(classes, dtype=np.uint8)).ravel()
    runs = np.argsort(of_run, kind="stable")
    row, own = np.divmod(runs, classes)
    lengths = np.diff(groups.first)[own]
    ends = np.cumsum(lengths)
    starts = row * width + groups.first[own]
    order = np.repeat(starts - ends + lengths, lengths)
    order += np.arange(order.size)
    # Whole numbers below 2**53 are exact.
    sizes = np.bincount(of_run[runs], lengths, groups.sizes.size).astype(np.int64)
    return order, sizes
