"""Codebooks in the header of a file: entry by entry, or as a grid.

    codebook = varint 4 n, n entries
             | varint 4 n + 1, step, varint a                 a grid
             | varint 4 n + 2, step, varint a, n bits         a grid with gaps

Format notes:

- Entries and step are in a dtype that may be narrower than that of the codebook. The
  leaf that a codebook is in says which.
- The entries of a grid are step times -a to -1 and 1 to n - a, rounded once, but those
  whose bit is 0. One of the bits is 0.
"""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import MAX_CODEBOOK
from deepcomp_jax.format.dtypes import FLOATING, from_little, little
from deepcomp_jax.format.tree_header import Problem, get_bytes
from deepcomp_jax.streams import bits

MAX_ENTRIES = MAX_CODEBOOK  # C22
MAX_FACTOR = 1 << 16  # of the step of a grid (C24)
_LIST, _GRID, _GAPPED = range(3)  # how a codebook is written


# ---- both ---------------------------------------------------------------------------


def problem(codebook: np.ndarray) -> Problem | None:
    """The rule that the entries of a codebook break, if any."""
    if codebook.size > MAX_ENTRIES:
        text = f"a codebook of {codebook.size} entries, above {MAX_ENTRIES}"
        return Problem("C22", text)
    with np.errstate(invalid="ignore"):  # a signalling NaN is no entry either
        wide = codebook.astype(np.float64)
    fine = np.isfinite(wide).all() and wide.all() and (wide[1:] > wide[:-1]).all()
    text = "entries of a codebook are not finite, non-zero and strictly ascending"
    return None if fine else Problem("C23", text)


def storages(dtype: np.dtype) -> tuple[np.dtype, ...]:
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


def put(codebook: np.ndarray) -> tuple[np.dtype, bytes]:
    """Writes a codebook in the fewest bytes: entries or a grid, in an exact dtype.

    A grid is recognized if its step is the least magnitude or difference of entries.

    Returns:
        What entries or step are stored in, and the codebook.
    """
    out: list[tuple[np.dtype, bytes]] = []
    for storage in storages(codebook.dtype):
        narrow = _cast(codebook, storage)
        if _same(codebook, narrow.astype(codebook.dtype)):
            head = bits.put_varint(4 * codebook.size + _LIST)
            out.append((storage, head + little(narrow)))
        for step in _steps(codebook):
            grid = _put_grid(codebook, _cast(step, storage))
            if grid:
                out.append((storage, grid))
    return min(out, key=lambda found: len(found[1]))


def _steps(codebook: np.ndarray) -> list[np.ndarray]:
    """Steps that a grid of these entries could have; rounding may hide one of them."""
    wide = codebook.astype(np.float64)
    with np.errstate(over="ignore"):
        found = np.abs(wide), np.diff(wide)
    return [np.asarray(sizes.min()) for sizes in found if sizes.size]


def _put_grid(codebook: np.ndarray, step: np.ndarray) -> bytes:
    """Writes a grid; nothing if the codebook is none of this step."""
    wide = codebook.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factors = np.rint(wide / step.astype(np.float64))
    if not np.abs(factors).max() <= MAX_FACTOR:
        return b""
    if not _same(codebook, _grid(step, factors, codebook.dtype)):
        return b""
    below, above = int(max(-factors[0], 0)), int(max(factors[-1], 0))
    mask = np.isin(_span(below, above), factors)
    kind, flags = _GRID, b""
    if not mask.all():
        kind, flags = _GAPPED, bits.pack_fixed(mask.astype(np.uint8), 1)
    head = bits.put_varint(4 * mask.size + kind)
    return head + little(step) + bits.put_varint(below) + flags


# ---- reading ------------------------------------------------------------------------


def get(
    data: bytes, pos: int, dtype: np.dtype, storage: np.dtype
) -> tuple[int, np.ndarray]:
    """Reads a codebook.

    Args:
        data: The file up to the end of the header.
        pos: Where the codebook begins, in bytes.
        dtype: Of the codebook.
        storage: What its entries or its step are stored in.

    Raises:
        FormatError: C3, C6, or C22 to C24.
    """
    start = pos
    pos, number = bits.get_varint(data, pos, clause="C3")
    size, kind = number // 4, number % 4
    if kind == _LIST:
        _check_entries(size, start)
        pos, raw = get_bytes(data, pos, size * storage.itemsize)
        with np.errstate(invalid="ignore"):
            codebook = from_little(raw, storage).astype(dtype)
    elif kind in (_GRID, _GAPPED):
        pos, raw = get_bytes(data, pos, storage.itemsize)
        pos, factors = _get_factors(data, pos, size, gapped=kind == _GAPPED)
        _check_entries(factors.size, start)
        codebook = _grid(from_little(raw, storage)[0], factors, dtype)
    else:
        raise FormatError("a codebook of kind 3", offset=start, clause="C24")
    if wrong := problem(codebook):
        raise FormatError(wrong.message, offset=start, clause=wrong.clause)
    return pos, codebook


def _check_entries(count: int, pos: int) -> None:
    if count > MAX_ENTRIES:
        raise FormatError(f"a codebook of {count} entries", offset=pos, clause="C22")


def _get_factors(
    data: bytes, pos: int, size: int, *, gapped: bool
) -> tuple[int, NDArray[np.int64]]:
    """The position after the end and the bits of a grid, and its factors."""
    start = pos
    pos, below = bits.get_varint(data, pos, clause="C3")
    if below > size or max(below, size - below) > MAX_FACTOR:
        raise FormatError(
            f"{below} of {size} factors below zero", offset=start, clause="C24"
        )
    factors = _span(below, size - below)
    if not gapped:
        return pos, factors
    pos, packed = get_bytes(data, pos, -(-size // 8))
    mask = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool)
    if mask[:size].all() or mask[size:].any():
        raise FormatError(
            "no gap in a grid with gaps, or bits after the last",
            offset=start,
            clause="C24",
        )
    return pos, factors[mask[:size]]
