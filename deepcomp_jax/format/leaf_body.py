"""The bodies of a `.dcz` file: the values of one leaf each.

    section = body | u32 checksum of the body      a small body is in the header instead
    body    = raw:     the values
              sparse:  gaps as in the relative coding | the values that are kept
              else:    labels in one of `codings`

Format notes:

- Values are little-endian.
- A leaf without values has an empty body.
- A sparse leaf keeps what is not all zero bits, so -0.0 is kept.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import codings
from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.codings import Measured, axis_classes, relative
from deepcomp_jax.format import byte_codebooks, leaf_header
from deepcomp_jax.format.dtypes import (
    FLOAT8,
    WORDS,
    check_dtype,
    from_little,
    little,
)
from deepcomp_jax.format.file_header import Entry, checksum
from deepcomp_jax.format.leaf_header import (
    CODINGS,
    RAW,
    SPARSE,
    Layout,
)
from deepcomp_jax.streams import gaps

# ---- writing ------------------------------------------------------------------------


def put(
    name: str, leaf: DenseLeaf | SharedLeaf, codebooks: tuple[np.ndarray, ...]
) -> tuple[Layout, bytes]:
    """Writes a leaf: how it is stored, and its body.

    Raises:
        ValueError: The dtype, a label, the coding or the width of a gap cannot be
            written.
        TypeError: The leaf is neither DenseLeaf nor Shared.
    """
    if isinstance(leaf, DenseLeaf):
        values = np.asarray(leaf.values)
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        layout, body = _put_dense(name, native)
    elif isinstance(leaf, SharedLeaf):
        layout, body = _put_shared(name, leaf, codebooks[leaf.codebook])
    else:
        raise TypeError(
            f"leaf {name!r} is a {type(leaf).__name__}, not DenseLeaf or SharedLeaf"
        )
    if problem := leaf_header.shape_problem(layout.shape, layout.dtype):
        raise ValueError(f"leaf {name!r} {problem.message}: reshape it")
    return layout, body


def _described(shape: tuple[int, ...], codebook: np.ndarray) -> codings.Leaf:
    if codebook.dtype in WORDS:
        negatives = byte_codebooks.negatives(codebook)
    else:
        negatives = int(np.count_nonzero(codebook < 0))
    return codings.Leaf(shape, codebook.size, negatives)


def _put_shared(
    name: str, leaf: SharedLeaf, codebook: np.ndarray
) -> tuple[Layout, bytes]:
    labels = np.asarray(leaf.labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"leaf {name!r}: labels are {labels.dtype}, not integers")
    if labels.size and not 0 <= labels.min() <= labels.max() <= codebook.size:
        raise ValueError(
            f"leaf {name!r}: labels must be 0 to {codebook.size}, got "
            f"{labels.min()} to {labels.max()}"
        )
    if leaf.coding is not None and leaf.coding not in codings.ALL:
        known = ", ".join(codings.ALL)
        raise ValueError(f"leaf {name!r}: there is no coding {leaf.coding!r}: {known}")
    if leaf.gap_bits is not None and not 1 <= leaf.gap_bits <= gaps.MAX_BITS:
        raise ValueError(
            f"leaf {name!r}: a gap must have 1 to {gaps.MAX_BITS} bits, got "
            f"{leaf.gap_bits}"
        )
    described = _described(labels.shape, codebook)
    coding, body = leaf.coding or "packed", b""
    if labels.size:
        flat = labels.ravel().astype(described.dtype)
        coding, body = codings.encode(flat, described, leaf.coding, leaf.gap_bits)
    number = CODINGS.index(coding)
    return Layout(labels.shape, codebook.dtype, number, leaf.codebook), body


def _put_dense(name: str, values: np.ndarray) -> tuple[Layout, bytes]:
    """Raw, or sparse where that is smaller."""
    check_dtype(name, values.dtype)
    flat = values.ravel()
    raw = little(flat)
    kept = _nonzero_bits(flat)
    if not kept.all():
        positions = np.flatnonzero(kept)
        body = relative.put_positions(positions, None) + little(flat[positions])
        if len(body) < len(raw):
            return Layout(values.shape, values.dtype, SPARSE), body
    return Layout(values.shape, values.dtype, RAW), raw


def coded_words(values: np.ndarray) -> tuple[SharedLeaf, np.ndarray] | None:
    """Values of one byte as labels, where that makes a smaller file.

    Args:
        values: Of a leaf, any dtype.

    Returns:
        Labels of codebook 0 in the coding that is the smallest, and the codebook; None
        if the leaf is smaller value by value, or its dtype has more bytes.
    """
    if values.dtype not in WORDS or not values.size:
        return None
    labels, codebook = byte_codebooks.shared(values)
    described = _described(values.shape, codebook)
    coding, body = codings.encode(labels.ravel().astype(described.dtype), described)
    if len(body) + len(byte_codebooks.put(codebook)) >= len(_put_dense("", values)[1]):
        return None
    return SharedLeaf(labels, 0, coding), codebook


def _nonzero_bits(flat: np.ndarray) -> NDArray[np.bool_]:
    """Which values are not all zero bits, bool[n]."""
    words = flat.view(f"u{min(flat.dtype.itemsize, 8)}") != 0
    return words if words.size == flat.size else words[::2] | words[1::2]


# ---- both ---------------------------------------------------------------------------


def class_indices(layout: Layout, body: bytes) -> int:
    """The indices of axes that have classes in a body, which may be damaged.

    Args:
        layout: Of the leaf.
        body: Its body, or the first bytes of it; empty for a copy, whose classes count
            with the leaf that is stored.
    """
    if not layout.size or CODINGS[layout.coding] != "grouped":
        return 0
    return axis_classes.count_indices(body, layout.shape)


# ---- reading ------------------------------------------------------------------------


# Reads labels: coding, body, leaf and lookup table to values, in any shape or flat.
Decode = Callable[[str, bytes, codings.Leaf, np.ndarray], Any]


def get(
    entry: Entry, section: bytes, codebooks: tuple[np.ndarray, ...]
) -> DenseLeaf | SharedLeaf:
    """Reads and checks a leaf.

    Args:
        entry: Of the leaf.
        section: Its body, with the checksum if it has one; fewer bytes if the file is
            cut.
        codebooks: Those of the file.

    Raises:
        FormatError: C3, C33 to C36, C37, or a clause of the codings (L), the gaps (G)
            or the streams (E, H); the offset is that in the file.
    """
    with _located(entry):
        return _get(entry.layout, _body(entry, section), codebooks)


def get_values(
    entry: Entry,
    section: bytes,
    codebooks: tuple[np.ndarray, ...],
    decode: Decode = codings.decode,
) -> Any:
    """Reads the values of a leaf, in its shape, without arrays of labels between.

    Args:
        entry: Of the leaf.
        section: As for `get`.
        codebooks: Those of the file.
        decode: What reads labels.

    Raises:
        FormatError: As `get` does.
    """
    layout = entry.layout
    if layout.codebook is None or not layout.size:
        leaf = get(entry, section, codebooks)
        if isinstance(leaf, DenseLeaf):
            return leaf.values
        return np.zeros(layout.shape, layout.dtype)
    codebook = codebooks[layout.codebook]
    lookup = np.concatenate([np.zeros(1, codebook.dtype), codebook])
    with _located(entry):
        body = _body(entry, section)
        leaf = _described(layout.shape, codebook)
        how = CODINGS[layout.coding]
        if codebook.dtype not in FLOAT8:
            return decode(how, body, leaf, lookup).reshape(layout.shape)
        # Devices compute with float8 in wider types, in which NaNs lose bits.
        words = decode(how, body, leaf, lookup.view(np.uint8))
        return words.reshape(layout.shape).view(codebook.dtype)


@contextmanager
def _located(entry: Entry) -> Iterator[None]:
    """Errors inside name the leaf, and their offset is that in the file."""
    try:
        yield
    except FormatError as error:
        where = f" (byte {error.offset}, clause {error.clause})"
        raise FormatError(
            f"leaf {entry.name!r}: {str(error).removesuffix(where)}",
            offset=entry.offset + error.offset,
            clause=error.clause,
        ) from None


def _body(entry: Entry, section: bytes) -> bytes:
    body, found = section[: entry.size], section[entry.size :]
    expected = checksum(body) if entry.checksum_bytes else b""
    if len(body) != entry.size or found != expected:
        raise FormatError("the section is damaged", offset=len(body), clause="C33")
    return body


def _get(
    layout: Layout, body: bytes, codebooks: tuple[np.ndarray, ...]
) -> DenseLeaf | SharedLeaf:
    if layout.size == 0 and body:
        raise FormatError("a leaf without values has some", offset=0, clause="C34")
    if layout.codebook is None:
        empty = layout.size == 0 or layout.coding == RAW
        values = _get_raw(layout, body) if empty else _get_sparse(layout, body)
        return DenseLeaf(values.reshape(layout.shape))
    name = CODINGS[layout.coding]
    leaf = _described(layout.shape, codebooks[layout.codebook])
    labels, gap_bits = np.zeros(0, leaf.dtype), None
    if layout.size:
        labels = codings.decode(name, body, leaf)
        gap_bits = relative.fixed_width(body) if name == "relative" else None
    return SharedLeaf(labels.reshape(layout.shape), layout.codebook, name, gap_bits)


def measure(layout: Layout, body: bytes, codebooks: tuple[np.ndarray, ...]) -> Measured:
    """What the bits of a valid body are spent on, without values one by one."""
    if layout.size == 0 or layout.coding == RAW:
        return Measured()
    if layout.codebook is None:
        return relative.measure_positions(body, relative.get_gaps(body, layout.size))
    leaf = _described(layout.shape, codebooks[layout.codebook])
    return codings.ALL[CODINGS[layout.coding]].measure(body, leaf)


def runner_up(leaf: SharedLeaf, codebook: np.ndarray) -> tuple[str, int] | None:
    """The smallest other coding of labels, and its bytes; None without labels."""
    labels = np.asarray(leaf.labels)
    if not labels.size:
        return None
    described = _described(labels.shape, codebook)
    flat = labels.ravel().astype(described.dtype)
    return codings.runner_up(flat, described, leaf.coding or "")


def _get_raw(layout: Layout, body: bytes) -> np.ndarray:
    if len(body) != layout.size * layout.dtype.itemsize:
        raise FormatError(
            f"{len(body)} bytes for {layout.size} values of {layout.dtype}",
            offset=len(body),
            clause="C35",
        )
    return _get_values(body, 0, layout)


def _get_sparse(layout: Layout, body: bytes) -> np.ndarray:
    each = layout.dtype.itemsize
    found = relative.get_gaps(body, layout.size)
    end = found.end + found.kept * each
    if end != len(body):
        raise FormatError(
            f"{len(body) - found.end} bytes for {found.kept} values of {layout.dtype}",
            offset=min(end, len(body)),
            clause="C35",
        )
    kept = _get_values(body, found.end, layout)
    if not _nonzero_bits(kept).all():
        raise FormatError(
            "a kept value is all zero bits", offset=found.end, clause="C37"
        )
    flat = np.zeros(layout.size, layout.dtype)
    first = 0
    for where in relative.positions(body, found):
        flat[where] = kept[first : first + where.size]
        first += where.size
    return flat


def _get_values(body: bytes, start: int, layout: Layout) -> np.ndarray:
    raw = body[start:]
    if layout.dtype.kind == "b" and raw.translate(None, b"\x00\x01"):
        raise FormatError(
            "a boolean that is neither 0 nor 1", offset=start, clause="C36"
        )
    return from_little(raw, layout.dtype)
