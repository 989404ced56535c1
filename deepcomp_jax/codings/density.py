"""The density coding: groups of equally dense weights, gaps within them, by rANS.

Rows and columns of a trained and pruned tensor are not equally dense. Here each index
of an axis has a small class, which is in the file; the sum of the classes of a weight's
indices says which group it is in. Within a group weights are kept more or less at
random, so gaps follow from the group's size and its number of gaps alone. That has the
ideal code length of a model that knows each group's density, at the price of a symbol
for each weight that is kept instead of one for each weight.

    body   = varint axes | classes... | varint gaps of each group that has values
             | varint splits | tables | rANS stream | low bits
    classes = for each axis in `axes` (bit a for axis a): a Huffman stream

Format notes:

- A gap is cut into units of 2**m zeros and m low bits (`_models.low_bits`). Symbol u
  is u units and then a weight; 32 is 32 units and no weight.
- Bit d of `splits` says that group d begins a new table of indices, as group 0 does.
- A table: u8 code; if that is 0, 6 bits for the frequency of each entry; else the code
  of `_models.falling`.
- The stream has two segments, the gaps of all groups and the indices of all weights.
- Low bits: those of the gaps that end at a weight, in order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import bits, huffman, rans
from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import _body, _fit, _groups, _models
from deepcomp_jax.codings._body import Leaf, Measured
from deepcomp_jax.codings._groups import Classes, Groups

MAX_ENTRIES = _models.MAX_SYMBOLS  # of a codebook: an index is an entry


class _Front(NamedTuple):
    """What a body says before its stream.

    Attributes:
        groups: The groups.
        gaps: Gap symbols of each, int64[groups].
        tables: Which table the indices of each group have, uint8[groups].
        frequencies: Of the tables, uint32[tables, entries].
        counts_at: Where the numbers of gaps begin, after the classes.
        tables_at: Where the tables begin.
        stream_at: Where the stream begins.
    """

    groups: Groups
    gaps: NDArray[np.int64]
    tables: NDArray[np.uint8]
    frequencies: NDArray[np.uint32]
    counts_at: int
    tables_at: int
    stream_at: int


# ---- writing ------------------------------------------------------------------------


def applies(leaf: Leaf) -> bool:
    """Whether this coding can hold a leaf."""
    return leaf.entries <= MAX_ENTRIES


def encode(labels: NDArray[np.unsignedinteger], leaf: Leaf) -> bytes:
    """Writes labels, uint[size]."""
    positions = np.flatnonzero(labels)
    classes = _fit.classes(positions, leaf.shape)
    found = _groups.groups(leaf.shape, classes)
    member, ranks, order = _groups.split(positions, found)
    indices = (labels[positions[order]] - 1).astype(np.uint16)
    low, symbols, gap_groups = _cut(member, ranks, found.sizes)
    gaps = np.bincount(gap_groups, minlength=found.sizes.size)
    head = _put_classes(classes)
    head += b"".join(
        bits.put_varint(int(count))
        for count, size in zip(gaps, found.sizes, strict=True)
        if size
    )
    if not gaps.any():
        return head
    tables, counts = _fit.tables(member, indices, found.sizes.size, leaf)
    new = np.diff(tables.astype(np.int64), prepend=0)
    head += bits.put_varint(sum(1 << int(d) for d in np.flatnonzero(new)))
    models = _models.put_tables(_models.fit(counts, leaf.negatives)[0])
    head += models
    _, frequencies = _models.get_tables(models, 0, len(counts), leaf)
    stream = rans.encode(
        [
            rans.Segment(symbols, _gap_models(found.sizes, gaps), gap_groups),
            rans.Segment(indices, rans.models(frequencies), tables[member]),
        ]
    )
    widths = _widths(found.sizes, gaps)[member]
    return head + stream + bits.pack(low, widths)


def _cut(
    member: NDArray[np.uint8], ranks: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint16], NDArray[np.uint8]]:
    """Low bits of the gaps, gap symbols, and the group of each symbol.

    How many bits are low depends on the number of symbols, and that, by the escapes,
    on the low bits. More symbols never mean fewer escapes, so counting them again and
    again ends at the least number that agrees with itself.
    """
    zeros = np.diff(ranks, prepend=-1) - 1
    begins = np.flatnonzero(np.diff(member, prepend=255))
    zeros[begins] = ranks[begins]
    gaps = np.bincount(member, minlength=sizes.size)
    while True:
        widths = _widths(sizes, gaps)[member]
        units = zeros >> widths
        escapes = units // _models.CAP
        before = gaps
        gaps = np.bincount(member, escapes + 1, sizes.size).astype(np.int64)
        if (gaps == before).all():
            break
    last = np.cumsum(escapes + 1) - 1
    symbols = np.full(last[-1] + 1 if last.size else 0, _models.CAP, np.uint16)
    symbols[last] = units - escapes * _models.CAP
    low = (zeros & ((1 << widths.astype(np.int64)) - 1)).astype(np.uint64)
    return low, symbols, np.repeat(member, escapes + 1)


def _widths(sizes: NDArray[np.int64], gaps: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Low bits of each group's gaps, uint8[groups]."""
    pairs = zip(sizes.tolist(), gaps.tolist(), strict=True)
    widths = [_models.low_bits(size, count) if count else 0 for size, count in pairs]
    return np.array(widths, np.uint8)


def _gap_models(sizes: NDArray[np.int64], gaps: NDArray[np.int64]) -> rans.Models:
    """A model for each group; that of a group without gaps is that of one gap."""
    pairs = zip(sizes.tolist(), gaps.tolist(), strict=True)
    rows = [_models.gap_frequencies(max(n, 1), max(g, 1)) for n, g in pairs]
    return rans.models(np.array(rows))


def _put_classes(classes: Classes) -> bytes:
    present = [a for a, own in enumerate(classes) if own is not None]
    streams = [huffman.encode(own) for own in classes if own is not None]
    return bits.put_varint(sum(1 << a for a in present)) + b"".join(streams)


# ---- reading ------------------------------------------------------------------------


def decode(data: bytes, leaf: Leaf) -> NDArray[np.unsignedinteger]:
    """Reads labels, uint[size].

    Raises:
        FormatError: The body breaks a clause of this chapter (L) or of the streams (E,
            H); the offset is that in the body.
    """
    front = _get_front(data, leaf)
    symbols, indices, kept, low_at = _get_stream(data, front)
    end, ranks = _get_ranks(data, front, symbols, kept, low_at)
    _body.check_end(data, end)
    positions = _groups.join(ranks, kept, front.groups)
    return _body.to_labels(positions, indices, leaf, front.stream_at)


def _get_front(data: bytes, leaf: Leaf) -> _Front:
    _body.check_entries(leaf, MAX_ENTRIES)
    pos, classes = _get_classes(data, leaf.shape)
    found = _groups.groups(leaf.shape, classes)
    counts_at, gaps = pos, np.zeros(found.sizes.size, np.int64)
    for group in np.flatnonzero(found.sizes).tolist():
        start = pos
        pos, gaps[group] = bits.get_varint(data, pos, clause="C3")
        if gaps[group] > found.sizes[group]:
            raise FormatError(
                f"{gaps[group]} gaps in a group of {found.sizes[group]} values",
                offset=start,
                clause="L6",
            )
    tables = np.zeros(gaps.size, np.uint8)
    frequencies = np.zeros((0, leaf.entries), np.uint32)
    tables_at = pos
    if gaps.any():
        pos, splits = bits.get_varint(data, pos, clause="C3")
        if splits % 2 or splits.bit_length() > gaps.size:
            raise FormatError("no such group", offset=pos - 1, clause="L10")
        tables = np.cumsum([splits >> d & 1 for d in range(gaps.size)]).astype(np.uint8)
        tables_at = pos
        pos, frequencies = _models.get_tables(data, pos, int(tables[-1]) + 1, leaf)
    return _Front(found, gaps, tables, frequencies, counts_at, tables_at, pos)


def _get_classes(data: bytes, shape: tuple[int, ...]) -> tuple[int, Classes]:
    pos, axes = bits.get_varint(data, 0, clause="C3")
    if axes.bit_length() > len(shape):
        raise FormatError("no such axis", offset=0, clause="L8")
    classes: list[NDArray[np.uint8] | None] = [None] * len(shape)
    most = 0
    for axis in range(len(shape)):
        if axes >> axis & 1:
            start = pos
            pos, own = huffman.decode(data, pos, shape[axis])
            most += int(own.max())
            if not 0 < most < _groups.MAX_GROUPS or own.max() == 0:
                raise FormatError(
                    f"{most + 1} groups, or an axis of one class",
                    offset=start,
                    clause="L9",
                )
            classes[axis] = own.astype(np.uint8)
    return pos, tuple(classes)


def _get_stream(
    data: bytes, front: _Front
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int64], int]:
    """Gap symbols, indices, weights kept in each group, and where the stream ends."""
    count = front.gaps.size
    if not front.gaps.any():
        none = np.zeros(0, np.uint16)
        return none, none, np.zeros(count, np.int64), front.stream_at
    of_gaps = np.repeat(np.arange(count, dtype=np.uint8), front.gaps)
    end, state = rans.begin(data, front.stream_at)
    state, symbols = rans.take(
        state, _gap_models(front.groups.sizes, front.gaps), of_gaps
    )
    weight = symbols < _models.CAP
    kept = np.bincount(of_gaps, weight, count).astype(np.int64)
    chosen = np.repeat(front.tables, kept)
    table = rans.models(front.frequencies)
    state, indices = rans.take(state, table, chosen)
    rans.finish(state)
    return symbols, indices, kept, end


def _get_ranks(
    data: bytes,
    front: _Front,
    symbols: NDArray[np.uint16],
    kept: NDArray[np.int64],
    low_at: int,
) -> tuple[int, NDArray[np.int64]]:
    """The position after the low bits, and the ranks of the weights in their groups."""
    widths = _widths(front.groups.sizes, front.gaps).astype(np.int64)
    end = _body.after_bits(data, low_at, int(kept @ widths))
    field = 0
    ranks: list[NDArray[np.int64]] = []
    for group, part in _groups.parts(front.gaps):
        own, width = symbols[part], int(widths[group])
        if own[-1] == _models.CAP:
            raise FormatError(
                "the last gap is a filler", offset=front.stream_at, clause="G6"
            )
        count = int(kept[group])
        low = bits.unpack_fixed(data[low_at:end], count, width, offset=field)
        field += count * width
        units = np.cumsum(own.astype(np.int64))[own < _models.CAP]
        ranks.append((units << width) + np.cumsum(low.astype(np.int64) + 1) - 1)
        if ranks[-1][-1] >= front.groups.sizes[group]:
            raise FormatError(
                f"gaps reach value {ranks[-1][-1]} of {front.groups.sizes[group]}",
                offset=front.stream_at,
                clause="L7",
            )
    return end, np.concatenate(ranks) if ranks else np.zeros(0, np.int64)


def measure(data: bytes, leaf: Leaf) -> Measured:
    """What the bits of a valid body are spent on.

    The words of the stream hold gaps and indices together; each gets its part of them
    in proportion to its ideal code length.
    """
    front = _get_front(data, leaf)
    symbols, indices, kept, low_at = _get_stream(data, front)
    without_stream = Measured(
        classes=8 * front.counts_at, header=8 * (front.tables_at - front.counts_at)
    )
    if not symbols.size:
        return without_stream
    gap_table = _gap_models(front.groups.sizes, front.gaps)
    of_gaps = np.repeat(np.arange(front.gaps.size, dtype=np.uint8), front.gaps)
    chosen = np.repeat(front.tables, kept)
    index_table = rans.models(front.frequencies)
    gap_cost = rans.cost(rans.Segment(symbols, gap_table, of_gaps))
    index_cost = rans.cost(rans.Segment(indices, index_table, chosen))
    low = int(kept @ _widths(front.groups.sizes, front.gaps).astype(np.int64))
    _, state = rans.begin(data, front.stream_at)
    words = 16 * int(state.ends[-1])
    to_gaps = round(words * gap_cost / max(gap_cost + index_cost, 1e-9))
    return without_stream._replace(
        positions=to_gaps + low,
        indices=words - to_gaps,
        tables=8 * (front.stream_at - front.tables_at),
        lanes=8 * (low_at - front.stream_at) - words,
        padding=-low % 8,
        ideal=gap_cost + index_cost + low,
        gaps=symbols.size,
        fillers=symbols.size - indices.size,
    )
