"""Codebooks and layouts of leaves in the header of a file: what arrays look like.

    codebook = u8 dtype + 16 * storage, then either
               varint 2 k, k values                     entry by entry
               varint 2 k + 1, step, varint a, varint b, [a + b bits]    a grid
    leaf     = u8 dtype + 16 * coding, u8 ndim, varint dimensions...,
               [varint codebook if labels are coded]

Format notes:

- Values are little-endian.
- A dtype or storage is its index in `DTYPES`, a coding its index in `CODINGS`.
- Entries and step are in the dtype `storage`, which may be narrower than that of the
  weights. The entries of a grid are step times -a to -1 and 1 to b, rounded once, but
  those whose bit is 0. The bits are left out if all would be 1.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import bits, codings
from deepcomp_jax._errors import FormatError
from deepcomp_jax._tree import Problem, get_byte, get_bytes

MAX_ENTRIES = 1 << 15  # of a codebook: as many words as a code of 15 bits has (C22)
MAX_FACTOR = 1 << 16  # of the step of a grid (C24)
MAX_DIMENSIONS = 32  # (C26)
MAX_ARRAY_BYTES = (1 << 63) - 1  # with empty dimensions counted as 1: a NumPy limit

RAW, SPARSE = 0, 1  # codings of a leaf without labels
CODINGS = ("raw", "sparse", *codings.ALL)

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
        return Problem("C26", text)
    if math.prod(size or 1 for size in shape) * dtype.itemsize > MAX_ARRAY_BYTES:
        return Problem("C27", f"has shape {tuple(shape)}, above 2**63 bytes")
    return None


def codebook_problem(codebook: np.ndarray) -> Problem | None:
    """The rule that the entries of a codebook break, if any."""
    if codebook.size > MAX_ENTRIES:
        text = f"a codebook of {codebook.size} entries, above {MAX_ENTRIES}"
        return Problem("C22", text)
    with np.errstate(invalid="ignore"):  # a signalling NaN is no entry either
        wide = codebook.astype(np.float64)
    fine = np.isfinite(wide).all() and wide.all() and (wide[1:] > wide[:-1]).all()
    text = "entries of a codebook are not finite, non-zero and strictly ascending"
    return None if fine else Problem("C23", text)


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


def _grid(step: np.ndarray, factors: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Multiples of a step, rounded once."""
    # A step of 24 bits times a factor of 16 is exact in float64.
    with np.errstate(invalid="ignore", over="ignore"):
        return _cast(step.astype(np.float64) * factors, dtype)


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in another dtype; what is too large becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(dtype)


def _span(below: int, above: int) -> NDArray[np.int64]:
    """The factors -below to -1 and 1 to above."""
    factors = np.arange(-below, above + 1)
    return factors[factors != 0]


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.array_equal(left, right))


# ---- writing ------------------------------------------------------------------------


def put_codebook(codebook: np.ndarray) -> bytes:
    """Writes a codebook in the fewest bytes: entries or a grid, in an exact dtype.

    A grid is recognised if its step is the least magnitude or difference of entries.
    """
    head = DTYPES.index(codebook.dtype)
    out: list[bytes] = []
    for storage in _storages(codebook.dtype):
        kind = bytes([head + 16 * DTYPES.index(storage)])
        narrow = _cast(codebook, storage)
        if _same(codebook, narrow.astype(codebook.dtype)):
            entries = little(narrow)
            out.append(kind + bits.put_varint(2 * codebook.size) + entries)
        for step in _steps(codebook):
            grid = _put_grid(codebook, _cast(step, storage))
            if grid:
                out.append(kind + bits.put_varint(2 * codebook.size + 1) + grid)
    return min(out, key=len)


def _steps(codebook: np.ndarray) -> list[np.ndarray]:
    """Steps that a grid of these entries could have; rounding may hide one of them."""
    wide = codebook.astype(np.float64)
    with np.errstate(over="ignore"):
        found = np.abs(wide), np.diff(wide)
    return [np.asarray(sizes.min()) for sizes in found if sizes.size]


def _put_grid(codebook: np.ndarray, step: np.ndarray) -> bytes:
    """A grid after its size; nothing if the codebook is none of this step."""
    wide = codebook.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factors = np.rint(wide / step.astype(np.float64))
    if not np.abs(factors).max() <= MAX_FACTOR:
        return b""
    if not _same(codebook, _grid(step, factors, codebook.dtype)):
        return b""
    below, above = int(max(-factors[0], 0)), int(max(factors[-1], 0))
    mask = np.isin(_span(below, above), factors)
    out = little(step) + bits.put_varint(below) + bits.put_varint(above)
    return out + (b"" if mask.all() else bits.pack_fixed(mask.astype(np.uint8), 1))


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
        FormatError: C3, C6, or C20 to C23.
    """
    start = pos
    pos, kind = get_byte(data, pos)
    dtype, storage = _dtype(kind % 16, start), _dtype(kind // 16, start)
    if dtype not in FLOATING or storage not in _storages(dtype):
        raise FormatError(
            f"a codebook of {dtype} stored as {storage}", offset=start, clause="C21"
        )
    pos, number = bits.get_varint(data, pos, clause="C3")
    size, is_grid = number // 2, number % 2
    if size > MAX_ENTRIES:
        raise FormatError(f"a codebook of {size} entries", offset=start, clause="C22")
    if is_grid:
        pos, codebook = _get_grid(data, pos, size, (storage, dtype))
    else:
        pos, raw = get_bytes(data, pos, size * storage.itemsize)
        with np.errstate(invalid="ignore"):
            codebook = from_little(raw, storage).astype(dtype)
    if problem := codebook_problem(codebook):
        raise FormatError(problem.message, offset=start, clause=problem.clause)
    return pos, codebook


def _get_grid(
    data: bytes, pos: int, size: int, dtypes: tuple[np.dtype, np.dtype]
) -> tuple[int, np.ndarray]:
    """The position after a grid of `size` entries, and the grid."""
    start, (storage, dtype) = pos, dtypes
    pos, raw = get_bytes(data, pos, storage.itemsize)
    pos, below = bits.get_varint(data, pos, clause="C3")
    pos, above = bits.get_varint(data, pos, clause="C3")
    if not size <= below + above or max(below, above) > MAX_FACTOR:
        raise FormatError(
            f"{size} entries of a grid from -{below} to {above}",
            offset=start,
            clause="C24",
        )
    factors = _span(below, above)
    if size < factors.size:
        pos, packed = get_bytes(data, pos, -(-factors.size // 8))
        mask = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool)
        if mask.sum() != size or mask[factors.size :].any():
            raise FormatError(
                f"{mask.sum()} bits for {size} entries", offset=start, clause="C24"
            )
        factors = factors[mask[: factors.size]]
    return pos, _grid(from_little(raw, storage)[0], factors, dtype)


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
        FormatError: C3, C6, C20, or C25 to C30.
    """
    start = pos
    pos, kind = get_byte(data, pos)
    dtype, coding = _dtype(kind % 16, start), kind // 16
    pos, shape = _get_shape(data, pos, dtype)
    if coding >= len(CODINGS):
        raise FormatError(f"a coding of number {coding}", offset=start, clause="C28")
    if coding in (RAW, SPARSE):
        return pos, Layout(shape, dtype, coding)
    pos, codebook = bits.get_varint(data, pos, clause="C3")
    clause, wrong = _codebook_of(codebook, dtype, codebooks, used)
    if wrong:
        raise FormatError(wrong, offset=start, clause=clause)
    return pos, Layout(shape, dtype, coding, codebook)


def _dtype(code: int, pos: int) -> np.dtype:
    if code >= len(DTYPES):
        raise FormatError(f"a dtype of code {code}", offset=pos, clause="C20")
    return DTYPES[code]


def _get_shape(data: bytes, pos: int, dtype: np.dtype) -> tuple[int, tuple[int, ...]]:
    start = pos
    pos, ndim = get_byte(data, pos)
    shape: list[int] = []
    if ndim > MAX_DIMENSIONS:
        raise FormatError(f"{ndim} dimensions", offset=start, clause="C26")
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
        return "C29", f"there is no codebook {codebook}"
    if codebooks[codebook].dtype != dtype:
        return "C30", f"a leaf of {dtype} with codebook {codebook} of another dtype"
    if codebook > used:
        return "C25", f"codebook {codebook} is used before codebook {used}"
    return "", ""
