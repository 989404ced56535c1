"""Histograms of weights: all that the bits and the errors of a grid depend on.

One pass over a leaf, in a few megabytes, and every step can be tried without the leaf.
Values of two bytes are counted exactly. Wider ones are counted in bins of a thousandth
of their size, down to 32 octaves below the greatest, which tells the labels of the
finest grids apart beside any outlier.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.kmeans import float_histogram

_BITS, _OCTAVES = 10, 32  # bins in an octave, as a power of two; and below the greatest
_FEW = 1 << 13  # values that are sorted faster than counted


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
    binned = _binned(flat) if flat.size > _FEW else None
    if binned is None:  # there are few, or nearly all alike, or not all finite
        wide = flat.astype(np.float64 if flat.dtype.itemsize > 4 else np.float32)
        found, counts = np.unique(wide, return_counts=True)
    else:
        found, counts = binned
    if not np.isfinite(found[[0, -1]] if found.size else found).all():
        raise ValueError("NaN or infinity")
    kept = found != 0
    found, counts = found[kept], counts[kept]
    return Histogram(found, counts, flat.size - int(counts.sum()))


def _binned(flat: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]] | None:
    """Means of the bins that are not empty, ascending, and how many values they hold.

    None where they would not tell different values apart, and of NaN and infinity.
    """
    dtype = np.float64 if flat.dtype.itemsize > 4 else np.float32
    if flat.dtype.itemsize > 2 and np.count_nonzero(flat) < flat.size:
        flat = flat[flat != 0]  # zero would share a bin with the smallest values
        if not flat.size:
            return None
    found = float_histogram.histogram(flat, None, _BITS, _OCTAVES)
    if found is None:
        return None
    return found.values.astype(dtype), found.weight.astype(np.int64)
