"""Histograms of weights: all that the bits and the errors of a grid depend on.

One pass over a leaf, in a few megabytes, and every step can be tried without the leaf.
Values of two bytes are counted exactly. Those of four are counted in bins of a
thousandth of their size, down to 32 octaves below the greatest, which tells the labels
of the finest grids apart. (Bins by the bits of the floating type need no sorting.)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_DROPPED = (
    13  # of 23 bits of a mantissa: what is left tells 1024 values an octave apart
)
_OCTAVES = 32  # below the greatest value that are told apart
_FEW = 1 << 13  # values that are sorted faster than counted
_BLOCK = 1 << 17  # values that are counted together


class Histogram(NamedTuple):
    """How often values other than zero occur in a leaf.

    Attributes:
        values: Of the bins, ascending, float[bins].
        counts: How many values of the leaf are in each, int64[bins].
        zeros: How many are zero.
    """

    values: NDArray[np.floating]
    counts: NDArray[np.integer]
    zeros: int

    @property
    def size(self) -> int:
        """Number of values of the leaf."""
        return int(self.counts.sum(dtype=np.int64)) + self.zeros

    def power(self) -> float:
        """Mean square of the values other than zero; 0 if there are none."""
        wide = self.values.astype(np.float64)
        total = float(self.counts @ np.square(wide))
        return total / max(self.size - self.zeros, 1)

    def magnitude(self) -> float:
        """Mean magnitude of the values other than zero; 0 if there are none."""
        total = float(self.counts @ np.abs(self.values.astype(np.float64)))
        return total / max(self.size - self.zeros, 1)

    def labels(self, step: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The multiples of a step that values are nearest to, and how many.

        Returns:
            Factors of the step, ascending whole numbers, float64[n], with zero if it
            occurs; and how often each does, int64[n].
        """
        factors = np.rint(self.values / np.float64(step))
        starts = np.flatnonzero(np.diff(factors, prepend=np.nan))
        counts = np.add.reduceat(self.counts, starts, dtype=np.int64)[: starts.size]
        factors = factors[starts] + 0.0  # no zero has a sign
        if self.zeros:
            at = int(np.searchsorted(factors, 0))
            if at == factors.size or factors[at]:
                factors, counts = np.insert(factors, at, 0), np.insert(counts, at, 0)
            counts[at] += self.zeros
        return factors, counts

    def distortion(self, step: float) -> float:
        """Mean squared error of the nearest multiples, over the values not zero."""
        wide = self.values.astype(np.float64)
        errors = wide - step * np.rint(wide / step)
        total = float(self.counts @ np.square(errors))
        return total / max(self.size - self.zeros, 1)


def histogram(values: np.ndarray) -> Histogram:
    """Counts the values of a leaf.

    Args:
        values: Of a floating type of two bytes or more, any shape.

    Raises:
        ValueError: There is NaN or infinity.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.rate.histograms import histogram
        >>> found = histogram(np.array([0.5, -1.0, 0.5, 0.0], np.float32))
        >>> found.values, found.counts, found.zeros
        (array([-1. ,  0.5], dtype=float32), array([1, 2]), 1)
    """
    flat = values.ravel()
    if flat.size <= _FEW:
        found, counts = np.unique(flat.astype(_wide(flat.dtype)), return_counts=True)
    elif flat.dtype.itemsize == 2:
        found, counts = _each(flat)
    else:
        found, counts = _binned(flat)
    if not np.isfinite(found[-1:]).all() or not np.isfinite(found[:1]).all():
        raise ValueError("NaN or infinity")
    kept = found != 0
    zeros = int(counts[~kept].sum())
    return Histogram(found[kept], counts[kept], zeros)


def _wide(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float64 if dtype.itemsize > 4 else np.float32)


def _each(flat: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
    """The values of two bytes that occur, ascending, and how often."""
    bits = flat.view(np.uint16)
    counts = np.zeros(1 << 16, np.int64)
    for first in range(0, bits.size, _BLOCK):
        counts += np.bincount(bits[first : first + _BLOCK], minlength=counts.size)
    used = np.flatnonzero(counts).astype(np.uint16)
    values = used.view(flat.dtype).astype(np.float32)
    order = np.argsort(values, kind="stable")  # NaN is last
    return values[order], counts[used[order]]


def _binned(flat: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
    """Middles of the bins that are not empty, ascending, and how often they are hit."""
    top = float(np.abs(flat).max())
    if not np.isfinite(top):
        return np.array([np.nan]), np.array([flat.size])
    exponent = int(np.frexp(top)[1])
    # Bins are of float32, with the greatest value from a half to one.
    bins = (_OCTAVES << (23 - _DROPPED)) + 1  # of each sign; the first is zero
    least = (127 << (23 - _DROPPED)) - bins
    counts = np.zeros(2 * bins, np.int64)
    for first in range(0, flat.size, _BLOCK):
        part = np.ldexp(flat[first : first + _BLOCK], -exponent)
        bits = part.astype(np.float32).view(np.uint32)
        at = ((bits & 0x7FFFFFFF) >> _DROPPED).astype(np.int32)
        at = np.clip(at - least, 0, bins - 1) + bins * (bits >> 31).astype(np.int32)
        counts += np.bincount(at, minlength=counts.size)
    used = np.flatnonzero(counts)
    negative, at = np.divmod(used, bins)
    middles = ((at + least) << _DROPPED) + (1 << (_DROPPED - 1))
    values = middles.astype(np.uint32).view(np.float32).astype(np.float64)
    values = np.ldexp(np.where(at > 0, values, 0), exponent)
    values = np.where(negative, -values, values)
    order = np.argsort(values, kind="stable")
    return values[order].astype(_wide(flat.dtype)), counts[used[order]]
