"""The bits of one tensor of a `.dcz` file, by part."""

import functools
from typing import NamedTuple

import numpy as np

from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.codings import Measured
from deepcomp_jax.format.file_header import Entry
from deepcomp_jax.format.leaf_header import CODINGS, PLANES, Layout
from deepcomp_jax.streams.counting import bincount

# The parts of a body, which are the first fields of `Measured`.
_OF_BODY = (
    *("positions", "indices", "tables", "lanes", "classes", "header", "padding"),
)


_BLOCK = 1 << 16  # values counted together


class Parts(NamedTuple):
    """What bits are spent on.

    Attributes:
        positions: Code words of the gaps.
        indices: Code words of the indices into a codebook, or of labels.
        values: Values that are stored one by one.
        codebook: Size and entries of a codebook.
        tables: Code tables and frequencies.
        classes: Classes of the grouped coding.
        lanes: Where the lanes of the streams begin, and their states.
        header: What describes a tensor or the file; the number of gaps.
        checksum: Checksums.
        padding: Zero bits that fill bytes.
    """

    positions: int = 0
    indices: int = 0
    values: int = 0
    codebook: int = 0
    tables: int = 0
    classes: int = 0
    lanes: int = 0
    header: int = 0
    checksum: int = 0
    padding: int = 0


class Tensor(NamedTuple):
    """A tensor and its bits.

    Attributes:
        name: Its path.
        layout: Shape, dtype and coding.
        coding: Its name, or "copy" if another tensor is stored in its place.
        size: Number of values.
        kept: Values that are not zero.
        unique: Distinct values among them; NaNs count as one.
        stored: Values in the file: all if raw or in planes, none of a copy, else those
            kept. A -0.0 is stored.
        gaps: Gap symbols.
        fillers: Those among them that stand for zeros only.
        gap_bits: Width of a gap symbol without a code, 0 if the coding has no such.
        clusters: Entries of the codebook, 0 if there is none.
        parts: Its bits. A codebook of several tensors is charged to the first.
        ideal: Bits that gaps and indices need: at their order-0 entropy or, where a
            stream has models, at the code length of those.
        body_bytes: Bytes of the body: the tensor without header and checksum.
        runner_up: The smallest other coding of labels, and the bytes of its body; None
            for a tensor that has no labels of its own, or if nobody asked.
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
        """All bits of the tensor."""
        return sum(self.parts)


def count(
    entry: Entry,
    leaf: DenseLeaf | SharedLeaf,
    measured: Measured,
    codebook: np.ndarray | None,
    codebook_bytes: int,
) -> Tensor:
    """Counts a tensor.

    Args:
        entry: What the header says about it.
        leaf: What it holds.
        measured: Of its body.
        codebook: Its codebook, if it has one.
        codebook_bytes: What the codebook adds to its bits.
    """
    own: dict[str, int] = {name: getattr(measured, name) for name in _OF_BODY}
    if isinstance(leaf, DenseLeaf):
        kept, unique = distinct(leaf.values.ravel())
        raw = 8 * entry.size - sum(own.values())
        stored = raw // (8 * entry.layout.dtype.itemsize)
        if entry.layout.coding == PLANES:  # some bytes of each are coded
            stored = entry.layout.size
    else:
        raw = 0
        used = bincount(leaf.labels.ravel(), 1)[1:]
        stored = kept = int(used.sum())
        unique = int(np.count_nonzero(used))
        if codebook is not None:  # some have entries of -0.0 and several NaNs
            counted = used[: codebook.size]
            kept = int(counted[codebook[: counted.size] != 0].sum())
            unique = distinct(codebook[: counted.size][counted > 0])[1]
    parts = Parts(**own, values=raw, codebook=8 * codebook_bytes)._replace(
        header=8 * entry.header_bytes + measured.header,
        checksum=8 * entry.checksum_bytes,
    )
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
        clusters=0 if codebook is None else codebook.size,
        parts=parts,
        ideal=measured.ideal,
        body_bytes=entry.size,
    )


def copied(entry: Entry, original: Tensor) -> Tensor:
    """Counts a tensor that is the same as one before and takes a header only.

    Args:
        entry: What the header says about it.
        original: The tensor that is stored.
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
    """The parts of a copy, of which a small file may hold very many."""
    return Parts(header=8 * size)


def distinct(values: np.ndarray) -> tuple[int, int]:
    """How many values are not zero, and how many distinct ones there are among them.

    Args:
        values: Flat. They are sorted where they are, if they have more than two bytes:
            a large tensor is not held twice.
    """
    with np.errstate(invalid="ignore"):  # signalling NaNs are values like others
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
    """A ratio; None if there is nothing below."""
    return above / below if below else None
