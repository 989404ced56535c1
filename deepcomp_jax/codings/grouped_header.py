"""The body of the grouped coding: what is before its stream, and what follows from it.

`grouped` describes the format.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import axis_classes, common, grouping, symbol_models
from deepcomp_jax.codings.common import Leaf
from deepcomp_jax.codings.grouping import Groups
from deepcomp_jax.streams import bits, rans
from deepcomp_jax.streams.gaps import decode as decode_gaps


class Front(NamedTuple):
    """What a body says before its stream.

    Attributes:
        groups: The groups.
        gaps: Gap symbols of each, int64[groups].
        widths: Low bits of a gap of each, int64[groups].
        tables: Which table the indices of each group have, uint8[groups].
        frequencies: Frequencies of the entries in each table, uint32[tables, entries].
        counts_at: Where the numbers of gaps begin, after the classes.
        tables_at: Where the tables begin.
        stream_at: Where the stream begins.
    """

    groups: Groups
    gaps: NDArray[np.int64]
    widths: NDArray[np.int64]
    tables: NDArray[np.uint8]
    frequencies: NDArray[np.uint32]
    counts_at: int
    tables_at: int
    stream_at: int


def get_front(data: bytes, leaf: Leaf) -> Front:
    """Reads what a body says before its stream.

    Raises:
        FormatError: L1 to L3, L6, L8 to L10, L17, L18, C3, or a clause of the classes'
            stream (E).
    """
    common.check_entries(leaf, symbol_models.MAX_SYMBOLS)
    pos, classes = axis_classes.get(data, leaf.shape)
    groups = grouping.groups(leaf.shape, classes)
    counts_at, gaps = pos, np.zeros(groups.sizes.size, np.int64)
    for group in np.flatnonzero(groups.sizes).tolist():
        start = pos
        pos, gaps[group] = bits.get_varint(data, pos, clause="C3")
        if gaps[group] > groups.sizes[group]:
            raise FormatError(
                f"{gaps[group]} gaps in a group of {groups.sizes[group]} values",
                offset=start,
                clause="L6",
            )
    tables = np.zeros(gaps.size, np.uint8)
    frequencies = np.zeros((0, leaf.entries), np.uint32)
    tables_at = pos
    if gaps.any():
        splits = 0
        if gaps.size > 1:
            pos, splits = bits.get_varint(data, pos, clause="C3")
        if splits % 2 or splits.bit_length() > gaps.size:
            raise FormatError("no such group", offset=pos - 1, clause="L10")
        tables = np.cumsum([splits >> d & 1 for d in range(gaps.size)]).astype(np.uint8)
        tables_at = pos
        pos, frequencies = symbol_models.get_tables(
            data, pos, int(tables[-1]) + 1, leaf
        )
    low = widths(groups.sizes, gaps).astype(np.int64)
    return Front(groups, gaps, low, tables, frequencies, counts_at, tables_at, pos)


def widths(sizes: NDArray[np.int64], gaps: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Low bits of each group's gaps, uint8[groups]."""
    pairs = zip(sizes.tolist(), gaps.tolist(), strict=True)
    widths = [
        symbol_models.low_bits(size, count) if count else 0 for size, count in pairs
    ]
    return np.array(widths, np.uint8)


def gap_models(sizes: NDArray[np.int64], gaps: NDArray[np.int64]) -> rans.Models:
    """A model for each group; that of a group without gaps is that of one gap."""
    pairs = zip(sizes.tolist(), gaps.tolist(), strict=True)
    rows = [symbol_models.gap_frequencies(max(n, 1), max(g, 1)) for n, g in pairs]
    return rans.models(np.array(rows))


def positions(
    low: bytes,
    front: Front,
    symbols: NDArray[np.unsignedinteger],
    kept: NDArray[np.int64],
) -> Iterator[NDArray[np.int64]]:
    """Positions of the weights in the flattened tensor, some of them at a time.

    Args:
        low: The low bits.
        front: What the body says before its stream.
        symbols: Gap symbols of all groups.
        kept: Weights of each group.

    Raises:
        FormatError: G6, L7.
    """
    field = 0
    for group, part in grouping.parts(front.gaps):
        if symbols[part.stop - 1] == symbol_models.CAP:
            raise _filler(front)
        width, size = int(front.widths[group]), int(front.groups.sizes[group])
        locate = grouping.locator(front.groups, group)
        blocks = decode_gaps(
            symbols[part], low, cap=symbol_models.CAP, low_bits=width, start=field
        )
        for ranks in blocks:
            if ranks.size and ranks[-1] >= size:
                raise _beyond(front, group, int(ranks[-1]))
            yield locate(ranks)
        field += width * int(kept[group])


def _filler(front: Front) -> FormatError:
    return FormatError("the last gap is a filler", offset=front.stream_at, clause="G6")


def _beyond(front: Front, group: int, rank: int) -> FormatError:
    size = front.groups.sizes[group]
    return FormatError(
        f"gaps reach value {rank} of {size}", offset=front.stream_at, clause="L7"
    )
