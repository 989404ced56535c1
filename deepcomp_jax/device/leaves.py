"""Whole leaves, from the host to a device."""

from typing import Any

import jax
import numpy as np


def to_device(values: np.ndarray, place: Any = None) -> jax.Array:
    """Brings a leaf that was decoded to a device, in the dtypes that JAX has there.

    Args:
        values: Any shape; not to be changed afterwards, since on a CPU the device array
            is the same memory.
        place: Device or sharding of one device; None takes the default.

    Returns:
        The values; those of 64 bits narrowed unless `jax_enable_x64` is set.
    """
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    narrow = values.astype(dtype, copy=False)
    # Copies nothing on a CPU, and unlike `jnp.asarray` compiles nothing for a shape.
    return jax.device_put(narrow, place, may_alias=True)
