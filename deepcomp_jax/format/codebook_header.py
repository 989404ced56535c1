"""Codebooks in the header of a file: entry by entry, or as a grid.

    codebook = varint 4 n, n entries
             | varint 4 n + 1, step, varint a                 a grid
             | varint 4 n + 2, step, varint a, n bits         a grid with gaps
             | varint 4 r + 3, step, varint first, varint length - 1,
               r - 1 times: varint gap - 1, varint length - 1   a grid in r runs

Format notes:

- Entries and step are in a dtype that may be narrower than that of the codebook. The
  leaf that a codebook is in says which.
- The entries of a grid are step times -a to -1 and 1 to n - a, rounded once, but those
  whose bit is 0. One of the bits is 0.
- In runs, factors are numbered without 0: ... -2, -1, 1, 2, 3 ... have the *places* -2,
  -1, 0, 1, 2. The first run begins at place f / 2 if its varint f is even, at
  -(f + 1) / 2 if it is odd; the others after a gap. A value that is far from all others
  takes a few bytes so, and not a bit for each multiple of the step up to it.
"""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import MAX_CODEBOOK
from deepcomp_jax.format.dtypes import FLOATING, from_little, little
from deepcomp_jax.format.fields import Problem, get_bytes
from deepcomp_jax.streams import bits

MAX_ENTRIES = MAX_CODEBOOK  # C22
MAX_FACTOR = 1 << 16  # of the step of a grid (C24)
MAX_FAR_FACTOR = 1 << 28  # of one in runs
_LIST, _GRID, _GAPPED, _RUNS = range(4)  # how a codebook is written


# ---- both ---------------------------------------------------------------------------


def problem(codebook: np.ndarray) -> Problem | None:
    """The rule that the entries of a codebook break, if any."""
    if codebook.size > MAX_ENTRIES:
        text = f"a codebook of {codebook.size} entries, above {MAX_ENTRIES}"
        return Problem("C22", text)
    with np.errstate(invalid="ignore"):  # a signaling NaN is no entry either
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
    # A step of 24 bits times a factor of 29 is exact in float64.
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
    steps = _steps(codebook)
    for storage in storages(codebook.dtype):
        narrow = _cast(codebook, storage)
        if _same(codebook, narrow.astype(codebook.dtype)):
            head = bits.put_varint(4 * codebook.size + _LIST)
            out.append((storage, head + little(narrow)))
        for step in sorted(steps):
            if grid := _put_grid(codebook, _cast(np.asarray(step), storage)):
                out.append((storage, grid))
                steps = steps - {step}  # in a wider dtype it takes more bytes
    return min(out, key=lambda found: len(found[1]))


def _steps(codebook: np.ndarray) -> set[float]:
    """Steps that a grid of these entries could have; rounding may hide one of them."""
    wide = codebook.astype(np.float64)
    with np.errstate(over="ignore"):
        found = np.abs(wide), np.diff(wide)
    return {float(sizes.min()) for sizes in found if sizes.size}


def _put_grid(codebook: np.ndarray, step: np.ndarray) -> bytes:
    """Writes a grid; nothing if the codebook is none of this step."""
    wide = codebook.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factors = np.rint(wide / step.astype(np.float64))
    if not 1 <= np.abs(factors).min() <= np.abs(factors).max() <= MAX_FAR_FACTOR:
        return b""
    if not _same(codebook, _grid(step, factors, codebook.dtype)):
        return b""
    factors = factors.astype(np.int64)
    below, above = int(max(-factors[0], 0)), int(max(factors[-1], 0))
    size, end = below + above, little(step) + bits.put_varint(below)
    if size == factors.size:
        return bits.put_varint(4 * size + _GRID) + end
    count, runs = _put_runs(factors)
    in_runs = bits.put_varint(4 * count + _RUNS) + little(step) + runs
    if max(below, above) > MAX_FACTOR:
        return in_runs
    mask = np.isin(_span(below, above), factors)
    flags = bits.pack_fixed(mask.astype(np.uint8), 1)
    gapped = bits.put_varint(4 * size + _GAPPED) + end + flags
    return min(gapped, in_runs, key=len)


def _put_runs(factors: NDArray[np.int64]) -> tuple[int, bytes]:
    """How many runs of neighbors there are in factors, and what they take in a file."""
    places = factors - (factors > 0)
    ends = np.flatnonzero(np.diff(places, append=places[-1] + 2) > 1)
    lengths = np.diff(ends, prepend=-1)
    gaps = np.diff(places)[ends[:-1]] - 1
    first = int(places[0])
    numbers = [2 * first if first >= 0 else -2 * first - 1, int(lengths[0]) - 1]
    for gap, length in zip(gaps.tolist(), lengths[1:].tolist(), strict=True):
        numbers += [gap - 1, length - 1]
    return lengths.size, b"".join(map(bits.put_varint, numbers))


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
    else:
        pos, raw = get_bytes(data, pos, storage.itemsize)
        if kind == _RUNS:
            pos, factors = _get_runs(data, pos, size)
        else:
            pos, factors = _get_factors(data, pos, size, gapped=kind == _GAPPED)
        _check_entries(factors.size, start)
        codebook = _grid(from_little(raw, storage)[0], factors, dtype)
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


def _get_runs(data: bytes, pos: int, count: int) -> tuple[int, NDArray[np.int64]]:
    """The position after the end of so many runs, and the factors of a grid in them."""
    start = pos
    if not count:
        raise FormatError("a grid in no runs", offset=start, clause="C24")
    pos, first = bits.get_varint(data, pos, clause="C3")
    place = -(first + 1) // 2 if first % 2 else first // 2
    runs, entries = list[NDArray[np.int64]](), 0
    for run in range(count):
        if run:
            pos, gap = bits.get_varint(data, pos, clause="C3")
            place += gap + 1
        pos, more = bits.get_varint(data, pos, clause="C3")
        _check_entries(entries := entries + more + 1, start)
        if not -MAX_FAR_FACTOR <= place < MAX_FAR_FACTOR - more:
            raise FormatError(
                f"a run from place {place} on", offset=start, clause="C24"
            )
        runs.append(np.arange(place, place + more + 1))
        place += more + 1
    places = np.concatenate(runs)
    return pos, places + (places >= 0)
