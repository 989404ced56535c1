"""Uniform grids: codebooks of the multiples of a step, and the step for a lambda."""

import math
from collections.abc import Callable

import numpy as np

from deepcomp_jax.rules import ShareMethod
from deepcomp_jax.share.methods import short_step

MAX_ENTRIES = 1000  # of a grid
_BLOCK = 1 << 16  # values looked at together


def grid(step: float) -> ShareMethod:
    """The multiples of a step that weights are nearest to, without zero.

    With rate-distortion quantization and an entropy coder a uniform grid is better than
    k-means (arXiv 1612.01543, table 1), and it takes a few bytes in a file.

    Args:
        step: Between entries; is raised where weights would need more than 1000. One
            weight that is far from all others needs one entry.

    Raises:
        ValueError: The step is not positive and finite.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import rate
        >>> rate.grid(0.5)(np.array([-0.6, 0.9, 7.0]), None)
        array([-0.5,  0.5,  1. ,  7. ])
    """
    _check_step(step)

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        del importance
        own, factors = _fitting(values, step)
        factors = np.union1d(factors, [-1.0, 1.0])
        return own * factors[factors != 0]

    return method


def multiples(step: float) -> ShareMethod:
    """The multiples of a step that weights are nearest to, with zero, for `compress`.

    Args:
        step: As for `grid`.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import rate
        >>> rate.multiples(0.5)(np.array([0.1, -0.6, 0.9, 7.0]), None)
        array([-0.5,  0. ,  1. ,  7. ])
    """
    _check_step(step)

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        del importance
        own, factors = _fitting(values, step)
        return own * factors

    return method


def rounded(step: float, dtype: np.dtype) -> float:
    """A step near to one, that takes few bytes in the file of a leaf of a dtype.

    One that the leaf could not hold could not be found from its entries.
    """
    if dtype.itemsize > 2:
        return short_step(step)
    with np.errstate(over="ignore"):
        own = float(np.array(step).astype(dtype))
    return own if abs(own - step) < step / 128 else short_step(step)


def fitting(count: Callable[[float], int], step: float, dtype: np.dtype) -> float:
    """The step of a grid that was asked for, or a coarser one that needs few entries.

    Args:
        count: How many multiples of a step are some weight's nearest.
        step: What was asked for.
        dtype: Of the leaf.
    """
    own = rounded(step, dtype)
    while count(own) > MAX_ENTRIES:
        own = rounded(1.25 * own, dtype)
    return own


def _check_step(step: float) -> None:
    if not 0 < step < np.inf:
        raise ValueError(f"the step of a grid must be positive and finite, got {step}")


def _fitting(values: np.ndarray, step: float) -> tuple[float, np.ndarray]:
    """The step of a grid, and the factors of it that occur."""
    found = np.zeros(0)

    def count(tried: float) -> int:
        nonlocal found
        found = _factors(values, tried)
        return found.size

    own = fitting(count, step, values.dtype)  # what it counted last
    return own, found


def _factors(values: np.ndarray, step: float) -> np.ndarray:
    """The integers that values are nearest to, in steps, ascending, float64[n].

    No more than `MAX_ENTRIES` and those of a further block are told apart.
    """
    found = np.zeros(0)
    for first in range(0, values.size, _BLOCK):
        part = np.rint(values[first : first + _BLOCK] / np.float64(step)) + 0.0
        low, high = float(part.min()), float(part.max())
        if high - low < _BLOCK:  # marks are faster than sorting
            marks = np.zeros(int(high - low) + 1, bool)
            marks[(part - low).astype(np.intp)] = True
            part = low + np.flatnonzero(marks)
        found = np.union1d(found, part)
        if found.size > MAX_ENTRIES:
            break
    return found


def lambda_for_step(step: float, importance: float) -> float:
    """The lambda that suits a uniform grid.

    At high rates a step d causes a distortion of d**2 / 12 and changes by a factor of
    two for each bit; a bit is worth just lambda where that is
    ln 2 / 6 * importance * d**2.

    Args:
        step: Of the grid.
        importance: Mean of the weights'.

    Examples:
        >>> from deepcomp_jax import rate
        >>> round(rate.lambda_for_step(step=2.0, importance=1.0), 4)
        0.4621
    """
    return math.log(2) / 6 * importance * step**2


def step_for_lambda(rd_lambda: float, importance: float = 1.0) -> float:
    """The step that suits a lambda, the inverse of `lambda_for_step`."""
    return math.sqrt(rd_lambda) / math.sqrt(lambda_for_step(1.0, importance))


def grid_for_lambda(rd_lambda: float) -> ShareMethod:
    """A uniform grid whose step suits lambda, the inverse of `lambda_for_step`.

    Args:
        rd_lambda: What a bit costs, as for `rdoq`; above 0.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import rate
        >>> rd_lambda = rate.lambda_for_step(step=0.5, importance=1.0)
        >>> rate.grid_for_lambda(rd_lambda)(np.array([0.9, 2.1]), None)
        array([-0.5,  0.5,  1. ,  2. ])
    """

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        mean = 1.0 if importance is None else float(importance.mean(dtype=np.float64))
        return grid(step_for_lambda(rd_lambda, mean))(values, importance)

    return method
