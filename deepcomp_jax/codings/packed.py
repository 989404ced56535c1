"""The packed coding: every label in the same number of bits, no model.

    body = labels, w bits each

Format notes:

- w is the least number of bits that holds the number of entries of the codebook.
"""

import numpy as np

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import common
from deepcomp_jax.codings.common import (
    Coding,
    Counts,
    Labels,
    Leaf,
    Measured,
    Plan,
    Take,
)
from deepcomp_jax.streams import bits, rans


def _least(labels: Labels, leaf: Leaf, counts: Counts) -> float:
    del counts  # all labels take the same
    return 8.0 * -(-labels.size * leaf.entries.bit_length() // 8)


def _plan(labels: Labels, leaf: Leaf, counts: Counts) -> Plan:
    def write(put: rans.Put) -> bytes:
        del put  # there is no stream
        return bits.pack_fixed(labels, leaf.entries.bit_length())

    return Plan(_least(labels, leaf, counts), write)


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


def _measure(data: bytes, leaf: Leaf) -> tuple[Measured, Labels]:
    labels = _decode(data, leaf, common.labels_of(leaf), rans.take)
    words = leaf.size * leaf.entries.bit_length()
    padding = 8 * len(data) - words
    return Measured(indices=words, padding=padding, ideal=float(words)), labels


CODING = Coding(None, _least, _plan, _decode, _measure)
