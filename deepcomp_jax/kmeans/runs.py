"""Values in ascending order, with the sums that make any run of them cheap to price.

A run is one value or more that stand side by side. Large inputs are not sorted: the
bins of a histogram stand in for their values.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcomp_jax.kmeans.float_histogram import histogram

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MANY = 1 << 20  # values that are sorted; of types of two bytes or fewer, `MANY_SHORT`
MANY_SHORT = 1 << 16
_TINY = 2.0**-50  # least importance of a value, as a share of their sum


class Runs(NamedTuple):
    """Sorted values, with the prefix sums that make any run of them cheap to sum up."""

    values: Floats  # [n] ascending
    weight: Floats  # [n + 1] scaled importance of the values before position i
    moment: Floats  # [n + 1] scaled importance times centered, scaled value, likewise
    energy: float  # sum of scaled importance times squared centered, scaled value
    center: float  # mean of the scaled values
    scale: float  # a power of two: scaled value = value * scale
    total: float  # sum of the importances, not scaled
    unit: float  # a squared error in units of the caller = scaled one * unit
    distinct: Ints  # positions at which a new value begins; the first is 0


def ordered(
    values: ArrayLike, importance: ArrayLike | None
) -> tuple[Floats, Floats | None]:
    """Checks and sorts values; those of importance zero are left out.

    Returns:
        The values in ascending order and their importances (None if all are 1).

    Raises:
        TypeError: `values` are complex.
        ValueError: Values or importances are not finite, an importance is negative,
            all are zero, or the shapes differ.
    """
    flat, weights = _flat(values, importance)
    flat = flat if flat.dtype == np.float32 else flat.astype(np.float64)
    _check_all(np.isfinite(flat), flat, "values must be finite")
    if weights is None:
        return np.sort(flat).astype(np.float64) + 0.0, None  # + 0.0: no negative zero
    order = np.argsort(flat, kind="stable")
    order = order[weights[order] > 0]
    if flat.size and not order.size:
        raise ValueError("importance must not be zero for every value")
    return flat[order].astype(np.float64) + 0.0, weights[order]


def _flat(
    values: ArrayLike, importance: ArrayLike | None
) -> tuple[np.ndarray, Floats | None]:
    given = np.asarray(values)
    if np.iscomplexobj(given):
        raise TypeError(f"values must be real, got {given.dtype}")
    if importance is None:
        return given.ravel(), None
    weights = np.asarray(importance, np.float64)
    if weights.shape != given.shape:
        raise ValueError(f"importance has shape {weights.shape}, values {given.shape}")
    weights = weights.ravel()
    valid = (weights >= 0) & np.isfinite(weights)
    _check_all(valid, weights, "importance must be finite and not negative")
    return given.ravel(), weights


def _check_all(
    valid: NDArray[np.bool_], given: NDArray[np.floating], rule: str
) -> None:
    if not valid.all():
        at = int(np.argmin(valid))
        raise ValueError(f"{rule}: got {given[at]} at flat index {at}")


def _power_of_two(size: float) -> float:
    """A factor that brings `size` between 1/2 and 1, or near it, without rounding."""
    exponent = int(np.clip(np.frexp(size)[1], -1000, 1000))
    return float(np.ldexp(1.0, -exponent))


def summed(values: ArrayLike, importance: ArrayLike | None) -> Runs:
    """Sorts values and prepares their sums; errors as `ordered`."""
    return _runs(*ordered(values, importance))


def binned(
    values: ArrayLike, importance: ArrayLike | None, bits: int
) -> tuple[Runs, float] | None:
    """The same of the bins of a histogram, where there are enough values for one.

    Args:
        values, importance: As for `ordered`.
        bits: As for `histogram`.

    Returns:
        The runs, and the squared error of taking all values for the means of their
        bins, scaled as `energy` is, if they are spread evenly in each; None where
        values should be sorted, as also where they are not as described.
    """
    flat, weights = _flat(values, importance)
    if flat.size <= (MANY if flat.dtype.itemsize > 2 else MANY_SHORT):
        return None
    shrink = 1.0
    if weights is not None:
        shrink = _power_of_two(weights.max())
        weights = weights * shrink
    found = histogram(flat, weights, bits)
    if found is None:
        return None
    runs = _runs(found.values, found.weight / shrink)
    widths = found.width * runs.scale
    return runs, float(np.dot(np.diff(runs.weight), widths * widths)) / 12


def _runs(x: Floats, weights: Floats | None) -> Runs:
    if x.size == 0:
        zero = np.zeros(1)
        return Runs(x, zero, zero, 0.0, 0.0, 1.0, 0.0, 1.0, np.zeros(0, np.int64))
    distinct = np.flatnonzero(np.append(True, x[1:] != x[:-1])[: x.size])
    scale = _power_of_two(max(abs(x[0]), abs(x[-1])))
    weight, shrink = np.arange(x.size + 1.0), 1.0
    if weights is not None:
        shrink = _power_of_two(weights.max())
        weights = weights * shrink
        # Otherwise the running sum would absorb the least ones and stand still.
        weights = np.maximum(weights, _TINY * weights.sum())
        np.cumsum(weights, out=weight[1:])
    scaled = x * scale
    total = scaled.sum() if weights is None else np.dot(scaled, weights)
    center = float(total / weight[-1])
    scaled -= center
    weighted = scaled if weights is None else scaled * weights
    moment = np.zeros(x.size + 1)
    np.cumsum(weighted, out=moment[1:])
    energy = float(np.dot(weighted, scaled))
    sizes = energy, center, scale, float(weight[-1]) / shrink
    return Runs(x, weight, moment, *sizes, 1 / shrink / scale / scale, distinct)
