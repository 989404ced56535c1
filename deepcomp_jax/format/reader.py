"""Reading a `.dcz` file: its header, whole networks, leaves, and slices of leaves.

Everything is read from a `Source`, a piece at a time: the header first, then the
section of one part after the other. Nothing that the header promises is taken memory
for before it is known to fit.
"""

import numbers
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import Compressed, DenseLeaf, Scales, SharedLeaf, Structure
from deepcomp_jax.codings import common
from deepcomp_jax.codings.common import Take
from deepcomp_jax.format import file_header, leaf_body, scales
from deepcomp_jax.format.file_header import Entry, Header, Section
from deepcomp_jax.format.leaf_header import CODINGS, ELSEWHERE
from deepcomp_jax.format.scales import Exponents
from deepcomp_jax.format.source import Source
from deepcomp_jax.streams import bits, rans

MAX_BYTES = 1 << 32  # of memory, if the caller does not say otherwise (C31)
MAX_CLASS_INDICES = 1 << 22  # of a file: some microseconds each, and no bits (C46)

# ---- the header ---------------------------------------------------------------------


def read_header(source: Source) -> Header:
    """Reads what a file holds and where, and checks that the file is as long as that.

    Raises:
        FormatError: The header breaks a clause of the specification, or C32.
    """
    front = source.read(0, file_header.PREFIX_BYTES)
    end = min(file_header.end(front), source.size)
    header = file_header.get(front[:end] + source.read(len(front), end - len(front)))
    file_header.check_sizes(header, source.size)
    return header


def check(
    source: Source,
    header: Header,
    max_bytes: int,
    leaves: Sequence[Entry] | None = None,
) -> None:
    """Checks that leaves can be decoded in a memory, and in reasonable time.

    Args:
        source: The file.
        header: Of the file.
        max_bytes: What all of them may take together, see `container.loads`.
        leaves: Those that are to be decoded; None for all.

    Raises:
        FormatError: C31, C46 or C60.
    """
    leaves = header.leaves if leaves is None else leaves
    for entry in leaves:
        _check_here(entry)
    file_header.check_memory(leaves, max_bytes)
    _check_classes(source, header, leaves)


def check_each(
    source: Source,
    header: Header,
    max_bytes: int,
    leaves: Sequence[Entry] | None = None,
) -> None:
    """As `check`, for leaves of which one is in memory at a time.

    Args:
        source, header, leaves: As for `check`.
        max_bytes: What each of them may take alone.

    Raises:
        FormatError: C31, C46 or C60.
    """
    leaves = header.leaves if leaves is None else leaves
    for entry in leaves:
        check_leaf(entry, max_bytes)
    _check_classes(source, header, leaves)


def _check_classes(source: Source, header: Header, leaves: Sequence[Entry]) -> None:
    total = sum(
        leaf_body.class_indices(entry.layout, part, _first_of(section, source))
        for entry in leaves
        if CODINGS[entry.layout.coding] == "grouped"
        for part, section in enumerate(entry.sections)
    )
    if total > MAX_CLASS_INDICES:
        raise FormatError(
            f"{total} indices of axes have classes, above {MAX_CLASS_INDICES}",
            offset=header.size,
            clause="C46",
        )


def check_max_bytes(max_bytes: Any) -> None:
    """Rejects a limit of memory or of a file that is no number.

    Raises:
        TypeError: It is something else, such as "1 GB".
    """
    if not isinstance(max_bytes, numbers.Real):
        raise TypeError(
            f"max_bytes is a number of bytes, such as 2**30, got {max_bytes!r}"
        )


def check_leaf(entry: Entry, max_bytes: int, rows: slice | None = None) -> None:
    """Checks that a leaf is in this file, and can be decoded in a memory.

    Args:
        entry: The leaf.
        max_bytes: As for `container.loads`, of this leaf alone.
        rows: The indices of its first axis that are asked for; None for all.

    Raises:
        FormatError: C31 or C60.
    """
    _check_here(entry)
    with _naming(entry, 0):
        if rows is None:
            file_header.check_memory([entry], max_bytes)
        else:
            file_header.check_slice_memory(entry.layout, rows, max_bytes)


def _check_here(entry: Entry) -> None:
    if entry.layout.coding == ELSEWHERE:
        raise FormatError(
            f"leaf {entry.name!r} is in another file of the set: open them together",
            offset=0,
            clause="C60",
        )


def _first_of(section: Section, source: Source) -> bytes:
    return source.read(section.offset, min(section.size, bits.MAX_VARINT_BYTES))


# ---- leaves -------------------------------------------------------------------------


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
    expected = file_header.checksum(body) if section.checksum_bytes else b""
    if len(body) != section.size or found != expected:
        raise FormatError("the section is damaged", offset=len(body), clause="C33")
    return body


def located(entry: Entry, part: int) -> AbstractContextManager[None]:
    """Errors inside name the leaf, and their offset is that in the file."""
    return _naming(entry, entry.sections[part].offset)


@contextmanager
def _naming(entry: Entry, offset: int) -> Iterator[None]:
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
        with _naming(entry, section.offset):
            found.append(scales.get(_read_section(source, section), count, take))
    exponents = Exponents(view, *found)
    if problem := scales.problem(exponents, header.codebooks[layout.codebook]):
        with _naming(entry, entry.exponents[0].offset):
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


# ---- networks -----------------------------------------------------------------------


def read_network(
    source: Source, header: Header, *, max_bytes: int = MAX_BYTES
) -> Compressed:
    """Reads a network as it is stored; see `container.loads`."""
    check(source, header, max_bytes)
    leaves: list[DenseLeaf | SharedLeaf] = []
    for entry in header.leaves:
        number = entry.layout.copy_of
        if number is None:
            leaves.append(read_leaf(source, header, entry))
        else:
            leaves.append(_again(leaves[number]))
    return Compressed(header.structure, tuple(leaves), header.codebooks)


def _again(leaf: DenseLeaf | SharedLeaf) -> DenseLeaf | SharedLeaf:
    """The same leaf in memory of its own."""
    if isinstance(leaf, DenseLeaf):
        return DenseLeaf(leaf.values.copy())
    again = leaf._replace(labels=leaf.labels.copy())
    if leaf.scales is None:
        return again
    first, last = leaf.scales.first.copy(), leaf.scales.last.copy()
    return again._replace(scales=leaf.scales._replace(first=first, last=last))


def read_tree(
    source: Source,
    header: Header,
    *,
    max_bytes: int = MAX_BYTES,
    take: Take = rans.take,
) -> Any:
    """Reads a network straight to its values, without arrays of labels between.

    Args:
        source: The file.
        header: Of the file.
        max_bytes: As for `container.loads`.
        take: What decodes rANS streams.

    Returns:
        The pytree of the network, with arrays as leaves, no two in the same memory.

    Raises:
        FormatError: As for `container.loads`.
    """
    check(source, header, max_bytes)
    found = read_each(source, header, header.leaves, take=take)
    arrays = {name: leaf.scaled() for name, leaf in found}
    return fill(header.structure, [arrays[entry.name] for entry in header.leaves])


def read_each(
    source: Source, header: Header, leaves: Sequence[Entry], *, take: Take = rans.take
) -> Iterator[tuple[str, Unscaled]]:
    """Reads leaves one after the other, with their names; each body only once (C57).

    Args:
        source: The file.
        header: Of the file.
        leaves: Those that are to be read, once they were checked.
        take: What decodes rANS streams.

    Raises:
        FormatError: The body of a part is damaged.
    """
    numbers = {entry.name: number for number, entry in enumerate(header.leaves)}
    stored = [
        numbers[entry.name] if entry.layout.copy_of is None else entry.layout.copy_of
        for entry in leaves
    ]
    left = Counter(stored)
    held: dict[int, Unscaled] = {}
    for number, entry in zip(stored, leaves, strict=True):
        found = held.pop(number, None)
        if found is None:
            found = read_unscaled(source, header, entry, take=take)
        left[number] -= 1
        if left[number]:
            held[number] = found.copy()
        yield entry.name, found


_MISSING = object()


def fill(structure: Structure, leaves: Sequence[Any] | Mapping[int, Any]) -> Any:
    """The containers of a network, with leaves in place of their numbers.

    Args:
        structure: The containers.
        leaves: All of them in tree order, or some by number. Of the containers those
            are left then that hold any; in lists and tuples, None is in place of what
            is missing.
    """
    partial = isinstance(leaves, Mapping) and len(leaves) < _count(structure)

    def visit(node: Structure) -> Any:
        if node is None:
            return _MISSING if partial else None
        if isinstance(node, int):
            return leaves[node] if not partial or node in leaves else _MISSING
        if isinstance(node, dict):
            found = {key: visit(child) for key, child in node.items()}
            kept = {key: own for key, own in found.items() if own is not _MISSING}
            return kept if kept or not partial else _MISSING
        found = [visit(child) for child in node]
        if partial and all(own is _MISSING for own in found):
            return _MISSING
        return type(node)(None if own is _MISSING else own for own in found)

    return visit(structure)


def _count(node: Structure) -> int:
    """How many leaves there are."""
    if node is None or isinstance(node, int):
        return int(node is not None)
    return sum(map(_count, node.values() if isinstance(node, dict) else node))
