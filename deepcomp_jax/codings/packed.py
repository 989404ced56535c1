"""The packed coding: every label in the same number of bits, no model.

    body = labels, w bits each

Format notes:

- w is the least number of bits that holds the number of entries of the codebook.
"""

import numpy as np

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import common
from deepcomp_jax.codings.common import Coding, Labels, Leaf, Measured, Take
from deepcomp_jax.streams import bits


def _estimate(labels: Labels, leaf: Leaf) -> float:
    return 8.0 * -(-labels.size * leaf.entries.bit_length() // 8)


def _encode(labels: Labels, leaf: Leaf) -> bytes:
    return bits.pack_fixed(labels, leaf.entries.bit_length())


def _decode(data: bytes, leaf: Leaf, lookup: np.ndarray, take: Take) -> np.ndarray:
    del take  # there is no stream
    width = leaf.entries.bit_length()
    if not width:
        common.check_end(data, 0)
        return np.zeros(leaf.size, lookup.dtype)
    end, fields = common.get_fields(data, 0, leaf.size, width)
    common.check_end(data, end)
    if fields.max() > leaf.entries:
        raise FormatError(
            f"label {fields.max()} of {leaf.entries}", offset=0, clause="L4"
        )
    return common.dequantize(fields, lookup)


def _measure(data: bytes, leaf: Leaf) -> Measured:
    words = leaf.size * leaf.entries.bit_length()
    return Measured(indices=words, padding=8 * len(data) - words, ideal=float(words))


CODING = Coding(None, _encode, _decode, _measure, _estimate)
