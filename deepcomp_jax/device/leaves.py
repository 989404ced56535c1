"""Whole leaves, from the host to a device."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax.format import scales
from deepcomp_jax.format.leaf_reading import Unscaled
from deepcomp_jax.format.scales import Exponents


def leaf_to_device(leaf: Unscaled, place: Any = None) -> jax.Array:
    """Brings a leaf that was decoded to a device, in the dtypes that JAX has there.

    Args:
        leaf: All of it, of any shape; its entries are not to be changed afterwards,
            since on a CPU the device array is the same memory.
        place: Device; None takes the default.

    Returns:
        The values; those of 64 bits narrowed unless `jax_enable_x64` is set. What has
        scales is multiplied on the device, but for a CPU: that is the host itself.
    """
    if leaf.exponents is None or _is_cpu(place):
        return to_device(leaf.scaled(), place)
    return multiplied(to_device(leaf.entries, place), leaf.exponents)


def to_device(values: np.ndarray, place: Any = None) -> jax.Array:
    """Brings values to a device, in the dtypes that JAX has there.

    Args:
        values: Of any shape, not to be changed afterwards.
        place: Device; None takes the default.
    """
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    narrow = values.astype(dtype, copy=False)
    # Copies nothing on a CPU, and unlike `jnp.asarray` compiles nothing for a shape.
    return jax.device_put(narrow, place, may_alias=True)


def _is_cpu(place: Any) -> bool:
    (device,) = jax.device_put(np.uint8(0), place).devices()
    return device.platform == "cpu"


def multiplied(entries: jax.Array, exponents: Exponents) -> jax.Array:
    """Entries times the scales of rows and columns, as `scales.multiply` has them.

    Args:
        entries: All of a leaf, on a device; not to be used afterwards.
        exponents: Of the leaf, on the host.

    Returns:
        The values, on the device of the entries: the same bits on every device, since
        no product is subnormal (C63).
    """
    batches, *sizes = exponents.view
    found = [
        scales.TABLE[own.view(np.uint8)].reshape(batches, size)
        for own, size in zip(exponents[1:], sizes, strict=True)
    ]
    return _multiply(entries, *jax.device_put(found, entries.device))


@functools.partial(jax.jit, donate_argnames="entries")
def _multiply(entries: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Products of a leaf, with scales of rows [B, a] and columns [B, b]."""
    cube = entries.astype(jnp.float32).reshape(*rows.shape, columns.shape[1])
    products = cube * rows[:, :, None] * columns[:, None, :]
    return products.astype(entries.dtype).reshape(entries.shape)
