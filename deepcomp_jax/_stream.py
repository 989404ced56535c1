"""The parts of a coded stream in front of its words: the code table and the lanes.

    stream = table | lanes | words        each padded with zero bits to a byte
    table  = varint A, then the lengths of the words of symbols 0 to A - 1
    lanes  = u8 s, varint base, and if there is more than one lane:
             u8 w, then a w-bit number for each lane
    words  = the code words, lane after lane without a gap

Format notes:

- The table alone gives the code. A length takes 4 bits; 0 is followed by 4 bits r, and
  the two stand for r + 1 unused symbols.
- A lane holds 2**s symbols, the last one the rest. Lane i has base + (its number) bits,
  so a reader knows where each begins and can decode all of them side by side.
- Where one symbol only is used, its words are empty and the stream ends after the table.
- The stream does not hold its number of symbols: whoever writes it must.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import bits
from deepcomp_jax._code import MAX_LENGTH
from deepcomp_jax._errors import FormatError

MAX_ALPHABET = 1 << 16  # symbols are uint16 (H8)
MIN_LANE_LOG2, MAX_LANE_LOG2 = 4, 24  # (H13)
MAX_FIELD_BITS = 32  # of a lane's own number (H14)

_MAX_RUN = 16  # unused symbols that a pair of nibbles can stand for
_ONE_LANE_BELOW = 1 << 15  # shorter streams gain no speed from lanes


class Parts(NamedTuple):
    """Sizes of the parts of a stream, in bits; they add up to its size."""

    table: int
    lanes: int
    words: int
    padding: int


class Stream(NamedTuple):
    """A stream whose table and lanes were read and checked, its words not yet.

    Attributes:
        lengths: Bits of each symbol's code word, uint8[alphabet], 0 = unused.
        count: Number of symbols.
        lane_log2: A lane holds 2**lane_log2 symbols.
        starts: Where the lanes begin, and the last one ends, in bits from the start
            of the words; int64[lanes + 1]. No lanes if the words are all empty.
        words: Where the words begin, in bytes.
        end: Where the stream ends, in bytes.
        parts: Sizes of the parts.
    """

    lengths: NDArray[np.uint8]
    count: int
    lane_log2: int
    starts: NDArray[np.int64]
    words: int
    end: int
    parts: Parts


# ---- writing ------------------------------------------------------------------------


def put_table(sizes: NDArray[np.uint8]) -> bytes:
    """The number of symbols, and the code lengths as nibbles."""
    nibbles: list[int] = []
    used = np.flatnonzero(sizes)
    for skipped, symbol in zip(np.diff(used, prepend=-1) - 1, used, strict=True):
        for first in range(0, int(skipped), _MAX_RUN):
            nibbles += [0, min(int(skipped) - first, _MAX_RUN) - 1]
        nibbles.append(int(sizes[symbol]))
    return bits.put_varint(sizes.size) + bits.pack_fixed(np.array(nibbles, np.uint8), 4)


def put_lanes(spent: NDArray[np.uint8], lane_log2: int | None) -> bytes:
    """The index of the lanes, from the bits of each symbol."""
    if lane_log2 is None:
        lane_log2 = _choose_lanes(spent)
    elif not MIN_LANE_LOG2 <= lane_log2 <= MAX_LANE_LOG2:
        raise ValueError(
            f"lane_log2 must be {MIN_LANE_LOG2} to {MAX_LANE_LOG2}, got {lane_log2}"
        )
    lanes = _lane_bits(spent, lane_log2)
    head = bytes([lane_log2]) + bits.put_varint(int(lanes.min()))
    if lanes.size == 1:
        return head
    fields = lanes - lanes.min()
    width = int(fields.max()).bit_length()
    return head + bytes([width]) + bits.pack_fixed(fields.astype(np.uint64), width)


def _choose_lanes(spent: NDArray[np.uint8]) -> int:
    """The shortest lanes whose index takes at most 0.25 % of the words' bits."""
    one_lane = max(MIN_LANE_LOG2, (spent.size - 1).bit_length())
    if spent.size < _ONE_LANE_BELOW:
        return one_lane
    total = int(spent.sum(dtype=np.int64))
    for lane_log2 in range(8, min(one_lane, MAX_LANE_LOG2)):
        lanes = _lane_bits(spent, lane_log2)
        width = int(lanes.max() - lanes.min()).bit_length()
        if 400 * width * lanes.size <= total:
            return lane_log2
    return min(one_lane, MAX_LANE_LOG2)


def _lane_bits(spent: NDArray[np.uint8], lane_log2: int) -> NDArray[np.int64]:
    firsts = np.arange(0, spent.size, 1 << lane_log2)
    return np.add.reduceat(spent, firsts, dtype=np.int64)


# ---- reading ------------------------------------------------------------------------


def read(data: bytes, pos: int, count: int) -> Stream:
    """Reads and checks a stream's table and lanes.

    Args:
        data: The bytes read from.
        pos: Where the stream begins, in bytes.
        count: Number of symbols in the stream.

    Returns:
        The stream. All of its bytes lie within `data`.

    Raises:
        FormatError: if the table or the lanes break a clause, or `data` ends before
            the stream does.
    """
    first, lengths, table = _get_table(data, pos, count)
    padding = -table % 8
    if np.count_nonzero(lengths) <= 1:
        none = np.zeros(1, np.int64)
        parts = Parts(table, 0, 0, padding)
        return Stream(lengths, count, MIN_LANE_LOG2, none, first, first, parts)
    words, lane_log2, starts, index = _get_lanes(data, first, count)
    total = int(starts[-1])
    end = _after_bits(data, words, total)
    parts = Parts(table, index, total, padding + -index % 8 + -total % 8)
    return Stream(lengths, count, lane_log2, starts, words, end, parts)


def _get_table(
    data: bytes, pos: int, count: int
) -> tuple[int, NDArray[np.uint8], int]:
    """The position after the table, the code lengths, and the bits of the table."""
    first, size = bits.get_varint(data, pos, clause="H7")
    if (size == 0) != (count == 0) or size > MAX_ALPHABET:
        raise FormatError(
            f"an alphabet of {size} symbols for a stream of {count}",
            offset=pos,
            clause="H8",
        )
    raw = data[first : first + size]
    nibbles = bits.unpack_fixed(raw, 2 * len(raw), 4).tolist()
    lengths = np.zeros(size, np.uint8)
    symbol = taken = 0
    while symbol < size:
        if taken + 1 >= len(nibbles) and (taken == len(nibbles) or not nibbles[taken]):
            raise _cut_off(data)
        if nibbles[taken]:
            lengths[symbol] = nibbles[taken]
            symbol, taken = symbol + 1, taken + 1
        else:
            symbol, taken = symbol + nibbles[taken + 1] + 1, taken + 2
            if symbol >= size:
                raise FormatError(
                    "unused symbols reach the end of the alphabet",
                    offset=first + (taken - 1) // 2,
                    clause="H9",
                )
    end = _after_bits(data, first, 4 * taken)
    _check_complete(lengths, pos)
    return end, lengths, 8 * (first - pos) + 4 * taken


def _check_complete(lengths: NDArray[np.uint8], pos: int) -> None:
    """Rejects lengths that no complete prefix code has."""
    used = lengths[lengths > 0].astype(np.int64)
    if used.size == 0 or (used.size == 1 and used[0] == 1):
        return
    kraft = int((1 << (MAX_LENGTH - used)).sum())
    if kraft != 1 << MAX_LENGTH:
        raise FormatError(
            f"the code words fill {kraft} / {1 << MAX_LENGTH} of the code space",
            offset=pos,
            clause="H10",
        )


def _get_lanes(
    data: bytes, pos: int, count: int
) -> tuple[int, int, NDArray[np.int64], int]:
    """The position after the index, log2 of a lane, where lanes begin, index bits."""
    if pos == len(data):
        raise _cut_off(data)
    lane_log2 = data[pos]
    if not MIN_LANE_LOG2 <= lane_log2 <= MAX_LANE_LOG2:
        raise FormatError(
            f"a lane of 2**{lane_log2} symbols", offset=pos, clause="H13"
        )
    words, base = bits.get_varint(data, pos + 1, clause="H7")
    lanes = -(-count >> lane_log2)
    width, first = 0, words
    if lanes > 1:
        if words == len(data):
            raise _cut_off(data)
        width, first = data[words], words + 1
        if width > MAX_FIELD_BITS:
            raise FormatError(
                f"a lane's number has {width} bits", offset=words, clause="H14"
            )
        words = _after_bits(data, first, lanes * width)
    # Nothing may be allocated for lanes without fields before the words are found.
    fields = bits.unpack_fixed(data[first:words], lanes if width else 0, width)
    total = lanes * base + int(fields.sum())
    if total > 8 * (len(data) - words):
        raise _cut_off(data)
    if total < count:
        raise FormatError(
            f"{count} symbols cannot have {total} bits", offset=pos, clause="H16"
        )
    starts = np.zeros(lanes + 1, np.int64)
    starts[1:] = base
    starts[1 : 1 + fields.size] += fields.astype(np.int64)
    return words, lane_log2, np.cumsum(starts), 8 * (first - pos) + lanes * width


def _after_bits(data: bytes, pos: int, size: int) -> int:
    """The position after `size` bits and their padding, which must be there and zero."""
    end = pos + (size + 7) // 8
    if end > len(data):
        raise _cut_off(data)
    if size % 8 and data[end - 1] & (0xFF >> size % 8):
        raise FormatError("padding bits are not zero", offset=end - 1, clause="H11")
    return end


def _cut_off(data: bytes) -> FormatError:
    return FormatError(
        "the data end before the stream does", offset=len(data), clause="H17"
    )
