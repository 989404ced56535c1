"""Codebooks and layouts of leaves in the header of a file: what arrays look like.

    codebook = u8 dtype, varint k, k values
    leaf     = u8 dtype, u8 ndim, varint dimensions...,
               u8 coding, [varint codebook if shared], [u8 gap bits unless raw]

Format notes:

- Values are little-endian.
- A dtype is its index in `DTYPES`, a coding 0 raw, 1 shared, 2 sparse.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

from deepcomp_jax import bits, gaps
from deepcomp_jax._errors import FormatError
from deepcomp_jax._tree import Problem, get_byte, get_bytes

MAX_ENTRIES = 1 << 15  # of a codebook: as many words as a code of 15 bits has (C20)
MAX_DIMENSIONS = 32  # (C23)
MAX_ARRAY_BYTES = (1 << 63) - 1  # with empty dimensions counted as 1: a NumPy limit

RAW, SHARED, SPARSE = range(3)  # codings of a leaf

DTYPES: tuple[np.dtype, ...] = tuple(
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
        *("float16", ml_dtypes.bfloat16, "float32", "float64"),
        *("complex64", "complex128"),
    )
)
FLOATING = DTYPES[9:13]


class Layout(NamedTuple):
    """How a leaf is stored.

    Attributes:
        shape: Of the leaf.
        dtype: Of its values, one of `DTYPES`.
        coding: RAW, SHARED or SPARSE.
        codebook: Index of the codebook, None unless shared.
        gap_bits: Width of a gap symbol in bits, 0 if raw.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    coding: int
    codebook: int | None = None
    gap_bits: int = 0

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


# ---- both ---------------------------------------------------------------------------


def shape_problem(shape: Sequence[int], dtype: np.dtype) -> Problem | None:
    """The rule that a shape breaks, if any."""
    if len(shape) > MAX_DIMENSIONS:
        text = f"has {len(shape)} dimensions, above {MAX_DIMENSIONS}"
        return Problem("C23", text)
    if math.prod(size or 1 for size in shape) * dtype.itemsize > MAX_ARRAY_BYTES:
        return Problem("C24", f"has shape {tuple(shape)}, above 2**63 bytes")
    return None


def codebook_problem(codebook: np.ndarray) -> Problem | None:
    """The rule that the entries of a codebook break, if any."""
    if codebook.size > MAX_ENTRIES:
        text = f"a codebook of {codebook.size} entries, above {MAX_ENTRIES}"
        return Problem("C20", text)
    fine = bool(np.isfinite(codebook).all())
    if fine:
        wide = codebook.astype(np.float64)
        fine = bool(wide.all() and (np.diff(wide) > 0).all())
    text = "entries of a codebook are not finite, non-zero and strictly ascending"
    return None if fine else Problem("C21", text)


def little(array: np.ndarray) -> bytes:
    """The values of an array, little-endian, in C order."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def from_little(data: bytes, dtype: np.dtype) -> np.ndarray:
    """The inverse of `little`, but for the shape; a copy."""
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)


# ---- writing ------------------------------------------------------------------------


def put_codebook(codebook: np.ndarray) -> bytes:
    """Writes a codebook."""
    head = bytes([DTYPES.index(codebook.dtype)]) + bits.put_varint(codebook.size)
    return head + little(codebook)


def put(layout: Layout) -> bytes:
    """Writes the layout of a leaf."""
    out = bytes([DTYPES.index(layout.dtype), len(layout.shape)])
    out += b"".join(map(bits.put_varint, layout.shape)) + bytes([layout.coding])
    if layout.codebook is not None:
        out += bits.put_varint(layout.codebook)
    if layout.coding != RAW:
        out += bytes([layout.gap_bits])
    return out


# ---- reading ------------------------------------------------------------------------


def _get_dtype(data: bytes, pos: int) -> tuple[int, np.dtype]:
    after, code = get_byte(data, pos)
    if code >= len(DTYPES):
        raise FormatError(f"a dtype of code {code}", offset=pos, clause="C18")
    return after, DTYPES[code]


def get_codebook(data: bytes, pos: int) -> tuple[int, np.ndarray]:
    """Reads a codebook.

    Raises:
        FormatError: C3, C6, or C18 to C21.
    """
    start = pos
    pos, dtype = _get_dtype(data, pos)
    if dtype not in FLOATING:
        raise FormatError(f"a codebook of {dtype}", offset=start, clause="C19")
    pos, entries = bits.get_varint(data, pos, clause="C3")
    if entries > MAX_ENTRIES:
        raise FormatError(
            f"a codebook of {entries} entries", offset=start, clause="C20"
        )
    pos, raw = get_bytes(data, pos, entries * dtype.itemsize)
    codebook = from_little(raw, dtype)
    if problem := codebook_problem(codebook):
        raise FormatError(problem.message, offset=start, clause=problem.clause)
    return pos, codebook


def get(
    data: bytes, pos: int, codebooks: Sequence[np.ndarray], used: int
) -> tuple[int, Layout]:
    """Reads the layout of a leaf.

    Args:
        data: The file up to the end of the header.
        pos: Where the layout begins, in bytes.
        codebooks: Those of the file.
        used: The first so many of them are used by the leaves before.

    Raises:
        FormatError: C3, C6, C18, or C22 to C28.
    """
    start = pos
    pos, dtype = _get_dtype(data, pos)
    pos, shape = _get_shape(data, pos, dtype)
    pos, coding = get_byte(data, pos)
    if coding > SPARSE:
        raise FormatError(f"a coding of number {coding}", offset=pos - 1, clause="C25")
    if coding == RAW:
        return pos, Layout(shape, dtype, RAW)
    codebook = None
    if coding == SHARED:
        pos, codebook = bits.get_varint(data, pos, clause="C3")
        clause, wrong = _codebook_of(codebook, dtype, codebooks, used)
        if wrong:
            raise FormatError(wrong, offset=start, clause=clause)
    pos, gap_bits = get_byte(data, pos)
    if not 1 <= gap_bits <= gaps.MAX_BITS:
        raise FormatError(f"gaps of {gap_bits} bits", offset=pos - 1, clause="C28")
    return pos, Layout(shape, dtype, coding, codebook, gap_bits)


def _get_shape(data: bytes, pos: int, dtype: np.dtype) -> tuple[int, tuple[int, ...]]:
    start = pos
    pos, ndim = get_byte(data, pos)
    shape: list[int] = []
    if ndim > MAX_DIMENSIONS:
        raise FormatError(f"{ndim} dimensions", offset=start, clause="C23")
    for _ in range(ndim):
        pos, dimension = bits.get_varint(data, pos, clause="C3")
        shape.append(dimension)
    if problem := shape_problem(shape, dtype):
        raise FormatError(
            f"a leaf {problem.message}", offset=start, clause=problem.clause
        )
    return pos, tuple(shape)


def _codebook_of(
    codebook: int, dtype: np.dtype, codebooks: Sequence[np.ndarray], used: int
) -> tuple[str, str]:
    """The clause broken by a leaf's use of a codebook, and how; empty if none is."""
    if codebook >= len(codebooks):
        return "C26", f"there is no codebook {codebook}"
    if codebooks[codebook].dtype != dtype:
        return "C27", f"a leaf of {dtype} with codebook {codebook} of another dtype"
    if codebook > used:
        return "C22", f"codebook {codebook} is used before codebook {used}"
    return "", ""
