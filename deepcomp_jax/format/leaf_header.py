"""Leaves in the header of a file: what arrays look like.

    leaf = u8 dtype + 16 * coding, [u8 dtype - 15 if the first says 15],
           u8 dimensions + 32 * s + 128 * t, varint each dimension,
           [varint split + 32 * batch if t = 1],
           [codebook if s > 0, else varint number of a codebook if labels are coded]
         | u8 96 + i % 16, varint i / 16        the same as leaf i

In a file of a set, a leaf that another file of the set holds has a dtype, a coding of
`ELSEWHERE` and a shape, and nothing else.

Format notes:

- Values are little-endian.
- A dtype is its index in `DTYPES`, a coding its index in `CODINGS`.
- A codebook is in the first leaf that uses it, stored in the dtype `FLOATING[s - 1]`;
  later ones give its number. Codebooks are written in `codebook_header`; those of
  dtypes of one byte, which have s = 1, in `byte_codebooks`.
- Leaves of float16, bfloat16 and float32 that have labels need 3 for s at most, and so
  have a bit to spare: t = 1 says that there are `scales`. In all others t is 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deepcomp_jax import codings
from deepcomp_jax._errors import FormatError
from deepcomp_jax.format import byte_codebooks, codebook_header, scales
from deepcomp_jax.format.dtypes import (
    DTYPES,
    FLOATING,
    SHORT_CODES,
    WORDS,
    of_code,
)
from deepcomp_jax.format.fields import Problem, get_byte
from deepcomp_jax.format.parts import Parts, divide
from deepcomp_jax.format.scales import Split, View
from deepcomp_jax.streams import bits

MAX_DIMENSIONS = 31  # (C26): five bits
MAX_ARRAY_BYTES = (1 << 63) - 1  # with empty dimensions counted as 1: a NumPy limit

# How a leaf is stored, in the order of the numbers in a file.
CODINGS = ("raw", "sparse", *codings.ALL, "copy", "planes", "elsewhere")
RAW, SPARSE, COPY, PLANES, ELSEWHERE = map(
    CODINGS.index, ("raw", "sparse", "copy", "planes", "elsewhere")
)
WITHOUT_LABELS = RAW, SPARSE, PLANES, ELSEWHERE
_SCALED = 128  # what is added to the number of dimensions if there are scales


class Layout(NamedTuple):
    """How a leaf is stored.

    Attributes:
        shape: Of the leaf.
        dtype: Of its values, one of `DTYPES`.
        coding: Index in `CODINGS`.
        codebook: Index of the codebook, None if there are no labels.
        copy_of: Number of the leaf before that it equals and that is stored in its
            place, all else being as there; None if it is stored itself.
        scales: Where its axes are divided, if it has scales of rows and columns.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    coding: int
    codebook: int | None = None
    copy_of: int | None = None
    scales: Split | None = None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def parts(self) -> Parts:
        """How it is divided."""
        return divide(self.shape)

    @property
    def view(self) -> View | None:
        """What it is seen as, if it has scales of rows and columns."""
        return self.scales and self.scales.view(self.shape)

    @property
    def exponents(self) -> int:
        """How many exponents its rows and columns have."""
        return sum(self.view.counts) if self.view else 0

    @property
    def largest(self) -> int:
        """Values of its largest part, or of its larger body of exponents."""
        return max(self.parts.largest, *(self.view.counts if self.view else ()), 0)

    @property
    def coding_name(self) -> str:
        """How people call the coding; "copy" if another leaf is stored in its place."""
        return CODINGS[self.coding if self.copy_of is None else COPY]

    @property
    def bodies(self) -> int:
        """How many bodies it has in the file, those of exponents first."""
        if self.copy_of is not None or self.coding == ELSEWHERE:
            return 0
        return self.exponent_bodies + self.parts.number

    @property
    def exponent_bodies(self) -> int:
        """How many bodies a leaf stored like this has for exponents."""
        return 2 if self.scales else 0


class New(NamedTuple):
    """A codebook in the leaf that uses it first.

    Attributes:
        codebook: Its entries.
        size: What it takes of the header, in bytes.
    """

    codebook: np.ndarray
    size: int


# ---- both ---------------------------------------------------------------------------


def shape_problem(shape: Sequence[int], dtype: np.dtype) -> Problem | None:
    """The rule that a shape breaks, if any."""
    if len(shape) > MAX_DIMENSIONS:
        text = f"has {len(shape)} dimensions, above {MAX_DIMENSIONS}"
        return Problem("C26", text)
    if math.prod(size or 1 for size in shape) * dtype.itemsize > MAX_ARRAY_BYTES:
        return Problem("C27", f"has shape {tuple(shape)}, above 2**63 bytes")
    return None


# ---- writing ------------------------------------------------------------------------


def put(layout: Layout, codebook: np.ndarray | None) -> bytes:
    """Writes the layout of a leaf.

    Args:
        layout: Of the leaf.
        codebook: That of the leaf if no leaf before has it.
    """
    if layout.copy_of is not None:
        more, least = divmod(layout.copy_of, 16)
        return bytes([16 * COPY + least]) + bits.put_varint(more)
    code = DTYPES.index(layout.dtype)
    kind = bytes([min(code, SHORT_CODES) + 16 * layout.coding])
    if code >= SHORT_CODES:
        kind += bytes([code - SHORT_CODES])
    number, end = len(layout.shape), b""
    if codebook is not None and codebook.dtype in WORDS:
        number, end = number + 32, byte_codebooks.put(codebook)
    elif codebook is not None:
        storage, end = codebook_header.put(codebook)
        number += 32 * (1 + FLOATING.index(storage))
    elif layout.codebook is not None:
        end = bits.put_varint(layout.codebook)
    numbers = list(layout.shape)
    if layout.scales is not None:
        number += _SCALED
        numbers.append(layout.scales.split + 32 * layout.scales.batch)
    return kind + bytes([number]) + b"".join(map(bits.put_varint, numbers)) + end


# ---- reading ------------------------------------------------------------------------


def get(
    data: bytes,
    pos: int,
    codebooks: Sequence[np.ndarray],
    before: Sequence[Layout] = (),
) -> tuple[int, Layout, New | None]:
    """Reads the layout of a leaf.

    Args:
        data: The file up to the end of the header.
        pos: Where the layout begins, in bytes.
        codebooks: Those of the leaves before.
        before: The layouts of the leaves before.

    Returns:
        The position after the layout, the layout, and the codebook if it is a new one.

    Raises:
        FormatError: C3, C6, C20 to C24, C27 to C30, C36, C54, C55 or C61.
    """
    start = pos
    if get_byte(data, pos)[1] // 16 == COPY:
        return *_get_copy(data, pos, before), None
    pos, dtype, coding = _get_kind(data, pos)
    pos, number = get_byte(data, pos)
    pos, shape = _get_shape(data, pos, number % 32, dtype)
    if coding >= len(CODINGS):
        raise FormatError(f"a coding of number {coding}", offset=start, clause="C28")
    split = None
    if number >= _SCALED and coding not in WITHOUT_LABELS and dtype in scales.DTYPES:
        number -= _SCALED
        pos, split = _get_split(data, pos, len(shape))
    if number >= 32:
        storage = _storage(number // 32, dtype, coding, start)
        first = pos
        if dtype in WORDS:
            pos, codebook = byte_codebooks.get(data, pos, dtype)
        else:
            pos, codebook = codebook_header.get(data, pos, dtype, storage)
        layout = Layout(shape, dtype, coding, len(codebooks), scales=split)
        return pos, layout, New(codebook, pos - first)
    if coding in WITHOUT_LABELS:
        return pos, Layout(shape, dtype, coding), None
    pos, index = bits.get_varint(data, pos, clause="C3")
    if index >= len(codebooks):
        raise FormatError(
            f"no leaf before has codebook {index}", offset=start, clause="C29"
        )
    if codebooks[index].dtype != dtype:
        raise FormatError(
            f"a leaf of {dtype} with codebook {index} of another dtype",
            offset=start,
            clause="C30",
        )
    return pos, Layout(shape, dtype, coding, index, scales=split), None


def _get_split(data: bytes, pos: int, ndim: int) -> tuple[int, Split]:
    """The position after the field of the scales, and where axes are divided."""
    start = pos
    pos, number = bits.get_varint(data, pos, clause="C3")
    batch, split = divmod(number, 32)
    if not batch <= split <= ndim:
        raise FormatError(
            f"scales that divide {ndim} axes at {batch} and {split}",
            offset=start,
            clause="C61",
        )
    return pos, Split(batch, split)


def _get_copy(data: bytes, pos: int, before: Sequence[Layout]) -> tuple[int, Layout]:
    """The position after a copy, and its layout."""
    start = pos
    pos, kind = get_byte(data, pos)
    pos, more = bits.get_varint(data, pos, clause="C3")
    number = kind % 16 + 16 * more
    if number >= len(before) or not before[number].bodies:
        raise FormatError(
            f"leaf {len(before)} is a copy of leaf {number}, which is no leaf before "
            "it or has no body",
            offset=start,
            clause="C55",
        )
    return pos, before[number]._replace(copy_of=number)


def _get_kind(data: bytes, pos: int) -> tuple[int, np.dtype, int]:
    """The position after dtype and coding, and both."""
    start = pos
    pos, kind = get_byte(data, pos)
    code, coding = kind % 16, kind // 16
    if code == SHORT_CODES:
        pos, more = get_byte(data, pos)
        code += more
    return pos, of_code(code, start), coding


def _storage(number: int, dtype: np.dtype, coding: int, pos: int) -> np.dtype:
    """What a codebook is stored in."""
    storage = FLOATING[number - 1] if number <= len(FLOATING) else None
    if dtype in WORDS and coding not in WITHOUT_LABELS and number == 1:
        return dtype
    coded = coding not in WITHOUT_LABELS and dtype in FLOATING
    if storage is None or not coded or storage not in codebook_header.storages(dtype):
        raise FormatError(
            f"a {CODINGS[coding]} leaf of {dtype} with a codebook of storage {number}",
            offset=pos,
            clause="C21",
        )
    return storage


def _get_shape(
    data: bytes, pos: int, ndim: int, dtype: np.dtype
) -> tuple[int, tuple[int, ...]]:
    start = pos
    shape: list[int] = []
    for _ in range(ndim):
        pos, dimension = bits.get_varint(data, pos, clause="C3")
        shape.append(dimension)
    if problem := shape_problem(shape, dtype):
        raise FormatError(
            f"a leaf {problem.message}", offset=start, clause=problem.clause
        )
    return pos, tuple(shape)
