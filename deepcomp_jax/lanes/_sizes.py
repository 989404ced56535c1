"""Sizes rounded up, so that streams of about one size share a compiled program."""

from typing import Any

import jax
import numpy as np

_ROUNDINGS = 8  # sizes, of those with as many bits, that have a program


def rounded(size: int) -> int:
    """The next size that has a program: at most an eighth more."""
    size = max(size, 1)
    grain = max(16, (1 << (size - 1).bit_length()) // (2 * _ROUNDINGS))
    return -(-size // grain) * grain


def padded(values: np.ndarray, place: Any, *, more: int = 0) -> jax.Array:
    """Values on the device, with at least `more` zeros after them.

    Args:
        values: [n].
        place: Device or sharding; None takes the default.
        more: Zeros.
    """
    whole = np.zeros(rounded(values.size + more), values.dtype)
    whole[: values.size] = values
    return jax.device_put(whole, place)
