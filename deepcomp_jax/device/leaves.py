"""Whole leaves: labels to bodies, and bodies to arrays on a device."""

from typing import Any

import jax
import numpy as np

from deepcomp_jax import codings
from deepcomp_jax.codings.common import Leaf
from deepcomp_jax.device import rans_coding, rans_lanes


def encode(
    labels: np.ndarray,
    leaf: Leaf,
    coding: str | None = None,
    gap_bits: int | None = None,
) -> tuple[str, bytes]:
    """The same as `codings.encode`, with compiled loops where there is much to code.

    Threads may call it at the same time: the loops run side by side.
    """
    put = rans_coding.put_on_cpu
    return codings.encode(labels, leaf, coding, gap_bits, put=put)


def values(
    coding: str, body: bytes, leaf: Leaf, lookup: np.ndarray, place: Any = None
) -> jax.Array:
    """Reads a leaf, like `codings.ALL[coding].decode`, into a device array.

    The leaf is decoded on the CPU whatever the device. A network is mostly loaded once
    a process, and a program for each size of a leaf, as decoding on an accelerator
    needs, takes far longer to compile than the whole network takes to decode.

    Args:
        coding: A name in `codings.ALL`.
        body: The leaf's bytes in the file.
        leaf: Shape and codebook size of the leaf.
        lookup: The value of each label, [entries + 1]: zero, and the codebook.
        place: Device or sharding of one device; None takes the default.

    Returns:
        The values, in the shape of the leaf and the dtype of `lookup`.

    Raises:
        FormatError: The body breaks a clause; the same as on the host.
    """
    # Bits are carried about, so that no conversion can change the bits of a NaN.
    dtype = jax.dtypes.canonicalize_dtype(lookup.dtype)
    words = lookup.astype(dtype)
    words = words.view(f"u{words.itemsize}")
    flat = codings.decode(coding, body, leaf, words, rans_lanes.take_on_cpu).view(dtype)
    # Copies nothing on a CPU, and unlike `jnp.asarray` compiles nothing for a shape.
    return jax.device_put(flat.reshape(leaf.shape), place, may_alias=True)
