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

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import codings
from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.codings import Measured, axis_classes, relative
from deepcomp_jax.codings.common import Take
from deepcomp_jax.format import byte_codebooks, leaf_header, planes, scales
from deepcomp_jax.format.dtypes import WORDS, check_dtype, from_little, little
from deepcomp_jax.format.leaf_header import CODINGS, PLANES, RAW, SPARSE, Layout
from deepcomp_jax.format.scales import Split
from deepcomp_jax.streams import gaps, rans

# ---- writing ------------------------------------------------------------------------


class Encoded(NamedTuple):
    """A leaf in the form in which it is stored.

    Attributes:
        layout: How it is stored.
        bodies: Of its exponents, if it has scales, and of its parts.
    """

    layout: Layout
    bodies: tuple[bytes, ...]


def put(
    name: str,
    leaf: DenseLeaf | SharedLeaf,
    codebook: np.ndarray | None = None,
    put: rans.Put = rans.put,
) -> Encoded:
    """Writes a leaf: how it is stored, and the bodies of its parts.

    Args:
        name: Of the leaf, for errors.
        leaf: Its values or labels.
        codebook: What the labels stand for.
        put: What codes rANS streams.

    Raises:
        ValueError: The dtype, a label, the scales, the coding or the width of a gap
            cannot be written.
        TypeError: The leaf is neither DenseLeaf nor SharedLeaf.
    """
    if isinstance(leaf, DenseLeaf):
        values = np.asarray(leaf.values)
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        encoded = _put_dense(name, native, put)
    elif isinstance(leaf, SharedLeaf):
        assert codebook is not None
        encoded = _put_shared(name, leaf, codebook, put)
    else:
        raise TypeError(
            f"leaf {name!r} is a {type(leaf).__name__}, not DenseLeaf or SharedLeaf"
        )
    layout = encoded.layout
    if problem := leaf_header.shape_problem(layout.shape, layout.dtype):
        raise ValueError(f"leaf {name!r} {problem.message}: reshape it")
    return encoded


def described(shape: tuple[int, ...], codebook: np.ndarray) -> codings.Leaf:
    """What the codings know of labels of this shape."""
    if codebook.dtype in WORDS:
        negatives = byte_codebooks.negatives(codebook)
    else:
        negatives = int(np.count_nonzero(codebook < 0))
    return codings.Leaf(shape, codebook.size, negatives)


def _put_shared(
    name: str, leaf: SharedLeaf, codebook: np.ndarray, put: rans.Put
) -> Encoded:
    labels = np.asarray(leaf.labels)
    _check_labels(name, leaf, labels, codebook)
    coding, bodies = leaf.coding or "packed", (b"",)
    if labels.size:
        coding, bodies = _put_labels(labels, leaf, codebook, put)
    number = CODINGS.index(coding)
    layout = Layout(labels.shape, codebook.dtype, number, leaf.codebook)
    if leaf.scales is None:
        return Encoded(layout, bodies)
    found = scales.of_leaf(f"leaf {name!r}", labels.shape, leaf.scales, codebook)
    layout = layout._replace(scales=Split(leaf.scales.batch, leaf.scales.split))
    exponents = (scales.put(own, put) for own in (found.first, found.last))
    return Encoded(layout, (*exponents, *bodies))


def _check_labels(
    name: str, leaf: SharedLeaf, labels: np.ndarray, codebook: np.ndarray
) -> None:
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


def _put_labels(
    labels: np.ndarray, leaf: SharedLeaf, codebook: np.ndarray, put: rans.Put
) -> tuple[str, tuple[bytes, ...]]:
    """The coding, which the first part chooses for all, and the bodies."""
    parts = leaf_header.divide(labels.shape)
    flat, coding = labels.ravel(), leaf.coding
    bodies: list[bytes] = []
    for part in range(parts.number):
        known = described(parts.shape(part), codebook)
        own = flat[parts.span(part)].astype(known.dtype, copy=False)
        coding, body = codings.encode(own, known, coding, leaf.gap_bits, put=put)
        bodies.append(body)
    return coding or "packed", tuple(bodies)


def _put_dense(name: str, values: np.ndarray, put: rans.Put) -> Encoded:
    """The values as they are, without zeros or by planes: what is the smallest.

    Of a leaf in several parts, the first one chooses for all.
    """
    check_dtype(name, values.dtype)
    parts = leaf_header.divide(values.shape)
    flat, coding = values.ravel(), None
    bodies: list[bytes] = []
    for part in range(parts.number):
        own = flat[parts.span(part)]
        if coding is None:
            coding, body = _smallest(own, put)
        else:
            body = _ENCODE[coding](own, put)
        bodies.append(body)
    return Encoded(Layout(values.shape, values.dtype, coding or RAW), tuple(bodies))


def _smallest(flat: np.ndarray, put: rans.Put) -> tuple[int, bytes]:
    """The smallest of the codings without labels, and the body."""
    bodies = {RAW: little(flat)}
    if _may_be_sparse(flat):
        bodies[SPARSE] = _put_sparse(flat, put)
    if flat.size and planes.estimate(flat) < 8 * min(map(len, bodies.values())):
        bodies[PLANES] = _put_planes(flat, put)
    best = min(bodies, key=lambda coding: len(bodies[coding]))
    return best, bodies[best]


def _may_be_sparse(flat: np.ndarray) -> bool:
    """Whether leaving out zeros could save more than the positions of the others take.

    A gap takes a bit at least, unless all gaps are equal.
    """
    nonzero = _nonzero_bits(flat)
    kept = int(np.count_nonzero(nonzero))
    if (flat.size - kept) * 8 * flat.itemsize > kept:
        return True
    if kept == flat.size or not kept:
        return False
    step = int(nonzero.argmax()) + 1
    return bool(nonzero[step - 1 : step * kept : step].all())  # all that there are


def _put_raw(flat: np.ndarray, _: rans.Put) -> bytes:
    return little(flat)


def _put_sparse(flat: np.ndarray, _: rans.Put) -> bytes:
    positions = np.flatnonzero(_nonzero_bits(flat))
    return relative.put_positions(positions, None) + little(flat[positions])


def _put_planes(flat: np.ndarray, put: rans.Put) -> bytes:
    return planes.put(flat, functools.partial(rans.encode, put=put))


_ENCODE = {RAW: _put_raw, SPARSE: _put_sparse, PLANES: _put_planes}


def coded_words(
    values: np.ndarray, put: rans.Put = rans.put
) -> tuple[SharedLeaf, np.ndarray] | None:
    """Values of one byte as labels, where that makes a smaller file.

    Args:
        values: Of a leaf, any dtype.
        put: What codes rANS streams.

    Returns:
        Labels of codebook 0 in the coding that is the smallest, and the codebook; None
        if the leaf is smaller value by value, or its dtype has more bytes.
    """
    if values.dtype not in WORDS or not values.size:
        return None
    labels, codebook = byte_codebooks.shared(values)
    shared = SharedLeaf(labels, 0)
    encoded = _put_shared("", shared, codebook, put)
    size = sum(map(len, encoded.bodies)) + len(byte_codebooks.put(codebook))
    if size >= sum(map(len, _put_dense("", values, put).bodies)):
        return None
    return shared._replace(coding=CODINGS[encoded.layout.coding]), codebook


def _nonzero_bits(flat: np.ndarray) -> NDArray[np.bool_]:
    """Which values are not all zero bits, bool[n]."""
    words = flat.view(f"u{min(flat.dtype.itemsize, 8)}") != 0
    return words if words.size == flat.size else words[::2] | words[1::2]


# ---- both ---------------------------------------------------------------------------


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


# ---- reading ------------------------------------------------------------------------


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
    if not _nonzero_bits(kept).all():
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
