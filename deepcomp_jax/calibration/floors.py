"""Sensitivities that are never zero."""

from typing import Any

import numpy as np

from deepcomp_jax import trees
from deepcomp_jax.calibration.record import Calibration

_FLOOR = 0.2  # of the mean over a leaf: no part of a stack counts less


def floored(calibration: Calibration, params: Any) -> dict[str, np.ndarray]:
    """How much a change of a value of each leaf matters, never nothing.

    What a few batches did not show has a sensitivity of zero, which is no reason to
    erase it: an expert to which no example was sent may be needed by the next.

    Args:
        calibration: The statistics.
        params: The pytree that they are of.

    Returns:
        For each leaf that `calibration.sensitivity` has, its values divided by the
        number of values of the leaf that each is of. No layer or expert of a stack
        counts less than a fifth of the mean of its leaf, and a leaf that is zero
        everywhere counts as the leaf that counts least, or as 1 if all are zero.

    Raises:
        ValueError: The statistics are of other leaves.

    Examples:
        >>> import jax.numpy as jnp
        >>> import deepcomp_jax as dc
        >>> params = {"w": jnp.ones((3, 2)), "idle": jnp.ones(5)}
        >>> found = dc.calibrate(lambda p, x: x @ p["w"], params, [jnp.ones((4, 3))])
        >>> dc.calibration.floored(found, params)["idle"] > 0
        np.True_
    """
    named = trees.named_leaves(params)
    each = {}
    for name, value in calibration.sensitivity.items():
        if name not in named or value.shape != named[name].shape[: value.ndim]:
            raise ValueError(
                f"the calibration is of other leaves: {name!r} of leading axes "
                f"{value.shape} is not in params; calibrate this network"
            )
        each[name] = value / max(1, named[name].size // max(1, value.size))
    means = {name: float(value.mean()) for name, value in each.items() if value.size}
    least = min((mean for mean in means.values() if mean > 0), default=1.0)
    return {
        name: np.maximum(value, _FLOOR * means.get(name, 0.0) or least)
        for name, value in each.items()
    }
