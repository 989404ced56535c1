"""The bits of one tensor of a `.dcz` file, by part."""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import Measured
from deepcomp_jax.format.leaf_header import CODINGS, PLANES, Layout
from deepcomp_jax.format.records import Entry
from deepcomp_jax.streams.counting import bincount

_BLOCK = 1 << 16  # values counted together


class Parts(NamedTuple):
    """The bits that a tensor, or a whole file, spends on each purpose.

    Attributes:
        positions: The code words of gaps, which say where the weights are.
        indices: The code words of indices into a codebook, or of labels.
        values: Values that are stored one by one, without a codebook.
        codebook: The size and the entries of a codebook.
        scales: The exponents of rows and columns.
        tables: Huffman code tables, and frequencies of symbols.
        classes: The classes of the grouped coding.
        lanes: Where the lanes of the streams begin, and their states.
        header: The description of a tensor or of the file, and the number of gaps.
        checksum: Checksums of the header and of the bodies.
        padding: Zero bits that fill up bytes.
    """

    positions: int = 0
    indices: int = 0
    values: int = 0
    codebook: int = 0
    scales: int = 0
    tables: int = 0
    classes: int = 0
    lanes: int = 0
    header: int = 0
    checksum: int = 0
    padding: int = 0


class Tensor(NamedTuple):
    """A tensor of a file, and what its bits are spent on.

    Attributes:
        name: The path of the tensor, such as "params/fc1/kernel".
        layout: How the file describes the tensor: its shape, dtype and coding.
        coding: Name of the coding, or "copy" if an equal tensor is stored in its place.
        size: How many values the tensor has.
        kept: How many of them are not zero.
        unique: How many distinct values there are among these; all NaNs count as one.
            Of a tensor with scales, how many entries of its codebook they are made of.
        stored: How many values the file stores: all of a raw tensor or one in planes,
            none of a copy, and else those that are kept and any -0.0.
        gaps: How many gap symbols there are.
        fillers: How many of these only bridge a run of zeros.
        gap_bits: Width of a gap symbol before entropy coding; 0 if it has none.
        clusters: How many entries the codebook has; 0 if there is none.
        parts: The bits by purpose. The first tensor that uses a codebook pays for it.
        ideal: The bits that gaps and indices would need at their order-0 entropy or,
            where the stream has models, at the code length under those.
        body_bytes: The size of the bodies: all but the header and the checksums.
        runner_up: The smallest other coding and the size of its body in bytes; None for
            a raw tensor or a copy, or where the account was not asked to compare.
    """

    name: str
    layout: Layout
    coding: str
    size: int
    kept: int
    unique: int
    stored: int
    gaps: int
    fillers: int
    gap_bits: int
    clusters: int
    parts: Parts
    ideal: float
    body_bytes: int
    runner_up: tuple[str, int] | None = None

    @property
    def bits(self) -> int:
        """All bits that the tensor takes."""
        return sum(self.parts)


def dense(entry: Entry, measured: Measured, values: np.ndarray) -> Tensor:
    """Counts the bits of a tensor that has no codebook.

    Args:
        entry: What the header of the file says about the tensor.
        measured: What the bits of its bodies are spent on, but for values one by one.
        values: Flat; they are sorted where they are, see `distinct`.
    """
    kept, unique = distinct(values)
    taken = 8 * entry.size - sum(_of_bodies(measured))
    stored = taken // (8 * entry.layout.dtype.itemsize)
    if entry.layout.coding == PLANES:  # some bytes of each value are coded
        stored = entry.layout.size
    tensor = _tensor(entry, measured, kept=kept, unique=unique, stored=stored)
    return tensor._replace(parts=tensor.parts._replace(values=taken))


def shared(
    entry: Entry,
    measured: Measured,
    used: NDArray[np.int64],
    codebook: np.ndarray,
    codebook_bytes: int,
) -> Tensor:
    """Counts the bits of a tensor that has labels.

    Args:
        entry: What the header of the file says about the tensor.
        measured: What the bits of its bodies are spent on.
        used: How often each entry of the codebook is.
        codebook: The codebook.
        codebook_bytes: What to charge the tensor for it.
    """
    # Not every entry is another number: some are -0.0, and several may be NaN.
    tensor = _tensor(
        entry,
        measured,
        kept=int(used[codebook != 0].sum()),
        unique=distinct(codebook[used > 0])[1],
        stored=int(used.sum()),
    )
    exponents = sum(section.size for section in entry.exponents)
    parts = tensor.parts._replace(codebook=8 * codebook_bytes, scales=8 * exponents)
    return tensor._replace(clusters=codebook.size, parts=parts)


def _tensor(
    entry: Entry, measured: Measured, *, kept: int, unique: int, stored: int
) -> Tensor:
    """A tensor without values one by one, and without a codebook."""
    parts = _of_bodies(measured)
    return Tensor(
        entry.name,
        entry.layout,
        CODINGS[entry.layout.coding],
        size=entry.layout.size,
        kept=kept,
        unique=unique,
        stored=stored,
        gaps=measured.gaps,
        fillers=measured.fillers,
        gap_bits=measured.gap_bits,
        clusters=0,
        parts=parts._replace(
            header=8 * entry.header_bytes + parts.header,
            checksum=8 * entry.checksum_bytes,
        ),
        ideal=measured.ideal,
        body_bytes=entry.size,
    )


def _of_bodies(measured: Measured) -> Parts:
    """What is measured of the bits of bodies."""
    return Parts(
        positions=measured.positions,
        indices=measured.indices,
        tables=measured.tables,
        classes=measured.classes,
        lanes=measured.lanes,
        header=measured.header,
        padding=measured.padding,
    )


def copied(entry: Entry, original: Tensor) -> Tensor:
    """Counts a tensor that equals an earlier one, and so takes a header only.

    Args:
        entry: What the header of the file says about the copy.
        original: The tensor that it is a copy of.
    """
    return original._replace(
        name=entry.name,
        layout=entry.layout,
        coding="copy",
        stored=0,
        gaps=0,
        fillers=0,
        gap_bits=0,
        parts=_header_alone(entry.header_bytes),
        ideal=0.0,
        body_bytes=0,
        runner_up=None,
    )


@functools.cache
def _header_alone(size: int) -> Parts:
    """The parts of a copy; cached, as a small file may hold very many copies."""
    return Parts(header=8 * size)


def distinct(values: np.ndarray) -> tuple[int, int]:
    """How many values are not zero, and how many distinct ones there are among them.

    Args:
        values: Flat. They are sorted where they are, if they have more than two bytes:
            a large tensor is not held twice.
    """
    with np.errstate(invalid="ignore"):  # signaling NaNs are values like others
        return _by_words(values) if values.dtype.itemsize <= 2 else _by_order(values)


def _by_words(values: np.ndarray) -> tuple[int, int]:
    words = values.view(f"u{values.dtype.itemsize}")
    counts = bincount(words)
    present = np.flatnonzero(counts)
    # NumPy knows the NaNs of its own dtypes only.
    wide = present.astype(words.dtype).view(values.dtype).astype(np.float32)
    nonzero = wide != 0
    return int(counts[present[nonzero]].sum()), np.unique(wide[nonzero]).size


def _by_order(values: np.ndarray) -> tuple[int, int]:
    values.sort()
    kept = unique = nans = 0
    last = np.zeros(1, values.dtype)
    for first in range(0, values.size, _BLOCK):
        own = values[first : first + _BLOCK]
        kept += np.count_nonzero(own)
        numbers = own[own == own]  # NaNs are behind all numbers
        nans += own.size - numbers.size
        joined = np.append(last, numbers)
        unique += np.count_nonzero((numbers != 0) & (numbers != joined[:-1]))
        last = joined[-1:]
    return int(kept), int(unique + (nans > 0))


def divide(above: int, below: int) -> float | None:
    """A ratio, or None instead of dividing by zero."""
    return above / below if below else None
