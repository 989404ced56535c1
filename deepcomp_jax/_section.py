"""The sections of a `.dcz` file: the values of one leaf each.

    section = body | u32 checksum of the body
    body    = raw:     the values
              shared:  varint G | stream of G gaps | stream of label - 1 for each gap
                       that is no filler
              sparse:  varint G | stream of G gaps | the values that are kept

Format notes:

- Streams are those of `huffman`, gaps those of `gaps`; values are little-endian.
- A leaf without values has an empty body.
- A sparse leaf keeps what is not all zero bits, so -0.0 is kept.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import _layout, bits, gaps, huffman
from deepcomp_jax._errors import FormatError
from deepcomp_jax._header import CHECKSUM_BYTES, Entry, checksum
from deepcomp_jax._layout import DTYPES, RAW, SHARED, SPARSE, Layout
from deepcomp_jax._types import Dense, Shared

_SPARSE_GAP_BITS = 8  # the width matters little once gaps are Huffman-coded


class Section(NamedTuple):
    """A section that was read and checked.

    Attributes:
        body: Its bytes without the checksum.
        gaps: Gap symbols, uint16[G]; none if raw.
        positions: Of the kept values in the flattened leaf, int64[kept]; none if raw.
        indices: Of the entries of the codebook, uint16[kept]; none unless shared.
        values: Of a raw leaf all, of a sparse one those kept, else none.
        gaps_at: Where the stream of gaps begins, in bytes from the start of the body.
        rest_at: Where the indices or the values begin, likewise.
    """

    body: bytes
    gaps: NDArray[np.uint16]
    positions: NDArray[np.int64]
    indices: NDArray[np.uint16]
    values: np.ndarray
    gaps_at: int
    rest_at: int


# ---- writing ------------------------------------------------------------------------


def put(
    name: str, leaf: Dense | Shared, codebooks: tuple[np.ndarray, ...]
) -> tuple[Layout, bytes]:
    """Writes a leaf: how it is stored, and its section.

    Raises:
        ValueError: The dtype, a label or the width of a gap cannot be written.
        TypeError: The leaf is neither Dense nor Shared.
    """
    if isinstance(leaf, Dense):
        values = np.asarray(leaf.values)
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        layout, body = _put_dense(name, native)
    elif isinstance(leaf, Shared):
        layout, body = _put_shared(name, leaf, codebooks[leaf.codebook])
    else:
        raise TypeError(
            f"leaf {name!r} is a {type(leaf).__name__}, not Dense or Shared"
        )
    if problem := _layout.shape_problem(layout.shape, layout.dtype):
        raise ValueError(f"leaf {name!r} {problem.message}: reshape it")
    return layout, body + checksum(body)


def _put_shared(name: str, leaf: Shared, codebook: np.ndarray) -> tuple[Layout, bytes]:
    labels = np.asarray(leaf.labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"leaf {name!r}: labels are {labels.dtype}, not integers")
    if labels.size and not 0 <= labels.min() <= labels.max() <= codebook.size:
        raise ValueError(
            f"leaf {name!r}: labels must be 0 to {codebook.size}, got "
            f"{labels.min()} to {labels.max()}"
        )
    if not 1 <= leaf.gap_bits <= gaps.MAX_BITS:
        raise ValueError(
            f"leaf {name!r}: a gap must have 1 to {gaps.MAX_BITS} bits, got "
            f"{leaf.gap_bits}"
        )
    layout = Layout(labels.shape, codebook.dtype, SHARED, leaf.codebook, leaf.gap_bits)
    flat = labels.ravel()
    positions = np.flatnonzero(flat)
    head = _put_gaps(positions, leaf.gap_bits)
    indices = (flat[positions] - 1).astype(np.uint16)
    return layout, head + huffman.encode(indices) if flat.size else b""


def _put_gaps(positions: np.ndarray, gap_bits: int) -> bytes:
    symbols = gaps.encode(positions, bits=gap_bits)
    return bits.put_varint(symbols.size) + huffman.encode(symbols)


def _put_dense(name: str, values: np.ndarray) -> tuple[Layout, bytes]:
    """Raw, or sparse where that is smaller."""
    if values.dtype not in DTYPES:
        known = ", ".join(dtype.name for dtype in DTYPES)
        raise ValueError(
            f"leaf {name!r} is {values.dtype}: convert it to one of {known}"
        )
    flat = values.ravel()
    raw = _layout.little(flat)
    kept = _nonzero_bits(flat)
    if not kept.all():
        positions = np.flatnonzero(kept)
        head = _put_gaps(positions, _SPARSE_GAP_BITS)
        body = head + _layout.little(flat[positions])
        layout = Layout(values.shape, values.dtype, SPARSE, None, _SPARSE_GAP_BITS)
        # One byte more of header: the width of a gap.
        if len(body) + 1 < len(raw):
            return layout, body
    return Layout(values.shape, values.dtype, RAW), raw


def _nonzero_bits(flat: np.ndarray) -> NDArray[np.bool_]:
    """Which values are not all zero bits, bool[n]."""
    words = flat.view(f"u{min(flat.dtype.itemsize, 8)}") != 0
    return words if words.size == flat.size else words[::2] | words[1::2]


# ---- reading ------------------------------------------------------------------------


def get(entry: Entry, section: bytes, codebooks: tuple[np.ndarray, ...]) -> Section:
    """Reads and checks the section of a leaf.

    Args:
        entry: Of the leaf.
        section: The bytes of the section; fewer if the file is cut.
        codebooks: Those of the file.

    Raises:
        FormatError: C3, C32 to C40, or a clause of the gaps (G) or streams (H); the
            offset is that in the file.
    """
    try:
        body, found = section[:-CHECKSUM_BYTES], section[-CHECKSUM_BYTES:]
        if len(section) != entry.size or checksum(body) != found:
            raise FormatError("the section is damaged", offset=len(body), clause="C32")
        if entry.layout.size == 0 and body:
            raise FormatError("a leaf without values has some", offset=0, clause="C33")
        if entry.layout.size == 0 or entry.layout.coding == RAW:
            return _get_raw(entry.layout, body)
        return _get_coded(entry.layout, body, codebooks)
    except FormatError as error:
        where = f" (byte {error.offset}, clause {error.clause})"
        raise FormatError(
            f"leaf {entry.name!r}: {str(error).removesuffix(where)}",
            offset=entry.offset + error.offset,
            clause=error.clause,
        ) from None


def leaf(
    layout: Layout, section: Section, codebooks: tuple[np.ndarray, ...]
) -> Dense | Shared:
    """The leaf that a section holds."""
    if layout.codebook is not None:
        narrow = np.min_scalar_type(codebooks[layout.codebook].size)
        labels = np.zeros(layout.size, narrow)
        labels[section.positions] = section.indices + 1
        return Shared(labels.reshape(layout.shape), layout.codebook, layout.gap_bits)
    if layout.coding == RAW:
        return Dense(section.values.reshape(layout.shape))
    flat = np.zeros(layout.size, layout.dtype)
    flat[section.positions] = section.values
    return Dense(flat.reshape(layout.shape))


def _get_raw(layout: Layout, body: bytes) -> Section:
    if len(body) != layout.size * layout.dtype.itemsize:
        raise FormatError(
            f"{len(body)} bytes for {layout.size} values of {layout.dtype}",
            offset=len(body),
            clause="C34",
        )
    none, nowhere = np.zeros(0, np.uint16), np.zeros(0, np.int64)
    return Section(body, none, nowhere, none, _get_values(body, 0, layout), 0, 0)


def _get_coded(
    layout: Layout, body: bytes, codebooks: tuple[np.ndarray, ...]
) -> Section:
    gaps_at, count = bits.get_varint(body, 0, clause="C3")
    if count > layout.size:
        raise FormatError(
            f"{count} gaps for {layout.size} values", offset=0, clause="C36"
        )
    rest_at, symbols = huffman.decode(body, gaps_at, count)
    positions = gaps.decode(symbols, bits=layout.gap_bits, offset=gaps_at)
    if positions.size and positions[-1] >= layout.size:
        raise FormatError(
            f"gaps reach position {positions[-1]} of {layout.size}",
            offset=gaps_at,
            clause="C37",
        )
    indices, kept = np.zeros(0, np.uint16), np.zeros(0, layout.dtype)
    if layout.codebook is not None:
        end, indices = huffman.decode(body, rest_at, positions.size)
        if indices.size and indices.max() >= codebooks[layout.codebook].size:
            raise FormatError(
                f"there is no entry {indices.max()} in the codebook",
                offset=rest_at,
                clause="C38",
            )
    else:
        end = rest_at + positions.size * layout.dtype.itemsize
        kept = _get_kept(body, rest_at, positions.size, layout)
    if end != len(body):
        raise FormatError(f"{len(body) - end} bytes too many", offset=end, clause="C40")
    return Section(body, symbols, positions, indices, kept, gaps_at, rest_at)


def _get_kept(body: bytes, start: int, count: int, layout: Layout) -> np.ndarray:
    end = start + count * layout.dtype.itemsize
    if end > len(body):
        raise FormatError(
            f"{len(body) - start} bytes for {count} values of {layout.dtype}",
            offset=len(body),
            clause="C40",
        )
    kept = _get_values(body[:end], start, layout)
    if not _nonzero_bits(kept).all():
        raise FormatError("a kept value is all zero bits", offset=start, clause="C39")
    return kept


def _get_values(body: bytes, start: int, layout: Layout) -> np.ndarray:
    raw = body[start:]
    if layout.dtype.kind == "b" and raw.translate(None, b"\x00\x01"):
        raise FormatError(
            "a boolean that is neither 0 nor 1", offset=start, clause="C35"
        )
    return _layout.from_little(raw, layout.dtype)
