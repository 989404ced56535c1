"""The grouped coding: groups of equally dense weights, gaps within them, by rANS.

Rows and columns of a trained and pruned tensor are not equally dense, and those of any
trained one hold weights that are not equally large. Here each index of an axis has a
small class, which is in the file; the sum of the classes of a weight's indices says
which group it is in. Within a group weights are kept more or less at random, so gaps
follow from the group's size and its number of gaps alone. That has the ideal code
length of a model that knows each group's density, at the price of a symbol for each
weight that is kept instead of one for each weight.

    body   = classes (`axis_classes`) | varint gaps of each group that has values
             | [varint splits] | tables | rANS stream | low bits

Format notes:

- A gap is cut into units of 2**m zeros and m low bits (`symbol_models.low_bits`).
  Symbol u is u units and then a weight; 32 is 32 units and no weight.
- Bit d of `splits` says that group d begins a new table of indices, as group 0 does.
  It is there if there is more than one group.
- A table: u8 code; if that is 0, 6 bits for the frequency of each entry; else the code
  of `symbol_models.falling`.
- The stream has two segments, the gaps of all groups and the indices of all weights.
- Low bits: those of the gaps that end at a weight, in order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import (
    axis_classes,
    common,
    group_order,
    group_search,
    grouped_header,
    grouping,
    order0,
    packed,
    price_model,
    symbol_models,
    table_search,
)
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
from deepcomp_jax.streams.counting import bincount
from deepcomp_jax.streams.gaps import put_fillers

MAX_ENTRIES = symbol_models.MAX_SYMBOLS  # of a codebook: an index is an entry
_LARGE = 1 << 15  # labels; of fewer all is decided sooner than guessed
_DOUBT = 512  # bits by which the price of a body without classes may be too high

# What classes by magnitude have to save of a body that has no gaps without them. Such a
# body is read in a fifth to a twentieth of the time: 2 ms instead of 20 for 147,456
# labels, 8 instead of 45 for 589,824 (compiled loops, on one core).
_WORTH = 0.005

# ---- writing ------------------------------------------------------------------------


def _least(labels: Labels, leaf: Leaf, counts: Counts) -> float:
    """All bits if all weights are kept, and are about as large in every row and column;
    else the counts tell nothing, for a class may have all weights that are kept."""
    none: grouping.Classes = (None,) * len(leaf.shape)
    if counts[0] or group_search.is_worth_while(labels, leaf, counts, none):
        return 0.0
    gaps = np.zeros((1, symbol_models.CAP + 1), np.int64)
    gaps[0, 0] = labels.size
    table = rans.models(symbol_models.gap_frequencies(labels.size, labels.size)[None])
    indices = symbol_models.fit(counts[None, 1:], leaf.negatives)[1][0]
    words = rans.estimate(gaps, table) + float(indices)
    return words + rans.overhead(words)


def _plan(labels: Labels, leaf: Leaf, counts: Counts) -> Plan:
    found = group_search.find(labels, leaf, counts)
    if found.large is None:
        return _plan_with(found.dense, labels, leaf, counts)
    plan = _plan_of(labels, leaf, found.large)
    least = _least_of_others(labels, leaf, counts)
    if found.sure and plan.bits < (1 - _WORTH) * least:
        return plan
    dense = _plan_with(found.dense, labels, leaf, counts)
    most = min(dense.bits, (1 - _WORTH) * least)
    if dense.bits < least:  # a body of this coding is read in either case
        most = dense.bits
    return plan if plan.bits < most else dense


def _least_of_others(labels: Labels, leaf: Leaf, counts: Counts) -> float:
    """Bits of the smallest body in a coding that is read several times as fast."""
    fast = [
        coding.least(labels, leaf, counts)
        for coding in (packed.CODING, order0.CODING)
        if coding.applies(leaf)
    ]
    return min(fast)


def _plan_with(
    classes: grouping.Classes, labels: Labels, leaf: Leaf, counts: Counts
) -> Plan:
    """What a body with these classes consists of, if it may be the smallest."""
    is_plain = not any(own is not None for own in classes)
    if is_plain and labels.size > _LARGE and leaf.entries <= order0.MAX_ENTRIES:
        # The counts tell enough to say that the other coding is smaller.
        size = price_model.one_group(counts, leaf)
        if size > order0.CODING.least(labels, leaf, counts) + _DOUBT:
            return Plan(size, lambda put: _plan_of(labels, leaf, classes).write(put))
    return _plan_of(labels, leaf, classes)


def _plan_of(labels: Labels, leaf: Leaf, classes: grouping.Classes) -> Plan:
    """What a body with these classes consists of."""
    groups = grouping.groups(leaf.shape, classes)
    kept = group_order.ordered(labels, groups)
    member = np.repeat(np.arange(kept.counts.size, dtype=np.uint8), kept.counts)
    indices = kept.labels - 1
    low, symbols, gaps = _cut(kept, groups.sizes)
    head = axis_classes.put(classes)
    head += b"".join(
        bits.put_varint(int(count))
        for count, size in zip(gaps, groups.sizes, strict=True)
        if size
    )
    if not gaps.any():
        return Plan(8 * len(head), lambda _: head)
    used = np.zeros((groups.sizes.size, leaf.entries), np.int64)
    for group, part in grouping.parts(kept.counts):
        used[group] = bincount(indices[part], leaf.entries)
    tables, of_table = table_search.joined(used, leaf.negatives)
    if groups.sizes.size > 1:
        new = np.diff(tables.astype(np.int64), prepend=0)
        head += bits.put_varint(sum(1 << int(d) for d in np.flatnonzero(new)))
    models = symbol_models.put_tables(symbol_models.fit(of_table, leaf.negatives)[0])
    _, frequencies = symbol_models.get_tables(models, 0, len(of_table), leaf)
    segments = [
        _gap_segment(symbols, gaps, groups.sizes),
        rans.Segment(indices, rans.models(frequencies), tables[member], of_table),
    ]
    widths = grouped_header.widths(groups.sizes, gaps)[member]
    words = sum(map(rans.cost, segments))

    def write(put: rans.Put) -> bytes:
        stream = rans.encode(segments, put=put)
        if not widths.any():  # nor has any gap low bits where most weights are kept
            return head + models + stream
        return head + models + stream + bits.pack(low, widths)

    known = 8 * len(head + models) + int(widths.sum(dtype=np.int64))
    return Plan(known + words + rans.overhead(words), write)


def _gap_segment(
    symbols: NDArray[np.uint16], gaps: NDArray[np.int64], sizes: NDArray[np.int64]
) -> rans.Segment:
    """Gap symbols of groups, and how often each has which."""
    counts = np.zeros((gaps.size, symbol_models.CAP + 1), np.int64)
    for group, part in grouping.parts(gaps):
        counts[group] = bincount(symbols[part], symbol_models.CAP + 1)
    chosen = np.repeat(np.arange(gaps.size, dtype=np.uint8), gaps)
    return rans.Segment(symbols, grouped_header.gap_models(sizes, gaps), chosen, counts)


def _cut(
    kept: group_order.Ordered, sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint16], NDArray[np.int64]]:
    """Low bits of the gaps, gap symbols, and how many of these each group has."""
    zeros = np.diff(kept.ranks, prepend=-1) - 1
    low = np.zeros(zeros.size, np.uint64)
    symbols: list[NDArray[np.uint16]] = [np.zeros(0, np.uint16)]
    gaps = np.zeros(sizes.size, np.int64)
    for group, part in grouping.parts(kept.counts):
        zeros[part.start] = kept.ranks[part.start]
        of_group, width = _cut_group(zeros[part], int(sizes[group]))
        if width:
            low[part] = zeros[part] & (1 << width) - 1
        symbols.append(of_group)
        gaps[group] = of_group.size
    return low, np.concatenate(symbols), gaps


def _cut_group(zeros: NDArray[np.int64], size: int) -> tuple[NDArray[np.uint16], int]:
    """Gap symbols of a group of so many values, and how many bits of a gap are low.

    How many are low depends on the number of symbols, and that, by the escapes, on the
    low bits. More symbols never mean fewer escapes, so counting them again and again
    ends at the least number that agrees with itself.
    """
    count, longest = zeros.size, int(zeros.max())
    while True:
        width, before = symbol_models.low_bits(size, count), count
        if longest >> width < symbol_models.CAP:
            return (zeros >> width).astype(np.uint16), width
        units = zeros >> width
        count = zeros.size + int((units // symbol_models.CAP).sum())
        if count == before:
            return put_fillers(units, symbol_models.CAP), width


# ---- reading ------------------------------------------------------------------------


class _Stream(NamedTuple):
    """What a body holds.

    Attributes:
        front: What it says before its stream.
        models: Of the gaps of each group, and of the indices in each table.
        symbols: Gap symbols of all groups.
        indices: Those of all weights, group by group.
        kept: Weights of each group.
        words: Of the stream.
        end: Where the stream ends, and the low bits begin.
    """

    front: grouped_header.Front
    models: tuple[rans.Models, rans.Models]
    symbols: NDArray[np.uint8]
    indices: NDArray[np.uint16]
    kept: NDArray[np.int64]
    words: int
    end: int


def _decode(data: bytes, leaf: Leaf, lookup: np.ndarray, take: Take) -> np.ndarray:
    return _place(data, leaf, lookup, _get_stream(data, leaf, take))


def _get_stream(data: bytes, leaf: Leaf, take: Take) -> _Stream:
    """Reads a body up to the low bits."""
    front = grouped_header.get_front(data, leaf)
    count = front.gaps.size
    kept = np.zeros(count, np.int64)
    of_gaps = grouped_header.gap_models(front.groups.sizes, front.gaps)
    models = of_gaps, rans.models(front.frequencies)
    if not front.gaps.any():
        none = np.zeros(0, np.uint16)
        symbols = none.astype(np.uint8)
        return _Stream(front, models, symbols, none, kept, 0, front.stream_at)
    end, state = rans.begin(data, front.stream_at)
    # A byte for each symbol and its model: there may be as many as values.
    state, symbols = take(
        state,
        of_gaps,
        np.repeat(np.arange(count, dtype=np.uint8), front.gaps),
        np.arange(symbol_models.CAP + 1, dtype=np.uint8),
    )
    for group, part in grouping.parts(front.gaps):
        kept[group] = bincount(symbols[part], symbol_models.CAP + 1)[
            : symbol_models.CAP
        ].sum()
    chosen = np.repeat(front.tables, kept)
    state, indices = take(state, models[1], chosen)
    rans.finish(state)
    return _Stream(front, models, symbols, indices, kept, int(state.ends[-1]), end)


def _place(data: bytes, leaf: Leaf, lookup: np.ndarray, stream: _Stream) -> np.ndarray:
    """What the labels stand for, at the positions of the weights."""
    front, _, symbols, indices, kept, _, low_at = stream
    end = common.after_bits(data, low_at, int(kept @ front.widths))
    flat = common.zeros(leaf.size, lookup.dtype)
    first = 0
    for positions in grouped_header.positions(data[low_at:end], front, symbols, kept):
        part = slice(first, first + positions.size)
        flat[positions] = lookup[1:].take(indices[part])
        first = part.stop
    common.check_end(data, end)
    return flat


def _measure(data: bytes, leaf: Leaf) -> tuple[Measured, Labels]:
    """The words of the stream hold gaps and indices together; each gets its part of
    them in proportion to its ideal code length."""
    stream = _get_stream(data, leaf, rans.take)
    labels = _place(data, leaf, common.labels_of(leaf), stream)
    front, models, symbols, indices, kept, words, low_at = stream
    measured = Measured(
        classes=8 * front.counts_at, header=8 * (front.tables_at - front.counts_at)
    )
    if not symbols.size:
        return measured, labels
    of_gaps = np.repeat(np.arange(front.gaps.size, dtype=np.uint8), front.gaps)
    chosen = np.repeat(front.tables, kept)
    gap_cost = rans.cost(rans.Segment(symbols, models[0], of_gaps))
    index_cost = rans.cost(rans.Segment(indices, models[1], chosen))
    low = int(kept @ front.widths)
    taken = 16 * words
    to_gaps = round(taken * gap_cost / max(gap_cost + index_cost, 1e-9))
    measured = measured._replace(
        positions=to_gaps + low,
        indices=taken - to_gaps,
        tables=8 * (front.stream_at - front.tables_at),
        lanes=8 * (low_at - front.stream_at) - taken,
        padding=-low % 8,
        ideal=gap_cost + index_cost + low,
        gaps=symbols.size,
        fillers=symbols.size - indices.size,
    )
    return measured, labels


CODING = Coding(MAX_ENTRIES, _least, _plan, _decode, _measure)
