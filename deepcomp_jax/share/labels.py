"""Labels: the nearest entry of a codebook, for each weight of a leaf."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from deepcomp_jax import trees
from deepcomp_jax.share import nearest


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
    return jax.device_put(find(weights, codebook))


def find(weights: Any, codebook: np.ndarray) -> Any:
    """The labels of `assign`, of NumPy where the host can see the weights.

    Args:
        weights: As for `assign`, or an array of NumPy.
        codebook: As for `assign`.

    Returns:
        On the devices of the weights where those were put somewhere.
    """
    on_host = not isinstance(weights, jax.Array) or not (
        isinstance(weights, Tracer)
        or weights.committed
        or trees.on_accelerator(weights)
    )
    if on_host:
        return nearest.labels(np.asarray(weights), codebook)
    if len(codebook) == 0:
        return jnp.zeros_like(weights, jnp.uint8)
    boundaries = nearest.boundaries(codebook)
    # So codebooks of most sizes share a compiled program.
    size = max(256, 1 << boundaries.size.bit_length())
    padded = np.full(size, nearest.greatest(boundaries.dtype))
    padded[: boundaries.size] = boundaries
    return _assign(weights, jnp.asarray(padded), wide=len(codebook) > 255)


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
