"""The relative coding: gaps and indices by Huffman, as in the paper.

Han, Mao and Dally, arXiv 1510.00149, sections 2 and 4. With low bits it has no cap: a
gap is cut into units of 2**m zeros, of which the code has a symbol, and m low bits that
are stored as they are (Golomb's code with an optimal quotient).

    body = u8 bits of a gap symbol | u8 m | varint G | stream of G gap symbols
           | low bits | stream of indices

Format notes:

- Gap symbols are those of `gaps`, of units in place of zeros.
- Low bits, m each, are those of the gaps that end at a weight, in order.
- There is an index for each such gap; it stands for label - 1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
from deepcomp_jax.streams import bits, gaps, huffman
from deepcomp_jax.streams.counting import entropy

MAX_LOW_BITS = 32
FREE_BITS = 8  # of a gap symbol where nobody asks for a width


class Front(NamedTuple):
    """What a body says before its gaps.

    Attributes:
        gap_bits: Width of a gap symbol.
        low_bits: Number of low bits of a gap.
        symbols: Number of gap symbols.
        stream: Where the stream of gap symbols begins.
    """

    gap_bits: int
    low_bits: int
    symbols: int
    stream: int


class Gaps(NamedTuple):
    """The gaps of a body.

    Attributes:
        symbols: Gap symbols, uint16[G].
        kept: Number of weights.
        gap_bits: Width of a symbol.
        low_bits: Width of the low bits.
        stream: Where the stream of symbols begins.
        low: Where the low bits begin.
        end: Where they end.
    """

    symbols: NDArray[np.uint16]
    kept: int
    gap_bits: int
    low_bits: int
    stream: int
    low: int
    end: int


# ---- writing ------------------------------------------------------------------------


def _least(labels: Labels, leaf: Leaf, counts: Counts) -> float:
    """The stream of the indices, and a bit for each gap if not all gaps are equal."""
    del leaf
    first = common.positions(labels[: common.BLOCK])
    zeros = np.diff(first, prepend=-1)
    vary = bool((zeros != zeros[:1]).any())
    return float(huffman.least(counts[1:]) + vary * counts[1:].sum())


def _plan(labels: Labels, leaf: Leaf, counts: Counts) -> Plan:
    del leaf
    positions = common.positions(labels)
    low_bits = choose_low_bits(positions)
    cap = (1 << FREE_BITS) - 1
    units = (np.diff(positions, prepend=-1) - 1) >> low_bits
    symbols = np.bincount(units % cap, minlength=cap + 1)
    symbols[cap] = int((units // cap).sum())
    size = 8 * len(_head(FREE_BITS, low_bits, int(symbols.sum())))
    size += huffman.estimate(symbols) + positions.size * low_bits
    return Plan(size + huffman.estimate(counts[1:]), lambda _: encode(labels))


def encode(labels: Labels, gap_bits: int | None = None) -> bytes:
    """Writes labels.

    Args:
        labels: uint[size].
        gap_bits: Writes the paper's gaps, of so many bits, 1 to 16, and no low bits;
            None chooses low bits that make the body small.
    """
    positions = common.positions(labels)
    indices = (labels[positions] - 1).astype(np.uint16)
    return put_positions(positions, gap_bits) + huffman.encode(indices)


def put_positions(positions: NDArray[np.int64], gap_bits: int | None) -> bytes:
    """Writes the gaps of weights at these positions, ascending."""
    low_bits = choose_low_bits(positions) if gap_bits is None else 0
    width = gap_bits or FREE_BITS
    symbols, low = gaps.encode(positions, bits=width, low_bits=low_bits)
    head = _head(width, low_bits, symbols.size)
    return head + huffman.encode(symbols) + bits.pack_fixed(low, low_bits)


def _head(width: int, low_bits: int, count: int) -> bytes:
    """What a body says before its gap symbols, of which there are so many."""
    return bytes([width, low_bits]) + bits.put_varint(count)


def choose_low_bits(positions: NDArray[np.int64]) -> int:
    """The low bits that leave about eight units to a gap."""
    if not positions.size:
        return 0
    mean = (int(positions[-1]) + 1) // positions.size
    return max(mean.bit_length() - 3, 0)


# ---- reading ------------------------------------------------------------------------


def _decode(data: bytes, leaf: Leaf, lookup: np.ndarray, take: Take) -> np.ndarray:
    del take  # Huffman streams have a loop of their own
    coded = get_gaps(data, leaf.size)
    return _place(data, leaf, lookup, coded, _get_indices(data, leaf, coded))


def _get_indices(data: bytes, leaf: Leaf, coded: Gaps) -> NDArray[np.uint16]:
    """The indices of the weights, behind their gaps."""
    end, indices = huffman.decode(data, coded.end, coded.kept)
    common.check_end(data, end)
    if indices.size:
        common.check_index(int(indices.max()), leaf, coded.end)
    return indices


def _place(
    data: bytes,
    leaf: Leaf,
    lookup: np.ndarray,
    coded: Gaps,
    indices: NDArray[np.uint16],
) -> np.ndarray:
    """What the labels stand for, at the positions of the weights."""
    flat = common.zeros(leaf.size, lookup.dtype)
    first = 0
    for where in positions(data, coded):
        flat[where] = lookup[1:].take(indices[first : first + where.size])
        first += where.size
    return flat


def fixed_width(body: bytes) -> int | None:
    """The width of the gap symbols of a valid body, None if it has low bits."""
    return None if body[1] else body[0]


def get_front(data: bytes, size: int) -> Front:
    """Reads what a body of a leaf of `size` values says before its gaps.

    Raises:
        FormatError: L1, L5, L6, C3.
    """
    pos, gap_bits = common.get_byte(data, 0)
    pos, low_bits = common.get_byte(data, pos)
    if not 1 <= gap_bits <= gaps.MAX_BITS or low_bits > MAX_LOW_BITS:
        raise FormatError(
            f"a gap of {gap_bits} and {low_bits} bits", offset=0, clause="L5"
        )
    start, count = bits.get_varint(data, pos, clause="C3")
    if count > size:
        raise FormatError(f"{count} gaps for {size} values", offset=pos, clause="L6")
    return Front(gap_bits, low_bits, count, start)


def get_gaps(data: bytes, size: int) -> Gaps:
    """Reads and checks the gaps of a leaf of `size` values.

    Args:
        data: The body.
        size: Number of values in the leaf.

    Raises:
        FormatError: L1, L2, L5 to L7, or a clause of the gaps or streams.
    """
    gap_bits, low_bits, count, start = get_front(data, size)
    low_at, symbols = huffman.decode(data, start, count)
    cap = (1 << gap_bits) - 1
    kept, units = 0, 0
    for first in range(0, symbols.size, common.BLOCK):
        block = symbols[first : first + common.BLOCK]
        kept += int(np.count_nonzero(block != cap))
        units += int(block.sum(dtype=np.uint64))
    end = common.after_bits(data, low_at, kept * low_bits)
    if symbols.size:
        gaps.check(int(symbols.max()), int(symbols[-1]), cap, start)
    # In Python's integers: hostile gaps would overflow others.
    rests = sum(_rests(data[low_at:end], kept, low_bits))
    gaps.check_end((units << low_bits) + rests + kept, size, start)
    return Gaps(symbols, kept, gap_bits, low_bits, start, low_at, end)


def _rests(low: bytes, kept: int, width: int) -> Iterator[int]:
    """Sums of the low bits of some gaps at a time."""
    for first in range(0, kept if width else 0, common.BLOCK):
        count = min(common.BLOCK, kept - first)
        fields = bits.unpack_fixed(low, count, width, offset=first * width)
        yield int(fields.sum(dtype=np.uint64))


def positions(data: bytes, coded: Gaps) -> Iterator[NDArray[np.int64]]:
    """Positions of the weights in the flattened leaf, some of them at a time.

    Args:
        data: The body.
        coded: Its gaps.
    """
    low, cap = data[coded.low : coded.end], (1 << coded.gap_bits) - 1
    return gaps.decode(coded.symbols, low, cap=cap, low_bits=coded.low_bits)


def _measure(data: bytes, leaf: Leaf) -> tuple[Measured, Labels]:
    coded = get_gaps(data, leaf.size)
    indices = _get_indices(data, leaf, coded)
    labels = _place(data, leaf, common.labels_of(leaf), coded, indices)
    measured = measure_positions(data, coded)
    _, parts = huffman.parts(data, coded.end, coded.kept)
    measured = measured._replace(
        indices=parts.words,
        tables=measured.tables + parts.table,
        lanes=measured.lanes + parts.lanes,
        padding=measured.padding + parts.padding,
        ideal=measured.ideal + entropy(indices),
    )
    return measured, labels


def measure_positions(data: bytes, coded: Gaps) -> Measured:
    """What the bits of the gaps are spent on."""
    _, parts = huffman.parts(data, coded.stream, coded.symbols.size)
    low = coded.kept * coded.low_bits
    return Measured(
        positions=parts.words + low,
        tables=parts.table,
        lanes=parts.lanes,
        header=8 * coded.stream,
        padding=parts.padding + -low % 8,
        ideal=entropy(coded.symbols) + low,
        gaps=coded.symbols.size,
        fillers=coded.symbols.size - coded.kept,
        gap_bits=coded.gap_bits + coded.low_bits,
    )


CODING = Coding(None, _least, _plan, _decode, _measure)
