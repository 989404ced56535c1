"""Parts that files for the test vectors are put together from, byte by byte."""

import zlib
from collections.abc import Sequence

import numpy as np

from deepcomp_jax.codings import axis_classes, symbol_models
from deepcomp_jax.streams import rans
from deepcomp_jax.streams.bits import put_varint as varint

NONE, LEAF, AGAIN = b"\x01", b"\x00", b"\x05"
BOOL, INT8, INT16, FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = 0, 1, 2, 9, 10, 11, 12
RAW, SPARSE, PACKED, RELATIVE, ORDER0, GROUPED, COPY, PLANES, ELSEWHERE = range(9)
EMPTY = bytes([INT8, 1, 0, 0])  # the layout of int8[0], raw, and the size of its body
# Huffman streams in which one symbol only is used: 0, 1.
ZERO, SECOND = bytes.fromhex("0110"), bytes.fromhex("020010")


def crc(data: bytes) -> bytes:
    """The checksum of a header or a body."""
    return zlib.crc32(data).to_bytes(4, "little")


def front(fields: bytes) -> bytes:
    """A file without sections."""
    start = b"\x89DCZ\x01" + varint(len(fields)) + fields
    return start + crc(start)


def header(
    *,
    strings: bytes = b"\0",
    tree: bytes = NONE,
    leaves: bytes = b"",
    metadata: bytes = b"",
) -> bytes:
    """A header; by default of a tree that is None."""
    return front(strings + tree + leaves + metadata)


def pairs(*texts: bytes) -> bytes:
    """Metadata: keys and values in turn."""
    return varint(len(texts) // 2) + b"".join(varint(len(t)) + t for t in texts)


def string(prefix: int, rest: bytes) -> bytes:
    """A string that begins like the one before it."""
    return varint(prefix + 16 * len(rest)) + rest


def container(kind: int, *nodes: bytes) -> bytes:
    """A dictionary (2), whose nodes follow their keys, a list (3) or a tuple (4)."""
    return varint(kind + 8 * len(nodes)) + b"".join(nodes)


def book(entries: bytes, k: int) -> bytes:
    """A codebook stored entry by entry."""
    return varint(4 * k) + entries


def grid(step: bytes, sizes: tuple[int, int], flags: bytes | None = None) -> bytes:
    """A grid: its entries below zero and those above; with flags, one with gaps."""
    below, above = sizes
    kind = 1 if flags is None else 2
    return varint(4 * (below + above) + kind) + step + varint(below) + (flags or b"")


def runs(step: bytes, *numbers: int, count: int) -> bytes:
    """A grid in runs: its first place, a length, and a gap and a length for each."""
    return varint(4 * count + 3) + step + b"".join(map(varint, numbers))


def ones(k: int) -> bytes:
    """A float16 codebook of k entries: 1.0 and the next ones above it."""
    entries = np.arange(0x3C00, 0x3C00 + k, dtype="<u2")
    return book(entries.tobytes(), k)


def copy_of(number: int) -> bytes:
    """What a leaf says that is the same as another."""
    return bytes([16 * COPY + number % 16]) + varint(number // 16)


def layout(
    shape: Sequence[int],
    coding: int,
    *,
    dtype: int = FLOAT16,
    codebook: bytes = b"",
    storage: int | None = None,
    scales: tuple[int, int] | None = None,
) -> bytes:
    """What a leaf says before the size of its body.

    Args:
        shape: Of the leaf.
        coding: Number of the coding.
        dtype: Of the leaf.
        codebook: A new one if there is a storage, else the number of an older one.
        storage: Dtype that the new one is stored in.
        scales: Where its axes are divided, batch and split, if it has scales.
    """
    number = len(shape) + (0 if storage is None else 32 * (storage - FLOAT16 + 1))
    more = bytes([dtype - 15]) if dtype >= 15 else b""
    numbers = list(shape)
    if scales is not None:
        number += 128
        numbers.append(32 * scales[0] + scales[1])
    kind = bytes([min(dtype, 15) + 16 * coding]) + more + bytes([number])
    return kind + b"".join(map(varint, numbers)) + codebook


def leaf(
    body: bytes,
    shape: Sequence[int],
    coding: int,
    *,
    dtype: int = INT8,
    k: int | None = None,
) -> bytes:
    """A file of one leaf; with k a float16 leaf with a codebook of so many entries."""
    return leaf_in_parts([body], shape, coding, dtype=dtype, k=k)


def leaf_in_parts(
    bodies: Sequence[bytes],
    shape: Sequence[int],
    coding: int,
    *,
    dtype: int = INT8,
    k: int | None = None,
) -> bytes:
    """A file of one leaf, as `leaf` makes it, with a body for each part."""
    described = layout(shape, coding, dtype=dtype)
    if k is not None:
        described = layout(shape, coding, codebook=ones(k), storage=FLOAT16)
    sizes = b"".join(varint(len(body)) for body in bodies)
    small = b"".join(body for body in bodies if len(body) < 1024)
    large = b"".join(body + crc(body) for body in bodies if len(body) >= 1024)
    return header(tree=LEAF, leaves=described + sizes + small) + large


def scaled(
    rows: bytes,
    columns: bytes,
    *,
    shape: Sequence[int] = (2, 3),
    split: tuple[int, int] = (0, 1),
    codebook: bytes | None = None,
    dtype: int = FLOAT16,
) -> bytes:
    """A file of one packed leaf whose labels are all 1, with scales.

    Args:
        rows: The body of the exponents of rows.
        columns: That of the exponents of columns.
        shape: Of the leaf.
        split: Where its axes are divided.
        codebook: Of one entry; None for 1.0 in a float16.
        dtype: Of the leaf and of what the codebook is stored in.
    """
    size = int(np.prod(shape))
    labels = np.packbits(np.ones(size, bool)).tobytes()
    book = ones(1) if codebook is None else codebook
    described = layout(
        shape, PACKED, dtype=dtype, codebook=book, storage=dtype, scales=split
    )
    bodies = rows, columns, labels
    sizes = b"".join(varint(len(body)) for body in bodies)
    small = b"".join(body for body in bodies if len(body) < 1024)
    large = b"".join(body + crc(body) for body in bodies if len(body) >= 1024)
    return header(tree=LEAF, leaves=described + sizes + small) + large


def gaps(
    stream: bytes,
    count: int = 1,
    *,
    width: int = 5,
    low_bits: int = 0,
    low: bytes = b"",
) -> bytes:
    """The positions part of a sparse or relative body."""
    return bytes([width, low_bits]) + varint(count) + stream + low


def order0(labels: Sequence[int], k: int, *, lanes: int = 1) -> tuple[bytes, bytes]:
    """Frequencies, all alike, and the stream of an order0 body."""
    codes = np.full(k + 1, 63, np.uint8)
    table = rans.models(symbol_models.frequencies(codes[None]))
    segment = rans.Segment(
        np.array(labels, np.uint16), table, np.zeros(len(labels), np.uint8)
    )
    return symbol_models.put(codes), rans.encode([segment], lanes=lanes)


def classes(
    *axes: Sequence[int] | None, context: int | None = None, more: int = 0
) -> bytes:
    """Classes of the axes of a leaf; None where all are 0.

    Args:
        axes: The classes of each.
        context: Of all axes; None takes the best of each.
        more: What the greatest class said is above that which occurs.
    """
    present = [a for a, own in enumerate(axes) if own is not None]
    head, intervals = varint(sum(1 << a for a in present)), []
    for own in (own for own in axes if own is not None):
        most, chosen = max(own) + more, context
        if chosen is None:
            chosen, _ = axis_classes.choose(np.array(own, np.uint8))
        intervals += axis_classes.intervals(np.array(own, np.uint8), most, chosen)
        head += bytes([most]) + varint(chosen)
    return head + (rans.encode_each(intervals) if present else b"")


def grouped(
    groups: Sequence[tuple[int, Sequence[int], Sequence[int]]],
    k: int,
    *,
    front: bytes = b"\0",
    splits: int = 0,
    tables: Sequence[int] = (1,),
    lanes: int = 1,
    low: bytes = b"",
) -> bytes:
    """A grouped body.

    Args:
        groups: Size, gap symbols and indices of each.
        k: Entries of the codebook, all above zero.
        front: The axes and their classes.
        splits: Which groups begin a new table.
        tables: Their codes, or 0 for frequencies that are all alike.
        lanes: Of the stream.
        low: The low bits.
    """
    counts = b"".join(varint(len(symbols)) for size, symbols, _ in groups if size)
    alike = np.full(k, 63, np.uint8)
    written = [
        bytes([code]) + (b"" if code else symbol_models.put(alike)) for code in tables
    ]
    rows = [
        symbol_models.falling(code, k, 0)
        if code
        else symbol_models.frequencies(alike[None])[0]
        for code in tables
    ]
    number = [(splits % 2 ** (i + 1)).bit_count() for i in range(len(groups))]
    models = [
        symbol_models.gap_frequencies(max(size, 1), max(len(symbols), 1))
        for size, symbols, _ in groups
    ]
    segments = [
        _segment([symbols for _, symbols, _ in groups], models, range(len(groups))),
        _segment([indices for *_, indices in groups], rows, number),
    ]
    stream = rans.encode(segments, lanes=lanes)
    new = varint(splits) if len(groups) > 1 else b""
    return front + counts + new + b"".join(written) + stream + low


def _segment(
    symbols: Sequence[Sequence[int]],
    models: Sequence[np.ndarray],
    chosen: Sequence[int],
) -> rans.Segment:
    """Symbols of several groups, and the model that each group has."""
    each = np.repeat(np.array(chosen, np.uint8), [len(own) for own in symbols])
    flat = np.array([symbol for own in symbols for symbol in own], np.uint16)
    return rans.Segment(flat, rans.models(np.array(models)), each)
