"""Streams of symbols in a canonical Huffman code, cut into lanes.

    stream = table | lanes | words        each padded with zero bits to a byte
    table  = varint A, then the lengths of the words of symbols 0 to A - 1
    lanes  = an index (`lane_index`), in bits
    words  = the code words, lane after lane without a gap

Format notes:

- The table alone gives the code. A length takes 4 bits; 0 is followed by 4 bits r, and
  the two stand for r + 1 unused symbols.
- Lane i of L holds symbols i, i + L, i + 2 L, and so on, in base + (its number) bits.
  So a reader knows where each lane begins, can decode all of them side by side, and
  gets L symbols that follow each other at every step.
- Where one symbol only is used, its words are empty and the stream ends there.
- The stream does not hold its number of symbols: whoever writes it must.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import bits, huffman_header, lane_index
from deepcomp_jax.streams.huffman_code import code, lengths, table
from deepcomp_jax.streams.huffman_header import Parts, Stream

WORTH_LOCK_STEP = 128  # lanes; with fewer, following the words is faster
_TILE = 1 << 13  # lanes decoded side by side, so that their state stays in a cache
_BLOCK = 1 << 18  # bits of a lane followed at a time

# Decodes the words of a stream: the symbols, and where each lane's words end, in bits.
Words = tuple[NDArray[np.uint16], NDArray[np.int64]]


def encode(symbols: NDArray[np.unsignedinteger], *, lanes: int | None = None) -> bytes:
    """Writes a stream.

    Args:
        symbols: uint[n], each below 2**16, at most 2**15 different ones.
        lanes: Number of lanes, 1 to n / 16. None: one for a short stream, else as
            many as 0.25 % of the words' bits can index.

    Returns:
        The stream. Its reader needs n too.

    Raises:
        ValueError: A symbol is too large, too many are used, or `lanes` is out of
            range.

    Examples:
        Three symbols, of which 0 has a word of one bit and the others of two; one lane
        of seven bits; then the words 0 11 10 0 0 and a zero bit:

        >>> import numpy as np
        >>> from deepcomp_jax.streams import huffman
        >>> huffman.encode(np.array([0, 2, 1, 0, 0], np.uint16)).hex(" ")
        '03 12 20 0e 70'
    """
    if symbols.size and symbols.max() >= huffman_header.MAX_ALPHABET:
        raise ValueError(f"symbols must be below 2**16, got {int(symbols.max())}")
    counts = np.bincount(symbols) if symbols.size else np.zeros(0, np.int64)
    sizes = lengths(counts)
    head = huffman_header.put_table(sizes)
    if np.count_nonzero(counts) <= 1:
        return head
    if lanes is None:
        lanes = huffman_header.choose_lanes(sizes[symbols])
    most = symbols.size // huffman_header.MIN_LANE
    if lanes != 1 and not 1 <= lanes <= most:
        raise ValueError(f"{symbols.size} symbols allow 1 to {most} lanes, got {lanes}")
    by_lane = np.ascontiguousarray(huffman_header.rows(symbols, lanes).T)
    spent = sizes[by_lane]
    spent[symbols.size - by_lane.size + lanes :, -1] = 0  # the places left over
    words = bits.pack((code(sizes)[by_lane] * (spent > 0)).ravel(), spent.ravel())
    index = lane_index.put(spent.sum(axis=1, dtype=np.int64))
    return head + index + words


def estimate(counts: NDArray[np.integer]) -> int:
    """Bits of a stream of symbols that occur so often, int[alphabet], in one lane."""
    used = np.flatnonzero(counts)
    if not used.size:
        return 8
    sizes = lengths(counts[: used[-1] + 1])
    head = 8 * huffman_header.table_bytes(sizes)
    if used.size == 1:
        return head
    words = int(counts[: sizes.size] @ sizes.astype(np.int64))
    return head + 8 * len(bits.put_varint(2 * words)) + words + -words % 8


def least(counts: NDArray[np.integer]) -> int:
    """Fewer bits than `estimate` tells, and in less time.

    Every pair that Huffman's algorithm joins adds a bit to the words of its symbols.
    """
    heap = counts[counts > 0].tolist()
    total = 4 * len(heap)
    heapq.heapify(heap)
    while len(heap) > 1:
        pair = heapq.heappop(heap) + heap[0]
        total += pair
        heapq.heapreplace(heap, pair)
    return total


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

    Examples:
        >>> from deepcomp_jax.streams import huffman
        >>> huffman.decode(bytes.fromhex("03 12 20 0e 70"), 0, 5)
        (5, array([0, 2, 1, 0, 0], dtype=uint16))
    """
    stream = huffman_header.read(data, pos, count)
    if stream.starts.size == 1:
        only = max(0, stream.lengths.size - 1)
        return stream.end, np.full(count, only, np.uint16)
    follow = _follow if stream.starts.size - 1 < WORTH_LOCK_STEP else _lock_step
    symbols, ends = follow(data[stream.words : stream.end], stream)
    check_ends(stream, ends)
    return stream.end, symbols


def parts(data: bytes, pos: int, count: int) -> tuple[int, Parts]:
    """The position after a stream and the sizes of its parts, without decoding it.

    Raises:
        FormatError: if the table or the lanes break a clause.
    """
    stream = huffman_header.read(data, pos, count)
    return stream.end, stream.parts


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


def _follow(data: bytes, stream: Stream) -> Words:
    """Decodes word after word, after looking up what every single bit would begin."""
    lookup = table(stream.lengths)
    longest = lookup.size.bit_length() - 1
    raw = np.frombuffer(data + bytes(4), np.uint8).astype(np.uint32)
    windows = raw[:-3] << 16 | raw[1:-2] << 8 | raw[2:-1]
    shifts = np.arange(24 - longest, 16 - longest, -1, dtype=np.uint32)
    total = int(stream.starts[-1])
    here = 0
    decoded: list[NDArray[np.uint16]] = []
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
        decoded.append((entries[at] >> 4).astype(np.uint16))
        starts.append(at + first)
    return _interleave(
        np.concatenate(decoded), np.append(np.concatenate(starts), here), stream
    )


def _interleave(
    decoded: NDArray[np.uint16], bounds: NDArray[np.int64], stream: Stream
) -> Words:
    """Puts symbols that were decoded lane after lane in order.

    Args:
        decoded: The symbols, uint16[m]; a corrupt stream may have any number of them.
        bounds: Where their words begin, and the last one ends, in bits, int64[m + 1].
        stream: The stream.
    """
    lanes = stream.starts.size - 1
    symbols = np.zeros(stream.size, np.uint16)
    ends = np.full(lanes, -1, np.int64)
    first = 0
    for lane in range(lanes):
        size = -(-(stream.size - lane) // lanes)
        if first + size < bounds.size:
            ends[lane] = bounds[first + size]
            symbols[lane::lanes] = decoded[first : first + size]
        first += size
    return symbols, ends


def _lock_step(data: bytes, stream: Stream) -> Words:
    """Decodes all lanes side by side, one symbol of each at a time."""
    lookup, ahead = table(stream.lengths), windows(data)
    lanes = stream.starts.size - 1
    symbols = np.empty(stream.size, np.uint16)
    left = stream.size % lanes
    whole = symbols[: stream.size - left].reshape(-1, lanes)
    ends = stream.starts[:-1].copy()
    for first in range(0, lanes, _TILE):
        tile = slice(first, first + _TILE)
        _step(ahead, lookup, ends[tile], whole[:, tile])
    _step(ahead, lookup, ends[:left], symbols[None, stream.size - left :])
    return symbols, ends


def windows(data: bytes) -> NDArray[np.uint32]:
    """The 32 bits that follow each 16-bit boundary of the data, zeros after its end."""
    padded = data + bytes(4 + len(data) % 2)
    halves = np.frombuffer(padded, ">u2").astype(np.uint32)
    return halves[:-1] << np.uint32(16) | halves[1:]


def _step(
    ahead: NDArray[np.uint32],
    lookup: NDArray[np.uint32],
    here: NDArray[np.int64],
    rows: NDArray[np.uint16],
) -> None:
    """Decodes a symbol of each lane into each row, and moves `here` on, in bits."""
    shift = np.uint32(32 - (lookup.size.bit_length() - 1))
    index = np.empty(here.size, np.int64)
    offset = np.empty(here.size, np.uint32)
    word = np.empty(here.size, np.uint32)
    for row in rows:
        # Lanes of a corrupt stream may run beyond the data; "clip" reads its end.
        np.right_shift(here, 4, out=index)
        ahead.take(index, out=word, mode="clip")
        np.bitwise_and(here, 15, out=offset, casting="unsafe")
        np.left_shift(word, offset, out=word)
        np.right_shift(word, shift, out=word)
        lookup.take(word, out=word, mode="clip")
        np.bitwise_and(word, 15, out=offset)
        np.add(here, offset, out=here)
        np.right_shift(word, 4, out=row, casting="unsafe")
