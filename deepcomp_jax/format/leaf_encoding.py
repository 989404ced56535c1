"""How a leaf is stored, and the bodies of its parts; `leaf_body` reads them."""

import functools
from typing import NamedTuple

import numpy as np

from deepcomp_jax import codings
from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.codings import relative
from deepcomp_jax.format import (
    byte_codebooks,
    few_values,
    leaf_body,
    leaf_header,
    planes,
    scales,
)
from deepcomp_jax.format.dtypes import WORDS, check_dtype, little
from deepcomp_jax.format.leaf_header import CODINGS, PLANES, RAW, SPARSE, Layout
from deepcomp_jax.format.scales import Split
from deepcomp_jax.streams import gaps, rans


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
        known = leaf_body.described(parts.shape(part), codebook)
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
    nonzero = leaf_body.nonzero_bits(flat)
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
    positions = np.flatnonzero(leaf_body.nonzero_bits(flat))
    return relative.put_positions(positions, None) + little(flat[positions])


def _put_planes(flat: np.ndarray, put: rans.Put) -> bytes:
    return planes.put(flat, functools.partial(rans.encode, put=put))


_ENCODE = {RAW: _put_raw, SPARSE: _put_sparse, PLANES: _put_planes}


def as_labels(
    values: np.ndarray, put: rans.Put = rans.put
) -> tuple[SharedLeaf, np.ndarray] | None:
    """Values of one byte, or few distinct ones, as labels where the file is smaller.

    Args:
        values: Of a leaf, any dtype.
        put: What codes rANS streams.

    Returns:
        Labels of codebook 0 in the coding that is the smallest, and the codebook, which
        give every bit again; None if the leaf is smaller value by value, or has more
        values than a codebook should.
    """
    if not values.size:
        return None
    if values.dtype in WORDS:
        labels, codebook = byte_codebooks.shared(values)
        size = len(byte_codebooks.put(codebook))
    elif (codebook := few_values.found(values)) is not None:
        labels, size = few_values.labels(values, codebook), codebook.nbytes
    else:
        return None
    shared = SharedLeaf(labels, 0)
    encoded = _put_shared("", shared, codebook, put)
    size += sum(map(len, encoded.bodies))
    if size >= sum(map(len, _put_dense("", values, put).bodies)):
        return None
    return shared._replace(coding=CODINGS[encoded.layout.coding]), codebook
