"""A network on steps of rows and columns that follow from one price of a bit."""

import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import trees
from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.calibration import Calibration, floored
from deepcomp_jax.feedback import loops
from deepcomp_jax.feedback.matrices import Matrices, alone, fits, matrices
from deepcomp_jax.format import scales
from deepcomp_jax.rules.weights import find_weights

_EIGHTHS = 8  # exponents of an octave
_FAR = 10  # octaves; steps that are farther from 1 are counted from a power of two
_FINEST = 4000  # steps in the largest weight of a leaf
_MANY = 512  # examples from which moments are trusted more
_DAMPING = 0.25  # of moments of inputs
_DAMPING_OF_FEW = 0.4
_NOTHING = 1e-6  # of the importance of a typical leaf: it was not reached
_UNSEEN = 0.05  # of that importance is what such a leaf gets
_LEAST_SIZE = 17  # smaller leaves keep all their bits: they would save nothing
_BITS = 8  # significant ones of values that are not multiplied with anything

Quantized = dict[str, tuple[DenseLeaf | SharedLeaf, np.ndarray | None]]


class Prepared(NamedTuple):
    """A network and its statistics, as all sizes need them.

    Attributes:
        leaves: Those that are quantized, by name.
        matrices: Of those that are multiplied with something, or looked up.
    """

    leaves: Mapping[str, np.ndarray]
    matrices: Mapping[str, Matrices]


def prepare(
    variables: Any,
    calibration: Calibration,
    chosen: Iterable[str],
    *,
    damping: float | None = None,
) -> Prepared:
    """Factors the statistics of a network.

    Time grows with the third power of the width of a layer, memory is that of the
    statistics once more.

    Args:
        variables: The pytree that was calibrated.
        calibration: Its statistics.
        chosen: Names of the leaves that are to be quantized, float16, bfloat16 or
            float32.
        damping: What is added to all second moments of inputs, in units of their mean;
            those of derivatives get half of it. Strong damping keeps quality on data
            that are unlike the batches. By default 0.25, or 0.4 with fewer than 512
            examples.

    Raises:
        ValueError: The statistics are of other leaves, or a leaf holds NaN or infinity.
    """
    named = trees.named_leaves(variables)
    if damping is None:
        damping = _DAMPING if calibration.examples >= _MANY else _DAMPING_OF_FEW
    importance = floored(calibration, variables)
    weights = find_weights(variables)
    leaves = {name: _checked(name, named[name]) for name in chosen}
    found: dict[str, Matrices] = {}
    for name, leaf in leaves.items():
        if leaf.size < _LEAST_SIZE:
            continue
        if uses := calibration.leaves.get(name):
            if not all(fits(use, leaf.shape) for use in uses):
                raise ValueError(
                    f"the calibration is of a leaf {name!r} of another shape than "
                    f"{leaf.shape}: calibrate this network"
                )
            found[name] = matrices(leaf.shape, uses, importance[name], damping)
        elif name in weights:
            found[name] = alone(leaf.shape, importance[name])
    return Prepared(leaves, _floored(found, leaves))


def _floored(
    found: Mapping[str, Matrices], leaves: Mapping[str, np.ndarray]
) -> dict[str, Matrices]:
    """Gives importance to what no example reached.

    Such leaves get an error relative to their values that is a few times that of a
    typical one: an output that the function leaves out may be wanted elsewhere.
    """
    squares = {
        name: float(np.square(leaves[name], dtype=np.float32).mean()) for name in found
    }
    costs = {
        name: float(x.importance.mean()) * squares[name] for name, x in found.items()
    }
    typical = float(np.median([cost for cost in costs.values() if cost > 0] or [1.0]))
    return {
        name: own._replace(
            importance=np.full_like(own.importance, _UNSEEN * typical / squares[name])
        )
        if squares[name] > 0 and costs[name] < _NOTHING * typical
        else own
        for name, own in found.items()
    }


def _checked(name: str, leaf: Any) -> np.ndarray:
    values = np.asarray(leaf)
    if not np.isfinite(values.astype(np.float32)).all():
        raise ValueError(
            f"leaf {name!r} holds NaN or infinity: repair it, or leave it out by rules"
        )
    return values


def quantize(prepared: Prepared, rd_lambda: float) -> Quantized:
    """Rounds all leaves, at one price of a bit.

    A step of sqrt(6 lambda / (ln 2 * importance)) is where a bit less costs as much as
    it is worth, for uniform errors (Gish and Pierce, IEEE Trans. Inf. Theory 14, 1968).
    Importance is a product of one of the row and one of the column, and so is the step.

    Args:
        prepared: The network.
        rd_lambda: What a bit costs, in the unit of the sensitivities.

    Returns:
        Leaves and codebooks by name, as `api.compression.assembled` takes them.
    """

    def finished(name: str) -> tuple[DenseLeaf | SharedLeaf, np.ndarray | None]:
        leaf = prepared.leaves[name]
        if name in prepared.matrices:
            return _rounded(leaf, prepared.matrices[name], rd_lambda)
        return DenseLeaf(_shortened(leaf)), None

    # The longest first, so that no thread is left with one of them at the end.
    names = sorted(prepared.leaves, key=lambda name: -prepared.leaves[name].size)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(names, pool.map(finished, names), strict=True))


def _shortened(leaf: np.ndarray) -> np.ndarray:
    """Values with 8 significant bits, as bfloat16 has them.

    Biases and scales are few, and their errors add up over all that is computed: 1 in
    500 each. What remains of their bits costs nothing in planes of bytes.
    """
    if leaf.size < _LEAST_SIZE:
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
    stacked = own.stack(leaf).astype(np.float32)
    count, m, n = stacked.shape
    octaves = [octaves_of(own, stacked, i, rd_lambda) for i in range(count)]
    middle = float(np.mean([of_rows.mean() for of_rows, _ in octaves]))
    base = round(middle) if abs(middle) > _FAR else 0
    labels = np.zeros(stacked.shape, np.int32)
    of_rows, of_columns = np.zeros((count, m), np.int8), np.zeros((count, n), np.int8)
    for i, (rows, columns) in enumerate(own.sides):
        first, last = _exponents(octaves[i][0] - base, octaves[i][1])
        order = np.ix_(rows.order, columns.order)
        steps = _scale(first) * np.float32(2.0**base), _scale(last)
        found = loops.rounded(stacked[i][order], steps, rows.unit, columns.unit)
        labels[i][order] = found
        of_rows[i, rows.order], of_columns[i, columns.order] = first, last
    coded = _coded(labels, leaf.dtype, 2.0**base)
    if coded is None:
        return DenseLeaf(np.zeros_like(leaf)), None
    flat, codebook = coded
    found = own.scales(of_rows, of_columns, leaf.shape)
    return SharedLeaf(own.unstack(flat, leaf.shape), 0, scales=found), codebook


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
    largest = float(np.abs(stacked[number]).max(initial=0)) or 1.0
    return np.maximum(of_rows, math.log2(largest / _FINEST)), of_columns - middle


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
    least = int(factors.min(initial=0))
    counts = np.bincount((factors - least).ravel())
    every = np.flatnonzero(counts) + least
    every = every[every != 0]
    if not every.size:
        return None
    width = np.uint8 if every.size < 1 << 8 else np.uint16
    label_of = np.zeros(counts.size, width)
    label_of[every - least] = np.arange(1, every.size + 1)
    return label_of[factors - least], (every * base).astype(dtype)
