"""A network on steps, which follow from one price of a bit or are given."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._types import DenseLeaf, Progress, SharedLeaf
from deepcomp_jax.feedback import loops, threads
from deepcomp_jax.feedback.matrices import Matrices
from deepcomp_jax.feedback.preparing import LEAST_SIZE, Prepared
from deepcomp_jax.format import scales

_EIGHTHS = 8  # exponents of an octave
_FAR = 10  # octaves; steps that are farther from 1 are counted from a power of two
_FINEST = 4000  # steps in the largest weight of a leaf, of a column like most
_MOST = 8000  # in that of any column
_BLOCK = 1 << 16  # labels that are looked up at a time
_BITS = 8  # significant ones of values that are not multiplied with anything

_Steps = tuple[NDArray[np.float32], NDArray[np.float32]]  # of rows and of columns

Quantized = dict[str, tuple[DenseLeaf | SharedLeaf, np.ndarray | None]]


def quantize(
    prepared: Prepared, rd_lambda: float, progress: Progress | None = None
) -> Quantized:
    """Rounds all leaves, at one price of a bit.

    A step of sqrt(6 lambda / (ln 2 * importance)) is where a bit less costs as much as
    it is worth, for uniform errors (Gish and Pierce, IEEE Trans. Inf. Theory 14, 1968).
    Importance is a product of one of the row and one of the column, and so is the step.

    Args:
        prepared: The network.
        rd_lambda: What a bit costs, in the unit of the sensitivities.
        progress: Is told of each leaf that is done; nothing is written yet.

    Returns:
        Leaves and codebooks by name, as `api.compression.assembled` takes them.
    """

    def finished(name: str) -> tuple[DenseLeaf | SharedLeaf, np.ndarray | None]:
        leaf = prepared.leaves[name]
        if name in prepared.matrices:
            return _rounded(leaf, prepared.matrices[name], rd_lambda)
        return DenseLeaf(_shortened(leaf)), None

    found = threads.each(finished, prepared.leaves, progress)
    return found | {name: found[first] for name, first in prepared.copies.items()}


def on_steps(prepared: Prepared, steps: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Rounds leaves to multiples of one step each.

    Args:
        prepared: The network.
        steps: A step for each leaf that is to be rounded, by name: of leaves that are
            multiplied with something, or looked up.

    Returns:
        The rounded leaves by name, in their dtypes.
    """
    first = {name: prepared.copies.get(name, name) for name in steps}

    def finished(name: str) -> np.ndarray:
        leaf, own = prepared.leaves[first[name]], prepared.matrices[first[name]]
        stacked = own.stack(leaf).astype(np.float32, copy=False)
        count, m, n = stacked.shape
        step = np.float32(steps[name])
        each = [(np.full(m, step), np.ones(n, np.float32))] * count
        rounded = _labels(own, stacked, each) * step
        return own.unstack(rounded, leaf.shape).astype(leaf.dtype)

    return threads.each(
        finished, {name: prepared.leaves[first[name]] for name in steps}
    )


def _shortened(leaf: np.ndarray) -> np.ndarray:
    """Values with 8 significant bits, as bfloat16 has them.

    Biases and scales are few, and their errors add up over all that is computed: 1 in
    500 each. What remains of their bits costs nothing in planes of bytes.
    """
    if leaf.size < LEAST_SIZE:
        return leaf
    mantissa, exponent = np.frexp(leaf.astype(np.float64))
    whole = mantissa * 2**_BITS
    short = np.ldexp(np.rint(whole), exponent - _BITS)
    # The largest number of a dtype must not become infinite.
    is_above = np.abs(short) > np.abs(leaf).max()
    lower = np.ldexp(np.trunc(whole), exponent - _BITS)
    return np.where(is_above, lower, short).astype(leaf.dtype)


# ---- a leaf -------------------------------------------------------------------------


def _rounded(
    leaf: np.ndarray, own: Matrices, rd_lambda: float
) -> tuple[DenseLeaf | SharedLeaf, np.ndarray | None]:
    """A leaf on its steps."""
    stacked = own.stack(leaf).astype(np.float32, copy=False)
    count, m, n = stacked.shape
    octaves = [octaves_of(own, stacked, i, rd_lambda) for i in range(count)]
    middle = float(np.mean([of_rows.mean() for of_rows, _ in octaves]))
    base = round(middle) if abs(middle) > _FAR else 0
    of_rows, of_columns = np.zeros((count, m), np.int8), np.zeros((count, n), np.int8)
    steps: list[_Steps] = []
    for i, (rows, columns) in enumerate(own.sides):
        first, last = _exponents(octaves[i][0] - base, octaves[i][1])
        steps.append((_scale(first) * np.float32(2.0**base), _scale(last)))
        of_rows[i, rows.order], of_columns[i, columns.order] = first, last
    coded = _coded(_labels(own, stacked, steps), leaf.dtype, 2.0**base)
    if coded is None:
        return DenseLeaf(np.zeros_like(leaf)), None
    flat, codebook = coded
    found = own.scales(of_rows, of_columns, leaf.shape)
    return SharedLeaf(own.unstack(flat, leaf.shape), 0, scales=found), codebook


def _labels(
    own: Matrices, stacked: NDArray[np.float32], steps: Sequence[_Steps]
) -> NDArray[np.int32]:
    """Factors of the steps of rows and columns; these are in the order of the sides."""
    labels = np.zeros(stacked.shape, np.int32)
    for i, (rows, columns) in enumerate(own.sides):
        order = np.ix_(rows.order, columns.order)
        found = loops.rounded(stacked[i][order], steps[i], rows.unit, columns.unit)
        labels[i][order] = found
    return labels


def octaves_of(
    own: Matrices, stacked: NDArray[np.float32], number: int, rd_lambda: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of the steps of rows and of columns, to base 2, in their order.

    Args:
        own: The matrices of a leaf.
        stacked: Their weights.
        number: Of one of them.
        rd_lambda: What a bit costs.
    """
    rows, columns = own.sides[number]
    price = 6 * rd_lambda / (math.log(2) * own.importance[number])
    of_columns = -np.log2(columns.weights) / 2
    middle = of_columns.mean()
    of_rows = (math.log2(price) - np.log2(rows.weights)) / 2 + middle
    # Finer steps would need more entries than a codebook may have.
    largest = np.abs(stacked[number]).max(0, initial=0)[columns.order]
    largest[largest == 0] = largest.max(initial=0) or 1.0
    of_rows = np.maximum(of_rows, math.log2(largest.max(initial=0) / _FINEST))
    finest = np.log2(largest / _MOST) - of_rows.min(initial=np.inf)
    return of_rows, np.maximum(of_columns - middle, finest)


def _exponents(
    of_rows: NDArray[np.float64], of_columns: NDArray[np.float64]
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Steps in eighths of octaves.

    Where all rows are alike, columns take up what rounding leaves: each at another
    price, so that a large table does not jump from one size to the next.
    """
    first = _int8(of_rows)
    left = np.mean(_EIGHTHS * of_rows - first) / _EIGHTHS
    return first, _int8(of_columns + np.clip(left, -0.5, 0.5))


def _int8(octaves: NDArray[np.float64]) -> NDArray[np.int8]:
    return np.rint(_EIGHTHS * octaves).clip(-128, 127).astype(np.int8)


def _scale(exponents: NDArray[np.int8]) -> NDArray[np.float32]:
    return scales.TABLE[exponents.view(np.uint8)]


def _coded(
    factors: NDArray[np.int32], dtype: np.dtype, base: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels and a codebook for factors of steps; None if all are zero."""
    flat = factors.ravel()
    least, most = int(flat.min(initial=0)), int(flat.max(initial=0))
    # NumPy makes indices of eight bytes.
    blocks = [slice(first, first + _BLOCK) for first in range(0, flat.size, _BLOCK)]
    counts = np.zeros(most - least + 1, np.int64)
    for block in blocks:
        counts += np.bincount(flat[block] - least, minlength=counts.size)
    every = np.flatnonzero(counts) + least
    every = every[every != 0]
    if not every.size:
        return None
    width = np.uint8 if every.size < 1 << 8 else np.uint16
    label_of = np.zeros(counts.size, width)
    label_of[every - least] = np.arange(1, every.size + 1)
    labels = np.empty(flat.size, width)
    for block in blocks:
        labels[block] = label_of[flat[block] - least]
    return labels.reshape(factors.shape), (every * base).astype(dtype)
