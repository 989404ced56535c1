"""Labels: the nearest entry of a codebook, for each weight of a leaf."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.core import Tracer

from deepcomp_jax import trees


def assign(weights: jax.Array, codebook: np.ndarray) -> jax.Array:
    """Labels each weight with the nearest entry; ties go to the lower one.

    Args:
        weights: Of the codebook's dtype, any shape.
        codebook: `[k]`, strictly ascending, on the host.

    Returns:
        uint8 for at most 255 entries, else uint16: 0 where the weight is zero, else the
        index in the codebook plus 1.

    Examples:
        >>> import jax.numpy as jnp, numpy as np
        >>> from deepcomp_jax import share
        >>> share.assign(jnp.array([0.0, 0.9, -3.0]), np.array([-2.0, 1.0], np.float32))
        Array([0, 2, 1], dtype=uint8)
    """
    if len(codebook) == 0:
        return jnp.zeros(weights.shape, jnp.uint8)
    boundaries = _boundaries(codebook)
    # So codebooks of most sizes share a compiled program.
    size = max(256, 1 << boundaries.size.bit_length())
    padded = np.full(size, _greatest(boundaries.dtype))
    padded[: boundaries.size] = boundaries
    find = partial(_assign, boundaries=jnp.asarray(padded), wide=len(codebook) > 255)
    if (
        isinstance(weights, Tracer)
        or weights.committed
        or trees.on_accelerator(weights)
    ):
        return find(weights)
    # So do leaves of most shapes: a network has hundreds, and a program takes longer
    # to compile than to run. Where there are no copies to make, arrays are NumPy's.
    flat = np.asarray(weights).ravel()
    quarter = 1 << max(flat.size.bit_length() - 3, 8)
    filled = np.pad(flat, (0, -flat.size % quarter))
    return jax.device_put(np.asarray(find(filled))[: flat.size].reshape(weights.shape))


@partial(jax.jit, static_argnames="wide")
def _assign(weights: Any, boundaries: jax.Array, *, wide: bool) -> jax.Array:
    ranks = _ranks(jnp.asarray(weights))
    index = jnp.searchsorted(_ranks(boundaries), ranks, side="left")
    is_zero = (ranks == 0) | (ranks == -1)  # +0.0 and -0.0
    return jnp.where(is_zero, 0, index + 1).astype(jnp.uint16 if wide else jnp.uint8)


def _ranks(values: jax.Array) -> jax.Array:
    """Signed integers in the order of the values, -0.0 right below +0.0.

    To compare floating values, XLA takes subnormal ones for zero on most devices.
    """
    bits = jax.lax.bitcast_convert_type(values, f"int{8 * values.dtype.itemsize}")
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def _boundaries(codebook: np.ndarray) -> np.ndarray:
    """The largest value of the dtype that is no further from the lower neighbor."""
    wide = codebook.astype(np.float64)
    middle = wide[:-1] + (wide[1:] - wide[:-1]) / 2
    rounded = middle.astype(codebook.dtype)
    too_high = rounded.astype(np.float64) > middle
    below = np.nextafter(rounded, -_greatest(codebook.dtype))
    return np.where(too_high, below, rounded)


def _greatest(dtype: np.dtype) -> np.ndarray:
    """Infinity, or the greatest finite value of a dtype that has none, as of float8."""
    infinity = np.array(np.inf).astype(dtype)
    if np.isinf(infinity):
        return infinity
    return np.array(ml_dtypes.finfo(dtype).max, dtype)
