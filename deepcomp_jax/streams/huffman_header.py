"""The parts of a coded stream in front of its words: the code table and the lanes.

`huffman` describes the format.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import bits, lane_index
from deepcomp_jax.streams.huffman_code import MAX_LENGTH

MAX_ALPHABET = 1 << 16  # symbols are uint16 (H8)
MIN_LANE = 16  # symbols of a lane, if it is not the only one (H13)

_CLAUSES = lane_index.Clauses(
    number="H7", lanes="H13", width="H14", padding="H11", cut="H17"
)
_MAX_RUN = 16  # unused symbols that a pair of nibbles can stand for
_ONE_LANE_BELOW = 1 << 15  # symbols; shorter streams gain no speed from lanes
_SHORT_LANE = 256  # symbols; shorter lanes would only make the index longer


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
        size: Number of symbols.
        starts: Where the lanes begin, and the last one ends, in bits from the start
            of the words; int64[lanes + 1]. No lanes if the words are all empty.
        words: Where the words begin, in bytes.
        end: Where the stream ends, in bytes.
        parts: Sizes of the parts.
    """

    lengths: NDArray[np.uint8]
    size: int
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


def table_bytes(sizes: NDArray[np.uint8]) -> int:
    """How many bytes `put_table` takes."""
    used = np.flatnonzero(sizes)
    skipped = np.diff(used, prepend=-1) - 1
    nibbles = used.size + 2 * int((-(-skipped // _MAX_RUN)).sum())
    return len(bits.put_varint(sizes.size)) + (nibbles + 1) // 2


def choose_lanes(spent: NDArray[np.uint8]) -> int:
    """How many lanes to cut a stream into, from the bits of each symbol.

    One if the stream is short, else the greatest power of two whose index takes at
    most 0.25 % of the bits of the words, for lanes of `_SHORT_LANE` symbols or more.
    """
    if spent.size < _ONE_LANE_BELOW:
        return 1
    total = int(spent.sum(dtype=np.int64))
    lanes = 1 << (spent.size // _SHORT_LANE).bit_length() - 1
    while lanes > 1:
        each = rows(spent, lanes).sum(axis=0, dtype=np.int64)
        if 400 * lanes * int(each.max() - each.min()).bit_length() <= total:
            break
        lanes //= 2
    return lanes


def rows(items: NDArray[np.unsignedinteger], lanes: int) -> NDArray[np.unsignedinteger]:
    """What belongs to the symbols as [steps, lanes], with zeros after the last."""
    missing = -items.size % lanes
    if missing:
        items = np.append(items, np.zeros(missing, items.dtype))
    return items.reshape(-1, lanes)


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
        return Stream(lengths, count, none, first, first, parts)
    words, starts, index = _get_lanes(data, first, count)
    total = int(starts[-1])
    end = _after_bits(data, words, total)
    parts = Parts(table, index, total, padding + -index % 8 + -total % 8)
    return Stream(lengths, count, starts, words, end, parts)


def _get_table(data: bytes, pos: int, count: int) -> tuple[int, NDArray[np.uint8], int]:
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
            raise lane_index.cut_off(data, _CLAUSES.cut)
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


def _get_lanes(data: bytes, pos: int, count: int) -> tuple[int, NDArray[np.int64], int]:
    """The position after the index, where the lanes begin, and the index bits."""
    words, sizes, size = lane_index.get(
        data, pos, max_lanes=count // MIN_LANE, clauses=_CLAUSES
    )
    total = int(sizes.sum())
    if total > 8 * (len(data) - words):
        raise lane_index.cut_off(data, _CLAUSES.cut)
    if total < count:
        raise FormatError(
            f"{count} symbols cannot have {total} bits", offset=words, clause="H16"
        )
    return words, np.cumsum(np.append(0, sizes)), size


def _after_bits(data: bytes, pos: int, size: int) -> int:
    return lane_index.after_bits(
        data, pos, size, padding=_CLAUSES.padding, cut=_CLAUSES.cut
    )
