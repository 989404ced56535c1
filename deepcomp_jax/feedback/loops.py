"""Rounding to multiples of steps, each error made good by the weights still to come.

A matrix is cut into cells of 64 x 64 weights. A program of one shape rounds a cell, and
products of matrices carry the errors from cell to cell, so that nothing is compiled for
another network. Within a cell the weights of an antidiagonal do not depend on each
other, and are rounded together.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

CELL = 64
_STRIP = 2048  # rows that are rounded together where they are independent

Labels = NDArray[np.int32]
_Array = NDArray[np.float32]


def rounded(
    weights: _Array,
    steps: tuple[_Array, _Array],
    rows: _Array | None,
    columns: _Array | None,
) -> Labels:
    """Rounds a matrix.

    Each label is the nearest to its target, which is the weight and a share of the
    errors of weights before it, in rows and columns (arXiv 2505.22988, equation 9).

    Args:
        weights: float32[m, n].
        steps: Of rows, [m], and columns, [n]: a weight is rounded to multiples of the
            product of its two.
        rows: How errors go on from row to row, [m, m], see `metric.Side.unit`; or None.
        columns: The same from column to column, [n, n].

    Returns:
        The factors of the steps, int32[m, n].
    """
    if rows is None and columns is None:
        return np.rint(weights / steps[0][:, None] / steps[1]).astype(np.int32)
    if columns is None:
        return rounded(weights.T, (steps[1], steps[0]), columns, rows).T
    shape = weights.shape
    weights, columns = _padded(weights), _padded(columns)
    of_rows, of_columns = (_padded(own, 1) for own in steps)
    if rows is None:
        found = _in_strips(weights, (of_rows, of_columns), columns)
    else:
        found = _in_cells(weights, (of_rows, of_columns), _padded(rows), columns)
    return found[: shape[0], : shape[1]]


def _padded(array: np.ndarray, filling: float = 0) -> np.ndarray:
    """An array with all dimensions filled up to multiples of a cell."""
    widths = [(0, -size % CELL) for size in array.shape]
    return np.pad(array, widths, constant_values=filling)


def _product(left: _Array, right: _Array) -> _Array:
    """A product of matrices, cell by cell.

    Of cells BLAS makes no threads, which would compete with those of other leaves.
    """
    rows, inner, columns = (size // CELL for size in (*left.shape, right.shape[1]))
    found = np.zeros((rows, columns, CELL, CELL), np.float32)
    cells = left.reshape(rows, 1, CELL, inner, CELL)
    others = right.reshape(inner, CELL, columns, CELL).swapaxes(1, 2)
    for k in range(inner):
        found += cells[..., k, :] @ others[k]
    return found.swapaxes(1, 2).reshape(left.shape[0], right.shape[1])


# ---- rows and columns ---------------------------------------------------------------


def _in_cells(
    weights: _Array, steps: tuple[_Array, _Array], rows: _Array, columns: _Array
) -> Labels:
    """Rounds a matrix with feedback on both sides."""
    labels = np.zeros(weights.shape, np.int32)
    errors = np.zeros_like(weights)
    carried = np.empty((len(weights), CELL), np.float32)
    for start in range(0, weights.shape[1], CELL):
        across = slice(start, start + CELL)
        wanted = _product(errors[:, :start], columns[:start, across])
        wanted += weights[:, across]
        for first in range(0, len(weights), CELL):
            down = slice(first, first + CELL)
            size = steps[0][down, None] * steps[1][across]
            found, left = _cell(
                weights[down, across],
                wanted[down],
                _product(rows[:first, down].T, carried[:first]),
                columns[across, across],
                rows[down, down],
                size,
            )
            labels[down, across], carried[down] = found, left
            errors[down, across] = weights[down, across] - labels[down, across] * size
    return labels


@jax.jit
def _cell(
    weights: jax.Array,
    wanted: jax.Array,
    from_rows: jax.Array,
    columns: jax.Array,
    rows: jax.Array,
    steps: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Rounds a cell.

    Args:
        weights: [CELL, CELL], as all others.
        wanted: The weights with the errors of columns before the cell.
        from_rows: What the errors of rows before it add.
        columns, rows: How errors go on within it.
        steps: The products of steps.

    Returns:
        Labels, int32, and what rows after the cell have to make good.
    """
    time, row = np.arange(2 * CELL - 1)[:, None], np.arange(CELL)
    inside = (time >= row) & (time - row < CELL)
    of_columns, of_rows = _shifting(jnp.triu(columns, 1)), jnp.triu(rows, 1)

    def step(carry: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]):
        targets, extras = carry
        at, is_inside, weight, size = now
        # Row i is at column `at` - i, and what it is rounded to adds to whole rows of
        # targets and of extras: sums over columns would be left to scalar code.
        start = (2 * CELL - 1 - at, 0)
        own = jax.lax.dynamic_slice(of_columns, start, (CELL, CELL))
        extra = jax.lax.dynamic_slice(extras, start, (CELL, CELL))
        target = targets[row, jnp.clip(at - row, 0, CELL - 1)]
        label = jnp.rint((target + extra[row, row]) / size)
        error = jnp.where(is_inside, weight - label * size, 0)
        left = jnp.where(is_inside, target - label * size, 0)
        targets = targets + error[:, None] * own
        extra = extra + left[:, None] * of_rows
        extras = jax.lax.dynamic_update_slice(extras, extra, start)
        return (targets, extras), (label, left)

    sizes = jnp.where(inside, _skewed(steps), 1)
    xs = jnp.arange(2 * CELL - 1), jnp.asarray(inside), _skewed(weights), sizes
    begin = wanted, _shifting(from_rows.T)
    _, found = jax.lax.scan(step, begin, xs)
    labels, left = (own[row[:, None] + row, row[:, None]] for own in found)
    return labels.astype(jnp.int32), left


def _skewed(cell: jax.Array) -> jax.Array:
    """The antidiagonals of a cell: [t, i] is [i, t - i], or 0 outside."""
    time, row = np.arange(2 * CELL - 1)[:, None], np.arange(CELL)
    column = time - row
    inside = (column >= 0) & (column < CELL)
    return jnp.where(inside, cell[row, column.clip(0, CELL - 1)], 0)


def _shifting(cell: jax.Array) -> jax.Array:
    """A cell upside down between zeros.

    The CELL rows from 2 CELL - 1 - t on are the rows t, t - 1, ... of the cell.
    """
    return jnp.pad(cell[::-1], ((CELL, CELL), (0, 0)))


# ---- columns alone ------------------------------------------------------------------


def _in_strips(
    weights: _Array, steps: tuple[_Array, _Array], columns: _Array
) -> Labels:
    """Rounds a matrix whose rows are independent."""
    labels = np.zeros(weights.shape, np.int32)
    errors = np.zeros((weights.shape[1], _STRIP), np.float32)
    for first in range(0, len(weights), _STRIP):
        own = weights[first : first + _STRIP]
        size = np.ones(_STRIP, np.float32)
        size[: len(own)] = steps[0][first : first + _STRIP]
        strip = np.zeros_like(errors)
        strip[:, : len(own)] = own.T
        for start in range(0, len(strip), CELL):
            across = slice(start, start + CELL)
            wanted = _product(columns[:start, across].T, errors[:start])
            wanted += strip[across]
            found, errors[across] = _strip(
                strip[across], wanted, columns[across, across], size, steps[1][across]
            )
            labels[first : first + _STRIP, across] = np.asarray(found).T[: len(own)]
    return labels


@jax.jit
def _strip(
    weights: jax.Array,
    wanted: jax.Array,
    columns: jax.Array,
    of_rows: jax.Array,
    of_columns: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Rounds CELL columns of _STRIP rows, both transposed; labels and errors."""

    def step(errors: jax.Array, now: tuple[jax.Array, ...]):
        at, weight, target, own, of_column = now
        size = of_rows * of_column
        label = jnp.rint((target + own @ errors) / size)
        return errors.at[at].set(weight - label * size), label

    # The errors of columns that are still to come are zero.
    xs = jnp.arange(CELL), weights, wanted, columns.T, of_columns
    errors, labels = jax.lax.scan(step, jnp.zeros_like(weights), xs)
    return labels.astype(jnp.int32), errors
