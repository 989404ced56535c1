"""Leaves as stacks of matrices, with what an error costs along their sides."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._types import Scales
from deepcomp_jax.calibration import Use
from deepcomp_jax.feedback.metric import Side, alike, side

Axes = tuple[int, ...]


class Matrices(NamedTuple):
    """A leaf as matrices, and what an error in each costs.

    Attributes:
        stack_axes, rows, columns: Axes of the leaf that count the matrices, and those
            that are their rows and their columns.
        shape: Number of matrices, rows and columns.
        sides: Rows and columns of each.
        importance: What a squared error of a weight costs on average, [matrices].
    """

    stack_axes: Axes
    rows: Axes
    columns: Axes
    shape: tuple[int, int, int]
    sides: tuple[tuple[Side, Side], ...]
    importance: NDArray[np.float64]

    @property
    def axes(self) -> Axes:
        """All axes of the leaf, in the order of the matrices."""
        return (*self.stack_axes, *self.rows, *self.columns)

    def stack(self, leaf: np.ndarray) -> np.ndarray:
        """The matrices of a leaf."""
        return leaf.transpose(self.axes).reshape(self.shape)

    def unstack(self, stacked: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Matrices in the shape of the leaf."""
        moved = stacked.reshape([shape[axis] for axis in self.axes])
        return np.ascontiguousarray(moved.transpose(np.argsort(self.axes)))

    def scales(
        self,
        of_rows: NDArray[np.int8],
        of_columns: NDArray[np.int8],
        shape: Sequence[int],
    ) -> Scales:
        """Exponents as a file has them, where rows and columns are axes side by side.

        Axes from the last one on that are of one kind are one side, those before them
        that are of the other kind the other, and exponents are said again for each
        index of the axes that remain.

        Args:
            of_rows: int8[matrices, rows].
            of_columns: int8[matrices, columns].
            shape: Of the leaf.
        """
        both = [
            self.unstack(np.broadcast_to(own, self.shape), shape)
            for own in (of_rows[:, :, None], of_columns[:, None, :])
        ]
        kind_of = {axis: kind for kind, own in enumerate(self[:3]) for axis in own}
        kinds = [kind_of[axis] for axis in range(len(shape))]
        split = _begin_of_run(kinds, shape, len(shape))
        batch = _begin_of_run(kinds, shape, split)
        sizes = [math.prod(own) for own in (shape[:batch], shape[batch:split])]
        seen = [own.reshape(*sizes, -1) for own in both]
        last_is_row = any(
            kinds[axis] == 1 and shape[axis] > 1 for axis in range(split, len(shape))
        )
        above, beside = seen[::-1] if last_is_row else seen
        return Scales(batch, split, above[:, :, 0].copy(), beside[:, 0].copy())


def _begin_of_run(kinds: Sequence[int], shape: Sequence[int], end: int) -> int:
    """Where the axes begin that end before one and are rows, or columns, together."""
    found: set[int] = set()
    for begin in range(end, 0, -1):
        if shape[begin - 1] > 1:
            found.add(kinds[begin - 1])
            if 0 in found or len(found) > 1:
                return begin
    return 0


class _Moments(NamedTuple):
    """Axes of a leaf, and the moments along rows and columns.

    Moments are [*stack, n, n] or [*stack, n], or None where all are alike.
    """

    stack: Axes
    rows: Axes
    columns: Axes
    of_rows: np.ndarray | None
    of_columns: np.ndarray | None


def matrices(
    shape: Sequence[int], uses: Sequence[Use], importance: np.ndarray, damping: float
) -> Matrices:
    """The matrices of a leaf.

    Args:
        shape: Of the leaf.
        uses: What it is multiplied with, once at least.
        importance: What a squared error of a weight costs, of the leaf or of each
            matrix.
        damping: Of moments of inputs; those of derivatives get half of it.
    """
    found = _moments(uses[0])
    for use in uses[1:]:
        found = _together(found, _moments(use))
    count, m, n = (math.prod(shape[axis] for axis in axes) for axes in found[:3])
    rows = _flat(found.of_rows, count, m)
    columns = _flat(found.of_columns, count, n)
    # A table's columns are what comes out of it.
    of_columns = damping / 2 if uses[0].kind == "table" else damping
    each = np.broadcast_to(importance.ravel() if importance.ndim else importance, count)
    if count > 1 and m == 1 and columns is not None:
        return _of_vectors(found, each, columns, of_columns)
    sides = tuple(
        (
            alike(m) if rows is None else side(rows[i], damping / 2),
            alike(n) if columns is None else side(columns[i], of_columns),
        )
        for i in range(count)
    )
    return Matrices(*found[:3], (count, m, n), sides, each)


def _of_vectors(
    found: _Moments, each: np.ndarray, columns: np.ndarray, damping: float
) -> Matrices:
    """One matrix of a stack of vectors, such as the windows of a depthwise convolution.

    They share the steps of columns: each with its own would have an exponent for every
    weight.

    Args:
        found: The axes.
        each: Importance of each vector, [vectors].
        columns: Their moments, [vectors, n, n] or [vectors, n].
        damping: Of these.
    """
    means = _diagonal(columns, 1).mean(axis=1)
    shares = np.where(means > 0, each / np.where(means > 0, means, 1), 0)
    order = np.argsort(-each, kind="stable")
    rows = Side(order, each[order] / each.mean(), None)
    both = rows, side(np.tensordot(shares, columns, 1), damping)
    shape = (1, each.size, columns.shape[1])
    axes = (*found.stack, *found.rows)
    return Matrices((), axes, found.columns, shape, (both,), np.full(1, each.mean()))


def fits(use: Use, shape: Sequence[int]) -> bool:
    """Whether a use is that of a leaf of a shape."""
    if sorted((*use.batch, *use.inputs, *use.outputs)) != list(range(len(shape))):
        return False
    batch = tuple(shape[axis] for axis in use.batch)
    sides = (use.inputs, use.input_moments), (use.outputs, use.output_moments)
    for axes, moments in sides:
        size = math.prod(shape[axis] for axis in axes)
        if moments.shape not in ((*batch, size), (*batch, size, size)):
            return False
    return True


def alone(shape: Sequence[int], importance: np.ndarray) -> Matrices:
    """A leaf that is multiplied with nothing that could be followed.

    Args:
        shape: Of the leaf, with one axis at least.
        importance: What a squared error of a weight costs on average.
    """
    *rows, column = range(len(shape))
    m = math.prod(shape[:-1])
    both = alike(m), alike(shape[-1])
    each = np.full(1, importance.mean())
    return Matrices((), tuple(rows), (column,), (1, m, shape[-1]), (both,), each)


def _moments(use: Use) -> _Moments:
    inputs, outputs = use.input_moments, use.output_moments
    if use.kind == "table":
        # How often a row was looked up says nothing of other data.
        return _Moments(use.batch, use.inputs, use.outputs, None, outputs)
    return _Moments(use.batch, use.outputs, use.inputs, outputs, inputs)


def _together(first: _Moments, other: _Moments) -> _Moments:
    """Two uses of a leaf, as an embedding has that is an output layer too.

    The first alone counts if the other one has other axes as rows and columns.
    """
    if other[:3] == (first.stack, first.columns, first.rows):
        other = _Moments(*first[:3], other.of_columns, other.of_rows)
    if other[:3] != first[:3]:
        return first
    stacked = len(first.stack)
    return first._replace(
        of_rows=_added(first.of_rows, other.of_rows, stacked),
        of_columns=_added(first.of_columns, other.of_columns, stacked),
    )


def _added(
    first: np.ndarray | None, other: np.ndarray | None, stacked: int
) -> np.ndarray | None:
    """Moments in shares of their means, added up; those of all pairs if both are."""
    if first is None or other is None:
        return None
    both = [_shares(own, stacked) for own in (first, other)]
    if both[0].ndim != both[1].ndim:
        both = [_diagonal(own, stacked) for own in both]
    return both[0] + both[1]


def _diagonal(moments: np.ndarray, stacked: int) -> np.ndarray:
    if moments.ndim == stacked + 1:
        return moments
    return np.diagonal(moments, axis1=-2, axis2=-1)


def _shares(moments: np.ndarray, stacked: int) -> np.ndarray:
    mean = _diagonal(moments, stacked).mean()
    return moments / mean if mean > 0 else moments


def _flat(moments: np.ndarray | None, count: int, size: int) -> np.ndarray | None:
    """Moments with one axis that counts matrices."""
    if moments is None:
        return None
    pairs = moments.size > count * size
    return moments.reshape((count, size, size) if pairs else (count, size))
