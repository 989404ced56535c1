"""Floating leaves of few distinct values, as in networks that are quantized already."""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.format.dtypes import FLOATING

_MOST = 4096  # distinct values
_EACH = 8  # values there must be for each of them
_SAMPLE = 4096  # values that tell most leaves of many apart
_BLOCK = 1 << 16  # values that are looked at at a time


def found(values: np.ndarray) -> np.ndarray | None:
    """The distinct values of an array but zero, ascending, if a codebook holds them.

    Args:
        values: Any shape and dtype.

    Returns:
        `[n]` in the dtype; None if there are more than 4096 or one for each 8 values,
        none at all, if one is -0.0, NaN or infinity, or the dtype is not floating.
    """
    flat = values.ravel()
    most = min(_MOST, flat.size // _EACH)
    if values.dtype not in FLOATING or not most:
        return None
    sample = flat[:: -(-flat.size // _SAMPLE)]
    if len(np.unique(sample)) > max(most, sample.size // _EACH):
        return None
    # NumPy sorts float16 wrongly where it uses AVX-512 and many are equal.
    wide = np.float32 if flat.dtype.itemsize == 2 else flat.dtype
    every = np.zeros(1, wide)
    for first in range(0, flat.size, _BLOCK):
        block = flat[first : first + _BLOCK]
        if (np.signbit(block) & (block == 0)).any():
            return None
        every = np.union1d(every, block.astype(wide))
        if len(every) > 1 + most:
            return None
    every = every[every != 0]
    return every.astype(flat.dtype) if every.size and np.isfinite(every).all() else None


def labels(values: np.ndarray, codebook: np.ndarray) -> NDArray[np.unsignedinteger]:
    """The label of each value, in their shape.

    Args:
        values: Zeros, and values of the codebook.
        codebook: `[n]`, ascending.
    """
    flat = values.ravel()
    own = np.empty(flat.size, np.min_scalar_type(codebook.size))
    for first in range(0, flat.size, _BLOCK):
        block = flat[first : first + _BLOCK]
        number = 1 + np.searchsorted(codebook, block)
        own[first : first + _BLOCK] = np.where(block == 0, 0, number)
    return own.reshape(values.shape)
