"""Streams of symbols in a canonical Huffman code, cut into lanes.

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

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import _stream, bits
from deepcomp_jax._code import MAX_LENGTH as MAX_LENGTH
from deepcomp_jax._code import code as code
from deepcomp_jax._code import lengths as lengths
from deepcomp_jax._code import table as table
from deepcomp_jax._errors import FormatError
from deepcomp_jax._stream import Parts as Parts
from deepcomp_jax._stream import Stream as Stream
from deepcomp_jax._stream import read as read

_WORTH_LOCK_STEP = 128  # lanes; with fewer, following the words is faster
_TILE = 1 << 13  # lanes decoded side by side, so that their state stays in a cache
_BLOCK = 1 << 18  # bits of a lane followed at a time

# Decodes the words of a stream: the symbols, and where each lane's words end, in bits.
Words = tuple[NDArray[np.uint16], NDArray[np.int64]]


def encode(
    symbols: NDArray[np.unsignedinteger], *, lane_log2: int | None = None
) -> bytes:
    """Writes a stream.

    Args:
        symbols: uint[n], each below 2**16, at most 2**15 different ones.
        lane_log2: A lane holds 2**lane_log2 symbols, 4 to 24. None: one lane for a
            short stream, else lanes as short as 0.25 % of the words' bits can index.

    Returns:
        The stream. Its reader needs n too.

    Raises:
        ValueError: if a symbol is too large, too many are used, or `lane_log2` is
            out of range.
    """
    if symbols.size and symbols.max() >= _stream.MAX_ALPHABET:
        raise ValueError(f"symbols must be below 2**16, got {int(symbols.max())}")
    counts = np.bincount(symbols) if symbols.size else np.zeros(0, np.int64)
    sizes = lengths(counts)
    head = _stream.put_table(sizes)
    if np.count_nonzero(counts) <= 1:
        return head
    spent = sizes[symbols]
    words = bits.pack(code(sizes)[symbols], spent)
    return head + _stream.put_lanes(spent, lane_log2) + words


def decode(data: bytes, pos: int, count: int) -> tuple[int, NDArray[np.uint16]]:
    """Reads a stream.

    Args:
        data: The bytes read from.
        pos: Where the stream begins, in bytes.
        count: Number of symbols in the stream. Up to 4 bytes of memory are taken for
            each, and not before the stream is known to have a bit for each, unless it
            holds one symbol only.

    Returns:
        The position after the stream, and the symbols, uint16[count].

    Raises:
        FormatError: if the stream breaks a clause, with the clause and the offset.
    """
    return _decode(data, pos, count, _decode_words)


def decode_slow(data: bytes, pos: int, count: int) -> tuple[int, NDArray[np.uint16]]:
    """The same as `decode`, bit by bit: its oracle."""
    return _decode(data, pos, count, _decode_words_slow)


def parts(data: bytes, pos: int, count: int) -> tuple[int, Parts]:
    """The position after a stream and the sizes of its parts, without decoding it.

    Raises:
        FormatError: if the table or the lanes break a clause.
    """
    stream = read(data, pos, count)
    return stream.end, stream.parts


def _decode(
    data: bytes, pos: int, count: int, decode_words: Callable[[bytes, Stream], Words]
) -> tuple[int, NDArray[np.uint16]]:
    stream = read(data, pos, count)
    if stream.starts.size == 1:
        only = max(0, stream.lengths.size - 1)
        return stream.end, np.full(count, only, np.uint16)
    symbols, ends = decode_words(data[stream.words : stream.end], stream)
    check_ends(stream, ends)
    return stream.end, symbols


def check_ends(stream: Stream, ends: NDArray[np.int64]) -> None:
    """Rejects a stream whose lanes do not end where the index says.

    Args:
        stream: The stream.
        ends: Where the words of each lane end, in bits, int64[lanes].

    Raises:
        FormatError: names the first byte of the first lane that ends elsewhere.
    """
    wrong = np.flatnonzero(ends != stream.starts[1:])
    if wrong.size:
        lane = int(wrong[0])
        raise FormatError(
            f"the words of lane {lane} do not end where the lane does",
            offset=stream.words + int(stream.starts[lane]) // 8,
            clause="H16",
        )


def _decode_words_slow(data: bytes, stream: Stream) -> Words:
    words = code(stream.lengths).tolist()
    symbol_of = {
        (length, word): symbol
        for symbol, (length, word) in enumerate(
            zip(stream.lengths.tolist(), words, strict=True)
        )
        if length
    }
    symbols: list[int] = []
    ends: list[int] = []
    for start in stream.starts[:-1].tolist():
        here = start
        for _ in range(min(1 << stream.lane_log2, stream.count - len(symbols))):
            length = word = 0
            while (length, word) not in symbol_of:
                byte = data[here >> 3] if here >> 3 < len(data) else 0
                word = word << 1 | byte >> (7 - (here & 7)) & 1
                length, here = length + 1, here + 1
            symbols.append(symbol_of[length, word])
        ends.append(here)
    return np.array(symbols, np.uint16), np.array(ends, np.int64)


def _decode_words(data: bytes, stream: Stream) -> Words:
    if stream.starts.size <= _WORTH_LOCK_STEP:
        return _follow(data, stream)
    return _lock_step(data, stream)


def _follow(data: bytes, stream: Stream) -> Words:
    """Decodes word after word, after looking up what every single bit would begin."""
    lookup = table(stream.lengths)
    longest = lookup.size.bit_length() - 1
    raw = np.frombuffer(data + bytes(4), np.uint8).astype(np.uint32)
    windows = raw[:-3] << 16 | raw[1:-2] << 8 | raw[2:-1]
    shifts = np.arange(24 - longest, 16 - longest, -1, dtype=np.uint32)
    total = int(stream.starts[-1])
    here = 0
    found: list[NDArray[np.uint16]] = []
    starts: list[NDArray[np.int64]] = []
    for first in range(0, total, _BLOCK):
        block = windows[first // 8 : (first + _BLOCK) // 8, None]
        entries = lookup[(block >> shifts & (lookup.size - 1)).ravel()]
        steps = (entries & 15).astype(np.uint8).tobytes()
        places: list[int] = []
        place, stop = here - first, min(_BLOCK, total - first)
        while place < stop:
            places.append(place)
            place += steps[place]
        here = first + place
        at = np.array(places, np.int64)
        found.append((entries[at] >> 4).astype(np.uint16))
        starts.append(at + first)
    bounds = np.append(np.concatenate(starts), here)
    lanes = np.arange(1, stream.starts.size) << stream.lane_log2
    lanes[-1] = stream.count
    ends = np.full(lanes.size, -1, np.int64)
    there = lanes < bounds.size
    ends[there] = bounds[lanes[there]]
    return np.concatenate(found), ends


def _lock_step(data: bytes, stream: Stream) -> Words:
    """Decodes all lanes side by side, one symbol of each at a time."""
    lookup = table(stream.lengths)
    longest = lookup.size.bit_length() - 1
    windows = _windows(data)
    lanes = stream.starts.size - 1
    steps = 1 << stream.lane_log2
    rest = stream.count - (lanes - 1) * steps
    symbols = np.empty((lanes, steps), np.uint16)
    ends = stream.starts[:-1].copy()
    for first in range(0, lanes, _TILE):
        tile = slice(first, first + _TILE)
        _steps(windows, lookup, ends[tile], symbols[tile])
    return symbols.ravel()[: stream.count], ends
