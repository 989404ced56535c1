"""The bits of one tensor of a `.dcz` file, by part."""

from typing import NamedTuple

import numpy as np

from deepcomp_jax import huffman
from deepcomp_jax._header import CHECKSUM_BYTES, Entry
from deepcomp_jax._layout import RAW, Layout
from deepcomp_jax._measures import entropy
from deepcomp_jax._section import Section


class Parts(NamedTuple):
    """What bits are spent on.

    Attributes:
        positions: Code words of the gaps.
        indices: Code words of the indices into a codebook.
        values: Values that are stored one by one.
        codebook: Dtype, size and entries of a codebook.
        tables: Huffman code tables.
        lanes: Where the lanes of the streams begin.
        header: What describes a tensor or the file; the number of gaps.
        checksum: Checksums.
        padding: Zero bits that fill bytes.
    """

    positions: int = 0
    indices: int = 0
    values: int = 0
    codebook: int = 0
    tables: int = 0
    lanes: int = 0
    header: int = 0
    checksum: int = 0
    padding: int = 0


class Tensor(NamedTuple):
    """A tensor and its bits.

    Attributes:
        name: Its path.
        layout: Shape, dtype and coding.
        size: Number of values.
        kept: Values that are not zero.
        unique: Distinct values among them; NaNs count as one.
        stored: Values in the file: all if raw, else those kept. A -0.0 is stored.
        gaps: Gap symbols.
        fillers: Those among them that stand for zeros only.
        clusters: Entries of the codebook, 0 if there is none.
        parts: Its bits. A codebook of several tensors is charged to the first.
        entropy: Bits that gaps and indices need at their order-0 entropy.
    """

    name: str
    layout: Layout
    size: int
    kept: int
    unique: int
    stored: int
    gaps: int
    fillers: int
    clusters: int
    parts: Parts
    entropy: float

    @property
    def bits(self) -> int:
        """All bits of the tensor."""
        return sum(self.parts)


def count(
    entry: Entry, section: Section, codebook: np.ndarray | None, codebook_bytes: int
) -> Tensor:
    """Counts a tensor.

    Args:
        entry: What the header says about it.
        section: Its section.
        codebook: Its codebook, if it has one.
        codebook_bytes: What the codebook adds to its bits.
    """
    layout = entry.layout
    parts = _parts(entry, section, codebook_bytes)
    clusters = 0 if codebook is None else codebook.size
    if layout.codebook is None:
        stored = section.values.size
        kept, unique = _distinct(section.values)
    else:
        stored = kept = section.indices.size
        unique = np.unique(section.indices).size
    fillers = section.gaps.size - section.positions.size
    bits = entropy(section.gaps) + entropy(section.indices)
    counts = kept, unique, stored, section.gaps.size, fillers, clusters
    return Tensor(entry.name, layout, layout.size, *counts, parts, bits)


def _parts(entry: Entry, section: Section, codebook_bytes: int) -> Parts:
    gap_parts = index_parts = huffman.Parts(0, 0, 0, 0)
    if section.body and entry.layout.coding != RAW:
        count = section.gaps.size
        _, gap_parts = huffman.parts(section.body, section.gaps_at, count)
        if entry.layout.codebook is not None:
            count = section.indices.size
            _, index_parts = huffman.parts(section.body, section.rest_at, count)
    return Parts(
        positions=gap_parts.words,
        indices=index_parts.words,
        values=8 * section.values.nbytes,
        codebook=8 * codebook_bytes,
        tables=gap_parts.table + index_parts.table,
        lanes=gap_parts.lanes + index_parts.lanes,
        header=8 * (entry.header_bytes + section.gaps_at),
        checksum=8 * CHECKSUM_BYTES,
        padding=gap_parts.padding + index_parts.padding,
    )


def _distinct(values: np.ndarray) -> tuple[int, int]:
    """How many values are not zero, and how many distinct ones there are among them."""
    with np.errstate(invalid="ignore"):  # signalling NaNs are values like others
        # NumPy knows the NaNs of its own dtypes only.
        wide = values.astype(np.float32) if values.dtype.kind == "V" else values
        nonzero = wide[wide != 0]
        return nonzero.size, np.unique(nonzero).size
