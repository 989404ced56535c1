"""Which value of a leaf stands where in an array that was made from it.

An array that is a leaf transposed, reshaped, sliced, reversed, or broadcast holds the
values of the leaf themselves. Along each axis of such an array runs a product of
*factors*, each a walk along one axis of the leaf with a constant stride, so that a
reshape splits and joins factors and everything else moves or cuts them. An array may
hold several leaves side by side, or beside other values: those are *pieces*, boxes of
the array.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from deepcomp_jax.jaxprs import Path

BROADCAST = -1


class Factor(NamedTuple):
    """A walk along an axis of a leaf.

    Attributes:
        axis: The axis of the leaf; `BROADCAST` if all steps show the same values.
        size: The number of values.
        stride: From one value to the next, along the axis of the leaf.
    """

    axis: int
    size: int
    stride: int


Factors = tuple[Factor, ...]  # of one axis of an array, slowest first


class Step(NamedTuple):
    """An axis of an array that a loop, or a traced index, takes one value of.

    Attributes:
        path: The equation: a `scan`, or a `dynamic_slice`.
        operand: Which operand of a `dynamic_slice` is the index; 0 for a `scan`.
        factors: What ran along the axis.
    """

    path: Path
    operand: int
    factors: Factors


class View(NamedTuple):
    """A part of a leaf in a certain order.

    Attributes:
        leaf: The position of the leaf among all.
        axes: The factors along each axis of the array.
        offset: For each axis of the leaf the index where all walks begin.
        steps: What loops and traced indices have taken away, outermost first.
        scale: The values are those of the leaf times this number.
    """

    leaf: int
    axes: tuple[Factors, ...]
    offset: tuple[int, ...]
    steps: tuple[Step, ...] = ()
    scale: float = 1.0


class Piece(NamedTuple):
    """A box of an array that is a view of a leaf.

    Attributes:
        start: Where the box begins, along each axis of the array.
        view: What it holds; its factors tell the size of the box.
    """

    start: tuple[int, ...]
    view: View


def size(factors: Factors) -> int:
    """The number of values along an axis."""
    return math.prod(factor.size for factor in factors)


def sizes(view: View) -> tuple[int, ...]:
    """The shape of the box that a view fills."""
    return tuple(map(size, view.axes))


def of_leaf(leaf: int, shape: Sequence[int]) -> Piece:
    """The leaf as it is."""
    axes = tuple((Factor(axis, n, 1),) for axis, n in enumerate(shape))
    return Piece((0,) * len(shape), View(leaf, axes, (0,) * len(shape)))


def is_full(piece: Piece, axis: int, shape: Sequence[int]) -> bool:
    """Whether a piece runs along a whole axis of its array."""
    return size(piece.view.axes[axis]) == shape[axis]


def arranged(piece: Piece, order: Sequence[int | None]) -> Piece:
    """A piece with its axes in another order; None puts a new one of size 1."""
    start = tuple(0 if axis is None else piece.start[axis] for axis in order)
    axes = tuple(() if axis is None else piece.view.axes[axis] for axis in order)
    return Piece(start, piece.view._replace(axes=axes))


def moved(piece: Piece, axis: int, by: int) -> Piece:
    """A piece further along an axis of a larger array."""
    start = list(piece.start)
    start[axis] += by
    return piece._replace(start=tuple(start))


def scaled(piece: Piece, scale: float) -> Piece:
    """A piece times a number."""
    return piece._replace(view=piece.view._replace(scale=piece.view.scale * scale))


def broadcast(piece: Piece, shape: Sequence[int], axes: Sequence[int]) -> Piece:
    """A piece after `broadcast_in_dim` to a shape, where each axis becomes another."""
    start = [0] * len(shape)
    new: list[Factors] = [(Factor(BROADCAST, n, 1),) for n in shape]
    for old, axis in enumerate(axes):
        factors = piece.view.axes[old]
        if size(factors) != 1 or shape[axis] == 1 or piece.start[old]:
            new[axis], start[axis] = factors, piece.start[old]
        else:
            new[axis] = (*factors, Factor(BROADCAST, shape[axis], 1))
    return Piece(tuple(start), piece.view._replace(axes=tuple(new)))


def reversed_(piece: Piece, axis: int, shape: Sequence[int]) -> Piece:
    """A piece of an array that is read backwards along an axis."""
    offset = list(piece.view.offset)
    for factor in piece.view.axes[axis]:
        if factor.axis != BROADCAST:
            offset[factor.axis] += (factor.size - 1) * factor.stride
    back = tuple(f._replace(stride=-f.stride) for f in piece.view.axes[axis])
    start = list(piece.start)
    start[axis] = shape[axis] - start[axis] - size(back)
    axes = _with(piece.view.axes, axis, back)
    view = piece.view._replace(axes=axes, offset=tuple(offset))
    return Piece(tuple(start), view)


def _with(axes: tuple[Factors, ...], axis: int, new: Factors) -> tuple[Factors, ...]:
    return (*axes[:axis], new, *axes[axis + 1 :])


def sliced(
    piece: Piece, axis: int, start: int, stop: int, stride: int
) -> Piece | None | bool:
    """What a slice along one axis leaves of a piece.

    Returns:
        The piece in the sliced array; None if nothing is left of it; False if what is
        left is no view.
    """
    begin = piece.start[axis]
    end = min(begin + size(piece.view.axes[axis]), stop)
    first = start if begin <= start else start + -(-(begin - start) // stride) * stride
    if first >= end:
        return None
    count = -(-(end - first) // stride)
    cut = _cut(piece.view, axis, first - begin, count, stride)
    if cut is None:
        return False
    place = list(piece.start)
    place[axis] = (first - start) // stride
    return Piece(tuple(place), cut)


def _cut(view: View, axis: int, first: int, count: int, stride: int) -> View | None:
    """The values first, first + stride, ... along an axis; None if that is no view."""
    factors = view.axes[axis]
    ranges = _ranges([factor.size for factor in factors], first, count, stride)
    if ranges is None:
        return None
    offset = list(view.offset)
    kept = []
    for factor, (begin, length, step) in zip(factors, ranges, strict=True):
        if factor.axis != BROADCAST:
            offset[factor.axis] += begin * factor.stride
        kept.append(Factor(factor.axis, length, factor.stride * step))
    axes = _with(view.axes, axis, tuple(kept))
    return view._replace(axes=axes, offset=tuple(offset))


def _ranges(
    lengths: Sequence[int], first: int, count: int, stride: int
) -> list[tuple[int, int, int]] | None:
    """Splits a range over a product of lengths into one for each: begin, size, step.

    Returns:
        The ranges; None if the values of the range are no product of ranges.
    """
    if not lengths:
        return []
    rest = lengths[1:]
    inner = math.prod(rest)
    index, within = divmod(first, inner)
    if count == 1 or index == (first + (count - 1) * stride) // inner:
        outer, left = (index, 1, 1), _ranges(rest, within, count, stride)
    elif stride % inner == 0:
        outer, left = (index, count, stride // inner), _ranges(rest, within, 1, 1)
    elif stride == 1 and within == 0 and count % inner == 0:
        outer, left = (index, count // inner, 1), [(0, n, 1) for n in rest]
    else:
        return None
    return None if left is None else [outer, *left]


def reshaped(piece: Piece, old: Sequence[int], new: Sequence[int]) -> Piece | None:
    """A piece of an array that takes another shape; None if that is no view.

    Args:
        piece: A box of the old array.
        old: The old shape.
        new: The new shape, of as many values.
    """
    start: list[int] = []
    axes: list[Factors] = []
    for before, after in _groups(old, new):
        shapes = [new[axis] for axis in after]
        if all(is_full(piece, axis, old) for axis in before):
            joined = itertools.chain.from_iterable(
                piece.view.axes[axis] for axis in before
            )
            split = _split(tuple(f for f in joined if f.size > 1), shapes)
            if split is None:
                return None
            axes += split
            start += [0] * len(after)
            continue
        long = [axis for axis in before if old[axis] > 1]
        if [old[axis] for axis in long] != [n for n in shapes if n > 1]:
            return None
        for n in shapes:
            axis = long.pop(0) if n > 1 else None
            axes.append(() if axis is None else piece.view.axes[axis])
            start.append(0 if axis is None else piece.start[axis])
    return Piece(tuple(start), piece.view._replace(axes=tuple(axes)))


def _groups(
    old: Sequence[int], new: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes with as many values before and after a reshape."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        before, after = [], []
        left = right = 1
        if i < len(old):
            before.append(i)
            left, i = old[i], i + 1
        while left != right:
            if left < right:
                before.append(i)
                left, i = left * old[i], i + 1
            else:
                after.append(j)
                right, j = right * new[j], j + 1
        while not before and j < len(new):
            after.append(j)
            j += 1
        groups.append((before, after))
    return groups


def _split(factors: Factors, shape: Sequence[int]) -> list[Factors] | None:
    """Divides factors over new axes; None if one of these would cut across them."""
    rest = list(factors)
    axes: list[Factors] = []
    for n in shape:
        taken: list[Factor] = []
        while n > 1:
            factor = rest.pop(0)
            common = math.gcd(n, factor.size)
            if common != min(n, factor.size):
                return None
            inner = factor.size // common
            taken.append(Factor(factor.axis, common, factor.stride * inner))
            if inner > 1:
                rest.insert(0, Factor(factor.axis, inner, factor.stride))
            n //= common
        axes.append(tuple(taken))
    return axes


def split_axis(view: View, axis: int, outer: int) -> View | None:
    """A view whose axis becomes two, the first of which has `outer` values."""
    shape = [outer, size(view.axes[axis]) // outer]
    split = _split(tuple(f for f in view.axes[axis] if f.size > 1), shape)
    if split is None:
        return None
    return view._replace(axes=(*view.axes[:axis], *split, *view.axes[axis + 1 :]))
