"""Where the lanes of a stream begin: the index that Huffman and rANS streams share.

    index = varint 2 base                                        of one lane
          | varint 2 base + 1, varint L, u8 w, L numbers of w bits       of L lanes

Format notes:

- Lane i has size base + (its number), in the unit of the stream: bits or words.
- The numbers are padded with zero bits to a byte.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import bits

MAX_FIELD_BITS = 32


class Clauses(NamedTuple):
    """The clauses that a reader of a stream names if a rule is broken.

    Attributes:
        number: For a malformed varint.
        lanes: For an impossible number of lanes.
        width: For a lane's number of too many bits.
        padding: For padding that is not zero.
        cut: For data that end before the stream does.
    """

    number: str
    lanes: str
    width: str
    padding: str
    cut: str


def put(sizes: NDArray[np.int64]) -> bytes:
    """Writes the index of lanes of these sizes, int64[L], L >= 1."""
    base = int(sizes.min())
    if sizes.size == 1:
        return bits.put_varint(2 * base)
    fields = sizes - base
    width = int(fields.max()).bit_length()
    head = bits.put_varint(2 * base + 1) + bits.put_varint(sizes.size)
    return head + bytes([width]) + bits.pack_fixed(fields.astype(np.uint64), width)


def get(
    data: bytes, pos: int, *, max_lanes: int, clauses: Clauses
) -> tuple[int, NDArray[np.int64], int]:
    """Reads an index.

    Args:
        data: The bytes read from.
        pos: Where the index begins, in bytes.
        max_lanes: What the stream can have at most; memory is taken for no more.
        clauses: The clauses to name in errors.

    Returns:
        The position after the index, the sizes of the lanes, int64[L], and the bits of
        the index without padding.

    Raises:
        FormatError: The index breaks a rule, or the data end too early.
    """
    first, number = bits.get_varint(data, pos, clause=clauses.number)
    base, several = divmod(number, 2)
    if not several:
        return first, np.array([base], np.int64), 8 * (first - pos)
    at, (first, lanes) = first, bits.get_varint(data, first, clause=clauses.number)
    if not 2 <= lanes <= max_lanes:
        raise FormatError(
            f"{lanes} lanes, where there are 2 to {max_lanes}",
            offset=at,
            clause=clauses.lanes,
        )
    if first == len(data):
        raise cut_off(data, clauses.cut)
    width, first = data[first], first + 1
    if width > MAX_FIELD_BITS:
        raise FormatError(
            f"a lane's number has {width} bits", offset=first - 1, clause=clauses.width
        )
    end = after_bits(
        data, first, lanes * width, padding=clauses.padding, cut=clauses.cut
    )
    # Rejects impossible sizes before they are added up.
    if lanes * base > 8 * len(data):
        raise cut_off(data, clauses.cut)
    fields = bits.unpack_fixed(data[first:end], lanes, width)
    return end, base + fields.astype(np.int64), 8 * (first - pos) + lanes * width


def after_bits(data: bytes, pos: int, size: int, *, padding: str, cut: str) -> int:
    """The position after `size` bits and their padding, which must be zero.

    Args:
        data: The bytes read from.
        pos: Where the bits begin, in bytes.
        size: Number of bits.
        padding: The clause to name if the padding is not zero.
        cut: The clause to name if the data end too early.

    Raises:
        FormatError: The padding is not zero, or the data end too early.
    """
    end = pos + (size + 7) // 8
    if end > len(data):
        raise cut_off(data, cut)
    if size % 8 and data[end - 1] & (0xFF >> size % 8):
        raise FormatError("padding bits are not zero", offset=end - 1, clause=padding)
    return end


def cut_off(data: bytes, clause: str) -> FormatError:
    """The error of a stream that ends too early."""
    return FormatError(
        "the data end before the stream does", offset=len(data), clause=clause
    )
