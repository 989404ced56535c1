"""The packed coding: every label in the same number of bits, no model.

    body = labels, w bits each

Format notes:

- w is the least number of bits that holds the number of entries of the codebook.
"""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import common
from deepcomp_jax.codings.common import Leaf, Loops, Measured
from deepcomp_jax.streams import bits


def applies(leaf: Leaf) -> bool:
    """Whether this coding can hold a leaf."""
    del leaf
    return True


def estimate(labels: NDArray[np.unsignedinteger], leaf: Leaf) -> float:
    """Bits that a body has, exactly."""
    return 8.0 * -(-labels.size * leaf.entries.bit_length() // 8)


def encode(labels: NDArray[np.unsignedinteger], leaf: Leaf) -> bytes:
    """Writes labels, uint[size]."""
    return bits.pack_fixed(labels, leaf.entries.bit_length())


def decode(
    data: bytes,
    leaf: Leaf,
    palette: np.ndarray | None = None,
    loops: Loops = common.HOST,
) -> np.ndarray:
    """Reads labels.

    Args:
        data: The body.
        leaf: What the labels belong to.
        palette: What each label is decoded to, [entries + 1]; None for labels.
        loops: What decodes streams, of which there are none here.

    Returns:
        Labels, uint[size], or what they stand for.

    Raises:
        FormatError: L1, L2 or L4; the offset is that in the body.
    """
    del loops
    width = leaf.entries.bit_length()
    if not width:
        common.check_end(data, 0)
        return np.zeros(leaf.size, common.colours(leaf, palette).dtype)
    end, fields = common.get_fields(data, 0, leaf.size, width)
    common.check_end(data, end)
    if fields.max() > leaf.entries:
        raise FormatError(
            f"label {fields.max()} of {leaf.entries}", offset=0, clause="L4"
        )
    return common.paint(fields, leaf, palette)


def measure(data: bytes, leaf: Leaf) -> Measured:
    """What the bits of a valid body are spent on."""
    words = leaf.size * leaf.entries.bit_length()
    return Measured(indices=words, padding=8 * len(data) - words, ideal=float(words))
