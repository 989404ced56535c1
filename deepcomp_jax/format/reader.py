"""Reading a `.dcz` file: its header, whole networks, leaves, and slices of leaves.

Everything is read from a `Source`, a piece at a time: the header first, then the
section of one part after the other. Nothing that the header promises is taken memory
for before it is known to fit.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf
from deepcomp_jax.codings.common import Take
from deepcomp_jax.format import (
    file_header,
    leaf_body,
    leaf_reading,
    memory_limit,
    structures,
)
from deepcomp_jax.format.leaf_header import CODINGS, ELSEWHERE
from deepcomp_jax.format.memory_limit import MAX_BYTES
from deepcomp_jax.format.records import Entry, Header, Section
from deepcomp_jax.format.source import Source
from deepcomp_jax.streams import bits, rans

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
    memory_limit.check(leaves, max_bytes)
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
    with leaf_reading.naming(entry, 0):
        if rows is None:
            memory_limit.check([entry], max_bytes)
        else:
            memory_limit.check_slice(entry.layout, rows, max_bytes)


def _check_here(entry: Entry) -> None:
    if entry.layout.coding == ELSEWHERE:
        raise FormatError(
            f"leaf {entry.name!r} is in another file of the set: open them together",
            offset=0,
            clause="C60",
        )


def _first_of(section: Section, source: Source) -> bytes:
    return source.read(section.offset, min(section.size, bits.MAX_VARINT_BYTES))


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
            leaves.append(leaf_reading.read_leaf(source, header, entry))
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
    return structures.fill(
        header.structure, [arrays[entry.name] for entry in header.leaves]
    )


def read_each(
    source: Source, header: Header, leaves: Sequence[Entry], *, take: Take = rans.take
) -> Iterator[tuple[str, leaf_reading.Unscaled]]:
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
    held: dict[int, leaf_reading.Unscaled] = {}
    for number, entry in zip(stored, leaves, strict=True):
        found = held.pop(number, None)
        if found is None:
            found = leaf_reading.read_unscaled(source, header, entry, take=take)
        left[number] -= 1
        if left[number]:
            held[number] = found.copy()
        yield entry.name, found
