"""The bodies of a `.dcz` file: the values of one part of a leaf each.

    section = body | u32 checksum of the body      a small body is in the header instead
    body    = raw:     the values
              sparse:  gaps as in the relative coding | the values that are kept
              planes:  the bytes of the values, regrouped (`planes`)
              else:    labels in one of `codings`
              exponents of rows or columns (`scales`)

Format notes:

- Values are little-endian.
- A leaf without values has an empty body.
- A sparse leaf keeps what is not all zero bits, so -0.0 is kept.
"""

import math

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import codings
from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import Measured, axis_classes, relative
from deepcomp_jax.codings.common import Take
from deepcomp_jax.format import byte_codebooks, planes
from deepcomp_jax.format.dtypes import WORDS, from_little
from deepcomp_jax.format.leaf_header import CODINGS, PLANES, SPARSE, Layout
from deepcomp_jax.streams import rans


def described(shape: tuple[int, ...], codebook: np.ndarray) -> codings.Leaf:
    """What the codings know of labels of this shape."""
    if codebook.dtype in WORDS:
        negatives = byte_codebooks.negatives(codebook)
    else:
        negatives = int(np.count_nonzero(codebook < 0))
    return codings.Leaf(shape, codebook.size, negatives)


def nonzero_bits(flat: np.ndarray) -> NDArray[np.bool_]:
    """Which values are not all zero bits, bool[n]."""
    words = flat.view(f"u{min(flat.dtype.itemsize, 8)}") != 0
    return words if words.size == flat.size else words[::2] | words[1::2]


def class_indices(layout: Layout, part: int, body: bytes) -> int:
    """The indices of axes that have classes in a body, which may be damaged.

    Args:
        layout: Of the leaf.
        part: Whose body it is.
        body: The first bytes of it at least.
    """
    if not layout.size or CODINGS[layout.coding] != "grouped":
        return 0
    return axis_classes.count_indices(body, layout.parts.shape(part))


def get_dense(layout: Layout, part: int, body: bytes, take: Take) -> np.ndarray:
    """Reads the values of a part of a leaf that has no codebook, flat.

    Raises:
        FormatError: C34 to C37, or a clause of the gaps (G), the streams (H, E) or the
            planes (B).
    """
    shape = layout.parts.shape(part)
    size = math.prod(shape)
    _check_empty(size, body)
    if layout.coding == SPARSE and size:
        return _get_sparse(size, layout.dtype, body)
    if layout.coding == PLANES and size:
        values = planes.get(body, size, layout.dtype, take)
        _check_booleans(values.view(np.uint8), layout.dtype, 0)
        return values
    if len(body) != size * layout.dtype.itemsize:
        raise FormatError(
            f"{len(body)} bytes for {size} values of {layout.dtype}",
            offset=len(body),
            clause="C35",
        )
    return _get_values(body, 0, layout.dtype)


def get_labels(
    layout: Layout,
    part: int,
    body: bytes,
    codebook: np.ndarray,
    take: Take,
    lookup: np.ndarray | None = None,
) -> np.ndarray:
    """Reads the labels of a part of a leaf, or what they stand for, flat.

    Args:
        layout: Of the leaf.
        part: Whose body it is.
        body: The body.
        codebook: Of the leaf.
        take: What decodes rANS streams.
        lookup: The value of each label; None to get the labels.

    Raises:
        FormatError: C34, or a clause of the codings (L), the gaps (G) or the streams
            (E, H).
    """
    known = described(layout.parts.shape(part), codebook)
    _check_empty(known.size, body)
    if not known.size:
        return np.zeros(0, known.dtype if lookup is None else lookup.dtype)
    return codings.decode(CODINGS[layout.coding], body, known, lookup, take)


def lookup_of(codebook: np.ndarray) -> np.ndarray:
    """The value of each label, zero and the entries, as words of as many bits.

    Bits are carried about, so that no conversion can change those of a NaN.
    """
    lookup = np.concatenate([np.zeros(1, codebook.dtype), codebook])
    return lookup.view(f"u{lookup.itemsize}")


def gap_bits(layout: Layout, body: bytes) -> int | None:
    """The fixed width of the gap symbols of a valid body, if the coding has one."""
    is_relative = CODINGS[layout.coding] == "relative" and layout.size
    return relative.fixed_width(body) if is_relative else None


def measure(
    layout: Layout, part: int, body: bytes, codebook: np.ndarray | None
) -> tuple[Measured, np.ndarray]:
    """Reads a part of a leaf: what its bits are spent on, but for values one by one.

    Returns:
        What the bits are spent on; and the labels or the values, flat.

    Raises:
        FormatError: As for `get_labels` and `get_dense`.
    """
    if codebook is not None:
        known = described(layout.parts.shape(part), codebook)
        _check_empty(known.size, body)
        if not known.size:
            return Measured(), np.zeros(0, known.dtype)
        return codings.ALL[CODINGS[layout.coding]].measure(body, known)
    values = get_dense(layout, part, body, rans.take)
    measured = Measured()
    if layout.coding == PLANES and values.size:
        measured = planes.measure(body, values)
    elif layout.coding == SPARSE and values.size:
        found = relative.get_gaps(body, values.size)
        measured = relative.measure_positions(body, found)
    return measured, values


def runner_up(
    layout: Layout, labels: np.ndarray, codebook: np.ndarray
) -> tuple[str, int] | None:
    """The smallest other coding of labels, and its bytes; None without labels.

    Args:
        layout: Of the leaf.
        labels: All of it, flat, as they were read.
        codebook: What they stand for.
    """
    if not labels.size:
        return None
    parts, coding = layout.parts, CODINGS[layout.coding]
    sizes: dict[str, int] = {}
    for part in range(parts.number):
        known = described(parts.shape(part), codebook)
        own = labels[parts.span(part)]
        for name, size in codings.others(own, known, coding).items():
            sizes[name] = sizes.get(name, 0) + size
    best = min(sizes, key=sizes.__getitem__)
    return best, sizes[best]


def _check_empty(size: int, body: bytes) -> None:
    if size == 0 and body:
        raise FormatError("a leaf without values has some", offset=0, clause="C34")


def _get_sparse(size: int, dtype: np.dtype, body: bytes) -> np.ndarray:
    each = dtype.itemsize
    found = relative.get_gaps(body, size)
    end = found.end + found.kept * each
    if end != len(body):
        raise FormatError(
            f"{len(body) - found.end} bytes for {found.kept} values of {dtype}",
            offset=min(end, len(body)),
            clause="C35",
        )
    kept = _get_values(body, found.end, dtype)
    if not nonzero_bits(kept).all():
        raise FormatError(
            "a kept value is all zero bits", offset=found.end, clause="C37"
        )
    flat = np.zeros(size, dtype)
    first = 0
    for where in relative.positions(body, found):
        flat[where] = kept[first : first + where.size]
        first += where.size
    return flat


def _get_values(body: bytes, start: int, dtype: np.dtype) -> np.ndarray:
    raw = body[start:]
    _check_booleans(np.frombuffer(raw, np.uint8), dtype, start)
    return from_little(raw, dtype)


def _check_booleans(raw: NDArray[np.uint8], dtype: np.dtype, start: int) -> None:
    if dtype.kind == "b" and raw.size and raw.max() > 1:
        raise FormatError(
            "a boolean that is neither 0 nor 1", offset=start, clause="C36"
        )
