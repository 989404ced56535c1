"""Uniform grids: codebooks of the multiples of a step, and the step for a lambda."""

import math

import numpy as np

from deepcomp_jax.rules import ShareMethod
from deepcomp_jax.share.methods import short_step

MAX_ENTRIES = 1000  # of a grid


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
    if not 0 < step < np.inf:
        raise ValueError(f"the step of a grid must be positive and finite, got {step}")

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        del importance
        wide = values.astype(np.float64)
        own = short_step(step)
        while (factors := _multiples(wide / own)).size > MAX_ENTRIES:
            own = short_step(own * 1.25)
        return own * factors

    return method


def _multiples(values: np.ndarray) -> np.ndarray:
    """The integers that values are nearest to, ascending, with -1 and 1, without 0.

    No more than `MAX_ENTRIES` + 1 are told apart.
    """
    few = np.unique(np.rint(values[:: -(-values.size // (8 * MAX_ENTRIES))]))
    if few.size <= MAX_ENTRIES:  # else there is no need to look at the others
        few = np.unique(np.rint(values))
    few = np.union1d(few, [-1.0, 1.0])
    return few[few != 0]


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
        step = math.sqrt(rd_lambda) / math.sqrt(lambda_for_step(1.0, mean))
        return grid(step)(values, importance)

    return method
