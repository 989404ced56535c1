"""Scales of rows and columns: what the entries of a codebook are multiplied by.

One codebook can serve a matrix whose rows and columns are of unequal size, if every row
and every column has a scale of its own, as in many methods of quantization. A leaf with
labels is seen as [B, a, b] for that (`View`), and

    value = entry * 2 ** (first[batch, row] / 8) * 2 ** (last[batch, column] / 8)

Format notes:

- Exponents are int8, those of the rows in one body and those of the columns in another,
  as they are or by planes (`planes`): whichever is smaller, and the size says which.
- A scale is one of eight constants times a power of two. The entry is multiplied by
  that of its row and then by that of its column in float32, and the result is rounded
  to the dtype of the leaf (C64).
- No product is subnormal, infinite or, in the dtype of the leaf, zero (C63). So devices
  that flush subnormal numbers to zero find the same values as all others.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import Scales
from deepcomp_jax.codings.common import BLOCK, Take
from deepcomp_jax.format import planes
from deepcomp_jax.format.dtypes import FLOATING, from_little, little
from deepcomp_jax.format.fields import Problem
from deepcomp_jax.streams import rans

DTYPES = FLOATING[:3]  # float64 has values that no product in float32 is
LEAST = 2.0**-125  # twice the least normal number, so that none is rounded up to that

_INT8 = np.dtype(np.int8)
_EIGHTHS = np.array(
    [
        *(0x3F800000, 0x3F8B95C2, 0x3F9837F0, 0x3FA5FED7),
        *(0x3FB504F3, 0x3FC5672A, 0x3FD744FD, 0x3FEAC0C7),
    ],
    np.uint32,
).view(np.float32)


def _table() -> NDArray[np.float32]:
    exponents = np.arange(256, dtype=np.uint8).view(np.int8)
    return np.ldexp(_EIGHTHS[exponents & 7], exponents >> 3)


TABLE = _table()  # the scale of each exponent, by the bits of that as a uint8


class View(NamedTuple):
    """A leaf as matrices, [batches, rows, columns].

    Attributes:
        batches: Matrices; each has exponents of its own.
        rows: Of each.
        columns: Of each.
    """

    batches: int
    rows: int
    columns: int

    @property
    def counts(self) -> tuple[int, int]:
        """Exponents of rows and of columns, of all matrices."""
        return self.batches * self.rows, self.batches * self.columns


class Exponents(NamedTuple):
    """The exponents of a leaf.

    Attributes:
        view: What the leaf is seen as.
        first: Of the rows, int8[batches * rows].
        last: Of the columns, int8[batches * columns].
    """

    view: View
    first: NDArray[np.int8]
    last: NDArray[np.int8]


class Split(NamedTuple):
    """Where the axes of a leaf are divided.

    Attributes:
        batch: How many axes count matrices.
        split: How many come before those of the columns, these among them.
    """

    batch: int
    split: int

    def view(self, shape: tuple[int, ...]) -> View:
        """What a leaf of this shape is seen as.

        Examples:
            >>> from deepcomp_jax.format import scales
            >>> scales.Split(1, 2).view((24, 1024, 16, 64))
            View(batches=24, rows=1024, columns=1024)
        """
        axes = shape[: self.batch], shape[self.batch : self.split], shape[self.split :]
        return View(*map(math.prod, axes))


# ---- both ---------------------------------------------------------------------------


def problem(exponents: Exponents, codebook: np.ndarray) -> Problem | None:
    """The rule that the products of a leaf break, if any.

    Args:
        exponents: Of the leaf.
        codebook: Its entries, of a dtype of `DTYPES`.
    """
    _, first, last = exponents
    if not (first.size and last.size and codebook.size):
        return None
    sizes = np.abs(codebook.astype(np.float32))
    ends = [(own.min(), own.max()) for own in (sizes, first, last)]
    (least, most), (low, high), (lower, higher) = ends
    smallest = _products(least, low, lower, codebook.dtype)
    greatest = _products(most, high, higher, codebook.dtype)
    fine = min(smallest[:-1]) >= LEAST and smallest[-1] > 0
    if fine and np.isfinite(greatest).all():
        return None
    text = (
        f"products of entries and scales may be as small as {smallest[-2]:.2g} and as "
        f"large as {greatest[-2]:.2g}, which {codebook.dtype} or float32 cannot hold"
    )
    return Problem("C63", text)


def _products(
    entry: np.float32, row: np.int8, column: np.int8, dtype: np.dtype
) -> list[float]:
    """An entry, its product with one scale and with both, and that in a dtype."""
    with np.errstate(over="ignore"):
        once = entry * TABLE[np.uint8(row.view(np.uint8))]
        twice = once * TABLE[np.uint8(column.view(np.uint8))]
        return [float(entry), float(once), float(twice), float(twice.astype(dtype))]


def multiply(values: np.ndarray, start: int, exponents: Exponents) -> None:
    """Multiplies entries by the scales of their rows and columns, in place.

    Args:
        values: Entries and zeros of a leaf that follow one another, flat.
        start: Which value of the leaf, flat, the first of them is.
        exponents: Of the leaf.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.format import scales
        >>> values = np.float32([1, 1, 3, 1, 0, 3])
        >>> first, last = np.int8([0, 8]), np.int8([0, 16, -8])
        >>> scales.multiply(values, 0, scales.Exponents((1, 2, 3), first, last))
        >>> values
        array([1. , 4. , 1.5, 2. , 0. , 3. ], dtype=float32)
    """
    for first in range(0, values.size, BLOCK):
        own = values[first : first + BLOCK]
        rows, columns = _scales(start + first, own.size, exponents)
        wide = own.astype(np.float32)
        wide *= rows
        wide *= columns
        own[:] = wide


def _scales(
    start: int, size: int, exponents: Exponents
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The scales of the rows and of the columns of values that follow one another."""
    (_, height, width), first, last = exponents
    rows = np.arange(start // width, (start + size - 1) // width + 1)
    begin = rows * width
    counts = np.minimum(begin + width, start + size) - np.maximum(begin, start)
    # Of the values before a value, those in other rows of its matrix are no columns.
    above = (rows - rows // height) * width
    columns = np.arange(start, start + size) - np.repeat(above, counts)
    of_rows = TABLE[first[rows].view(np.uint8)]
    return np.repeat(of_rows, counts), TABLE[last[columns].view(np.uint8)]


# ---- writing ------------------------------------------------------------------------


def of_leaf(
    leaf: str, shape: tuple[int, ...], scales: Scales, codebook: np.ndarray
) -> Exponents:
    """The exponents of a leaf, flat, once they are known to fit.

    Args:
        leaf: What errors say first, such as "leaf 'params/kernel'".
        shape: Of the leaf.
        scales: As the caller gave them.
        codebook: What labels stand for.

    Raises:
        ValueError: They do not fit the shape or the codebook of the leaf.
    """
    if codebook.dtype not in DTYPES:
        known = ", ".join(dtype.name for dtype in DTYPES)
        raise ValueError(
            f"{leaf}: scales are for {known}, not for {codebook.dtype}: convert the "
            "codebook, or multiply the values"
        )
    batch, split = scales.batch, scales.split
    if not 0 <= batch <= split <= len(shape):
        raise ValueError(
            f"{leaf}: scales must divide the {len(shape)} axes at 0 <= batch <= split "
            f"<= {len(shape)}, got batch={batch}, split={split}"
        )
    view = Split(batch, split).view(shape)
    found: list[NDArray[np.int8]] = []
    for which, count in (("first", view.rows), ("last", view.columns)):
        own = np.asarray(getattr(scales, which))
        if own.dtype != np.int8 or own.shape != (view.batches, count):
            raise ValueError(
                f"{leaf}: the exponents `{which}` must be int8{[view.batches, count]}, "
                f"got {own.dtype}{list(own.shape)}"
            )
        found.append(own.ravel())
    exponents = Exponents(view, *found)
    if wrong := problem(exponents, codebook):
        raise ValueError(f"{leaf}: {wrong.message}: bring the exponents nearer to 0")
    return exponents


def put(exponents: NDArray[np.int8], put: rans.Put = rans.put) -> bytes:
    """Writes exponents of rows or of columns, flat.

    Args:
        exponents: int8[n], n >= 0.
        put: What codes rANS streams.

    Returns:
        The body: n bytes as they are, or fewer by planes.
    """
    raw = little(exponents)
    if not raw:
        return raw
    coded = planes.put(exponents, functools.partial(rans.encode, put=put))
    return min(raw, coded, key=len)


# ---- reading ------------------------------------------------------------------------


def get(body: bytes, count: int, take: Take = rans.take) -> NDArray[np.int8]:
    """Reads exponents of rows or of columns, flat.

    Args:
        body: As `put` wrote it.
        count: How many there are.
        take: What decodes rANS streams.

    Raises:
        FormatError: C62, or a clause of the planes (V) or of the stream (E).
    """
    if len(body) > count:
        raise FormatError(
            f"{len(body)} bytes for {count} exponents", offset=count, clause="C62"
        )
    if len(body) == count:
        return from_little(body, _INT8)
    return planes.get(body, count, _INT8, take)
