"""Reading leaves of a file: bodies, values, slices of them, and labels."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import numpy as np

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import DenseLeaf, Scales, SharedLeaf
from deepcomp_jax.codings import common
from deepcomp_jax.codings.common import Take
from deepcomp_jax.format import leaf_body, scales
from deepcomp_jax.format.leaf_header import CODINGS
from deepcomp_jax.format.records import Entry, Header, Section, checksum
from deepcomp_jax.format.scales import Exponents
from deepcomp_jax.format.source import Source
from deepcomp_jax.streams import rans


def original(entry: Entry, header: Header) -> Entry:
    """The leaf that is stored for one, under its own name."""
    if entry.layout.copy_of is None:
        return entry
    return header.leaves[entry.layout.copy_of]._replace(name=entry.name)


def read_body(source: Source, entry: Entry, part: int) -> bytes:
    """The body of a part of a leaf, its checksum found right.

    Raises:
        FormatError: C33.
    """
    return _read_section(source, entry.sections[part])


def _read_section(source: Source, section: Section) -> bytes:
    raw = source.read(section.offset, section.size + section.checksum_bytes)
    body, found = raw[: section.size], raw[section.size :]
    expected = checksum(body) if section.checksum_bytes else b""
    if len(body) != section.size or found != expected:
        raise FormatError("the section is damaged", offset=len(body), clause="C33")
    return body


def located(entry: Entry, part: int) -> AbstractContextManager[None]:
    """Errors inside name the leaf, and their offset is that in the file."""
    return naming(entry, entry.sections[part].offset)


@contextmanager
def naming(entry: Entry, offset: int) -> Iterator[None]:
    """Errors inside name the leaf, and count bytes from an offset on."""
    try:
        yield
    except FormatError as error:
        where = f" (byte {error.offset}, clause {error.clause})"
        raise FormatError(
            f"leaf {entry.name!r}: {str(error).removesuffix(where)}",
            offset=offset + error.offset,
            clause=error.clause,
        ) from None


def read_exponents(
    source: Source, header: Header, entry: Entry, take: Take = rans.take
) -> Exponents | None:
    """Reads the exponents of the rows and columns of a leaf, if it has scales.

    Args:
        source: The file.
        header: Of the file.
        entry: The leaf, which is stored itself.
        take: What decodes rANS streams.

    Raises:
        FormatError: One of their bodies is damaged, or C63.
    """
    layout, view = entry.layout, entry.layout.view
    if view is None or layout.codebook is None:
        return None
    found: list[np.ndarray] = []
    for section, count in zip(entry.exponents, view.counts, strict=True):
        with naming(entry, section.offset):
            found.append(scales.get(_read_section(source, section), count, take))
    exponents = Exponents(view, *found)
    if problem := scales.problem(exponents, header.codebooks[layout.codebook]):
        with naming(entry, entry.exponents[0].offset):
            raise FormatError(problem.message, offset=0, clause=problem.clause)
    return exponents


class Unscaled(NamedTuple):
    """What is decoded of a leaf: its values, but for the scales of rows and columns.

    Attributes:
        entries: Its values if it has no scales, else what these are to multiply; in
            memory that JAX can take over without a copy.
        exponents: Those of its scales, if it has any.
        start: Which value of the leaf, flat, the first of the entries is.
    """

    entries: np.ndarray
    exponents: Exponents | None
    start: int

    def scaled(self) -> np.ndarray:
        """The values, in the memory of the entries."""
        if self.exponents is not None:
            scales.multiply(self.entries.reshape(-1), self.start, self.exponents)
        return self.entries

    def copy(self) -> "Unscaled":
        """The same in memory of its own, but for the exponents."""
        return self._replace(entries=self.entries.copy())


def read_values(
    source: Source,
    header: Header,
    entry: Entry,
    rows: slice | None = None,
    *,
    take: Take = rans.take,
) -> np.ndarray:
    """Reads the values of a leaf, or those at some of the indices of its first axis.

    Args:
        source, header, entry, rows, take: As for `read_unscaled`.

    Returns:
        The values, in memory that JAX can take over without a copy.

    Raises:
        FormatError: A body is damaged.
    """
    return read_unscaled(source, header, entry, rows, take=take).scaled()


def read_unscaled(
    source: Source,
    header: Header,
    entry: Entry,
    rows: slice | None = None,
    *,
    take: Take = rans.take,
) -> Unscaled:
    """Reads a leaf, or what is at some of the indices of its first axis.

    Args:
        source: The file.
        header: Of the file.
        entry: The leaf.
        rows: Indices of the first axis, from `start` to `stop`, which are given and in
            bounds. Parts that hold none of them are neither read nor decoded.
        take: What decodes rANS streams.

    Raises:
        FormatError: A body is damaged.
    """
    entry = original(entry, header)
    layout, parts = entry.layout, entry.layout.parts
    exponents = read_exponents(source, header, entry, take)
    if rows is None and parts.number == 1:
        only = _part_values(source, header, entry, 0, take)
        return Unscaled(only.reshape(layout.shape), exponents, 0)
    shape, span = layout.shape, slice(0, layout.size)
    if rows is not None:
        each = layout.size // max(shape[0], 1)
        span = slice(rows.start * each, rows.stop * each)
        shape = (rows.stop - rows.start, *shape[1:])
    values = common.zeros(span.stop - span.start, layout.dtype)
    for part in range(parts.number):
        own = parts.span(part)
        first, end = max(own.start, span.start), min(own.stop, span.stop)
        if first < end:
            decoded = _part_values(source, header, entry, part, take)
            target = values[first - span.start : end - span.start]
            target[:] = decoded[first - own.start : end - own.start]
    return Unscaled(values.reshape(shape), exponents, span.start)


def _part_values(
    source: Source, header: Header, entry: Entry, part: int, take: Take
) -> np.ndarray:
    """The values of a part, flat; of a leaf with scales, its entries."""
    layout = entry.layout
    with located(entry, part):
        body = read_body(source, entry, part)
        if layout.codebook is None:
            return leaf_body.get_dense(layout, part, body, take)
        codebook = header.codebooks[layout.codebook]
        lookup = leaf_body.lookup_of(codebook)
        values = leaf_body.get_labels(layout, part, body, codebook, take, lookup)
        return values.view(codebook.dtype)


def read_leaf(
    source: Source, header: Header, entry: Entry, take: Take = rans.take
) -> DenseLeaf | SharedLeaf:
    """Reads a leaf as it is stored: its values, or its labels.

    Args:
        source: The file.
        header: Of the file.
        entry: The leaf, which is stored itself.
        take: What decodes rANS streams.

    Raises:
        FormatError: The body of a part is damaged.
    """
    layout = entry.layout
    if layout.codebook is None:
        return DenseLeaf(read_values(source, header, entry, take=take))
    codebook = header.codebooks[layout.codebook]
    exponents = read_exponents(source, header, entry, take)
    known = leaf_body.described(layout.shape, codebook)
    labels = np.zeros(layout.size, known.dtype)
    widths: set[int | None] = set()
    for part in range(layout.parts.number):
        with located(entry, part):
            body = read_body(source, entry, part)
            own = leaf_body.get_labels(layout, part, body, codebook, take)
            widths.add(leaf_body.gap_bits(layout, body))
        labels[layout.parts.span(part)] = own
    gap_bits = widths.pop() if len(widths) == 1 else None  # of all parts, if they agree
    shaped, coding = labels.reshape(layout.shape), CODINGS[layout.coding]
    leaf = SharedLeaf(shaped, layout.codebook, coding, gap_bits)
    if exponents is None or layout.scales is None:
        return leaf
    (batches, *sizes), *flat = exponents
    pairs = zip(flat, sizes, strict=True)
    first, last = (own.reshape(batches, size) for own, size in pairs)
    return leaf._replace(scales=Scales(*layout.scales, first, last))
