"""Codebooks and layouts of leaves in the header of a file: what arrays look like.

    codebook = u8 dtype + 16 * storage, then either
               varint 2 k, k values                     entry by entry
               varint 2 k + 1, varint negatives, step   a uniform grid
    leaf     = u8 dtype + 16 * coding, u8 ndim, varint dimensions...,
               [varint codebook if labels are coded]

Format notes:

- Values are little-endian.
- A dtype or storage is its index in `DTYPES`, a coding its index in `CODINGS`.
- Entries and step are in the dtype `storage`, which may be narrower than that of the
  weights. Entry i of a grid with m negatives is step * (i - m), or step * (i - m + 1)
  from i = m on, rounded once.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

from deepcomp_jax import bits
from deepcomp_jax._errors import FormatError
from deepcomp_jax._tree import Problem, get_byte, get_bytes

MAX_ENTRIES = 1 << 15  # of a codebook: as many words as a code of 15 bits has (C20)
MAX_DIMENSIONS = 32  # (C23)
MAX_ARRAY_BYTES = (1 << 63) - 1  # with empty dimensions counted as 1: a NumPy limit

RAW, SPARSE = 0, 1  # codings of a leaf without labels
CODINGS = ("raw", "sparse", "packed", "relative", "dense", "density")

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
        coding: Index in `CODINGS`.
        codebook: Index of the codebook, None if raw or sparse.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    coding: int
    codebook: int | None = None

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


def _storages(dtype: np.dtype) -> tuple[np.dtype, ...]:
    """What the entries of a codebook of this dtype may be stored in."""
    narrower = [d for d in FLOATING if d.itemsize < dtype.itemsize]
    return *narrower, dtype


def _grid(step: np.ndarray, size: int, negatives: int, dtype: np.dtype) -> np.ndarray:
    """A uniform grid without zero; products are rounded once."""
    factors = np.arange(-negatives, size - negatives + 1)
    # A step of 24 bits times a factor of 16 is exact in float64.
    with np.errstate(over="ignore", invalid="ignore"):
        grid = step.astype(np.float64) * factors[factors != 0]
        return grid.astype(dtype)


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.array_equal(left, right))


# ---- writing ------------------------------------------------------------------------


def put_codebook(codebook: np.ndarray) -> bytes:
    """Writes a codebook in the fewest bytes: entries or a grid, in a dtype that is exact.

    Only a grid that has step or -step as an entry is recognised.
    """
    least = np.abs(codebook).min(initial=np.inf).astype(codebook.dtype)
    negatives = int(np.count_nonzero(codebook < 0))
    head = DTYPES.index(codebook.dtype)
    out: list[bytes] = []
    for storage in _storages(codebook.dtype):
        kind = bytes([head + 16 * DTYPES.index(storage)])
        if _same(codebook, codebook.astype(storage).astype(codebook.dtype)):
            entries = little(codebook.astype(storage))
            out.append(kind + bits.put_varint(2 * codebook.size) + entries)
        step = least.astype(storage)
        if _same(codebook, _grid(step, codebook.size, negatives, codebook.dtype)):
            sizes = bits.put_varint(2 * codebook.size + 1) + bits.put_varint(negatives)
            out.append(kind + sizes + little(step))
    return min(out, key=len)


def put(layout: Layout) -> bytes:
    """Writes the layout of a leaf."""
    kind = DTYPES.index(layout.dtype) + 16 * layout.coding
    out = bytes([kind, len(layout.shape)])
    out += b"".join(map(bits.put_varint, layout.shape))
    if layout.codebook is not None:
        out += bits.put_varint(layout.codebook)
    return out


# ---- reading ------------------------------------------------------------------------


def get_codebook(data: bytes, pos: int) -> tuple[int, np.ndarray]:
    """Reads a codebook.

    Raises:
        FormatError: C3, C6, or C18 to C21.
    """
    start = pos
    pos, kind = get_byte(data, pos)
    dtype, storage = _dtype(kind % 16, start), _dtype(kind // 16, start)
    if dtype not in FLOATING or storage not in _storages(dtype):
        raise FormatError(
            f"a codebook of {dtype} stored as {storage}", offset=start, clause="C19"
        )
    pos, number = bits.get_varint(data, pos, clause="C3")
    size, is_grid = number // 2, number % 2
    if size > MAX_ENTRIES:
        raise FormatError(f"a codebook of {size} entries", offset=start, clause="C20")
    if is_grid:
        pos, negatives = bits.get_varint(data, pos, clause="C3")
        pos, raw = get_bytes(data, pos, storage.itemsize)
        step = from_little(raw, storage)[0]
        if negatives > size:
            raise FormatError(
                f"{negatives} of {size} entries below zero", offset=start, clause="C21"
            )
        codebook = _grid(step, size, negatives, dtype)
    else:
        pos, raw = get_bytes(data, pos, size * storage.itemsize)
        codebook = from_little(raw, storage).astype(dtype)
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
        FormatError: C3, C6, C18, or C22 to C27.
    """
    start = pos
    pos, kind = get_byte(data, pos)
    dtype, coding = _dtype(kind % 16, start), kind // 16
    pos, shape = _get_shape(data, pos, dtype)
    if coding >= len(CODINGS):
        raise FormatError(f"a coding of number {coding}", offset=start, clause="C25")
    if coding in (RAW, SPARSE):
        return pos, Layout(shape, dtype, coding)
    pos, codebook = bits.get_varint(data, pos, clause="C3")
    clause, wrong = _codebook_of(codebook, dtype, codebooks, used)
    if wrong:
        raise FormatError(wrong, offset=start, clause=clause)
    return pos, Layout(shape, dtype, coding, codebook)


def _dtype(code: int, pos: int) -> np.dtype:
    if code >= len(DTYPES):
        raise FormatError(f"a dtype of code {code}", offset=pos, clause="C18")
    return DTYPES[code]


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
