"""The header of a `.dcz` file: everything that is not a value of a tensor.

    front     = magic | u8 version | varint size | header | u32 checksum of all before
    header    = strings | tree | leaves | bodies | [metadata]
    leaves    = for each leaf of the tree: its layout, and varint size of each body
    bodies    = those of fewer than 1024 bytes, one after the other

Format notes:

- Numbers are little-endian, sizes in bytes. A checksum is the CRC-32 of zlib and PNG.
- The header alone gives names, shapes, dtypes and places of all tensors. The checksum
  of a section would be a good part of a small one, so small bodies are in the header.
- A leaf has a body for each of its parts (`parts`), none if it is a copy or elsewhere;
  one with `scales` has two before those, of the exponents of rows and of columns.
- Strings and tree are written in `tree_header`, layouts and codebooks in `leaf_header`,
  metadata in `metadata`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from deepcomp_jax._errors import FormatError
from deepcomp_jax.format import leaf_header, tree_header
from deepcomp_jax.format import metadata as metadata_header
from deepcomp_jax.format.leaf_header import Layout
from deepcomp_jax.format.records import (
    CHECKSUM_BYTES,
    SMALL,
    Entry,
    Header,
    Section,
    checksum,
)
from deepcomp_jax.streams import bits

MAGIC = b"\x89DCZ"  # the first byte is no text, so that line endings stay as they are
VERSION = 1
MAX_ENTRIES = 1 << 20  # of all codebooks: a grid takes few bytes in a file (C45)
PREFIX_BYTES = len(MAGIC) + 1 + bits.MAX_VARINT_BYTES  # enough to know the header's end


# ---- writing ------------------------------------------------------------------------


class Stored(NamedTuple):
    """A leaf that is ready to be put into a file.

    Attributes:
        layout: How it is stored.
        sizes: Of its bodies, in bytes.
        small: Those of them that are in the header, in order.
    """

    layout: Layout
    sizes: tuple[int, ...]
    small: tuple[bytes, ...]


def put(
    tree: bytes,
    codebooks: Sequence[np.ndarray],
    leaves: Sequence[Stored],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Writes everything in front of the sections.

    Args:
        tree: The strings and the tree.
        codebooks: In order of first use.
        leaves: In tree order.
        metadata: Strings that go with the network.

    Raises:
        ValueError: The codebooks have too many entries together, or UTF-8 cannot hold
            the metadata.
        TypeError: The metadata are no strings.
    """
    entries = sum(codebook.size for codebook in codebooks)
    if entries > MAX_ENTRIES:
        raise ValueError(
            f"the codebooks have {entries} entries, above {MAX_ENTRIES}: share with "
            "fewer clusters, or leave some leaves as they are"
        )
    out = [tree]
    used = 0
    for layout, sizes, _ in leaves:
        new = None
        if layout.codebook == used and layout.copy_of is None:
            new, used = codebooks[used], used + 1
        out.append(leaf_header.put(layout, new))
        out += map(bits.put_varint, sizes)
    out += [body for leaf in leaves for body in leaf.small]
    out.append(metadata_header.put(metadata or {}))
    header = b"".join(out)
    front = MAGIC + bytes([VERSION]) + bits.put_varint(len(header)) + header
    return front + checksum(front)


# ---- reading ------------------------------------------------------------------------


def end(data: bytes) -> int:
    """Where the header and its checksum end, from the first bytes of a file.

    Args:
        data: At least the first `PREFIX_BYTES` of the file, or all of it.

    Raises:
        FormatError: C1 to C3.
    """
    return _front(data)[1] + CHECKSUM_BYTES


def _front(data: bytes) -> tuple[int, int]:
    """Where the header begins and ends, without its checksum."""
    if data[:4] != MAGIC:
        if MAGIC.startswith(data):
            message = f"the file is cut: it has no more than {len(data)} bytes"
        else:
            message = (
                f"not a .dcz file: it begins with {data[:4]!r}; other formats are read "
                "by deepcomp_jax.checkpoints.open, and shown by `dcz inspect`"
            )
        raise FormatError(message, offset=0, clause="C1")
    if data[4:5] != bytes([VERSION]):
        if len(data) == 4:
            raise FormatError(
                "the file is cut: it has no more than 4 bytes", offset=4, clause="C2"
            )
        raise FormatError(
            f"version {data[4:5].hex()} of the format, this reader knows 01",
            offset=4,
            clause="C2",
        )
    pos, size = bits.get_varint(data, 5, clause="C3")
    return pos, pos + size


def get(data: bytes) -> Header:
    """Reads everything in front of the sections.

    Args:
        data: A file, or its first bytes up to the first section at least.

    Raises:
        FormatError: C1 to C30, C36, C45, C54, C55, C59, C61.
    """
    pos, stop = _front(data)
    if stop + CHECKSUM_BYTES > len(data):
        raise FormatError(
            f"the header takes {stop + CHECKSUM_BYTES} bytes, "
            f"the file has {len(data)}: it is cut, or damaged",
            offset=len(data),
            clause="C4",
        )
    data, found = data[:stop], data[stop : stop + CHECKSUM_BYTES]
    if checksum(data) != found:
        raise FormatError("the header is damaged", offset=stop, clause="C5")
    pos, structure, names = tree_header.get(data, pos)
    pos, described, codebooks, sizes = _get_layouts(data, pos, len(names))
    pos, leaves = _place(data, pos, names, described)
    start = pos
    metadata: dict[str, str] = {}
    if pos < stop:
        pos, metadata = metadata_header.get(data, pos)
    if pos != stop:
        raise FormatError(
            "the fields do not end where the header does",
            offset=min(pos, stop),
            clause="C6",
        )
    end = stop + CHECKSUM_BYTES
    return Header(structure, codebooks, leaves, end, sizes, metadata, pos - start)


class _Described(NamedTuple):
    """A leaf whose place is not known yet."""

    layout: Layout
    sizes: tuple[int, ...]
    header_bytes: int


def _get_layouts(
    data: bytes, pos: int, count: int
) -> tuple[int, list[_Described], tuple[np.ndarray, ...], tuple[int, ...]]:
    """The position after the leaves, the leaves, the codebooks, and bytes of each."""
    described: list[_Described] = []
    layouts: list[Layout] = []
    once: dict[Layout, Layout] = {}  # many copies of a leaf are described alike
    codebooks: list[np.ndarray] = []
    sizes: list[int] = []
    entries = 0
    for _ in range(count):
        start = pos
        pos, layout, new = leaf_header.get(data, pos, codebooks, layouts)
        layout = once.setdefault(layout, layout)
        layouts.append(layout)
        if new:
            codebooks.append(new.codebook)
            entries += new.codebook.size
            if entries > MAX_ENTRIES:
                raise FormatError(
                    f"codebooks of {entries} entries", offset=start, clause="C45"
                )
            sizes.append(new.size)
            start += new.size
        pos, own = _get_sizes(data, pos, layout.bodies)
        described.append(_Described(layout, own, pos - start))
    return pos, described, tuple(codebooks), tuple(sizes)


def _get_sizes(data: bytes, pos: int, count: int) -> tuple[int, tuple[int, ...]]:
    """The position after the sizes of bodies, and the sizes."""
    sizes: list[int] = []
    for _ in range(count):  # at least a byte each, so that the header ends this too
        pos, size = bits.get_varint(data, pos, clause="C3")
        sizes.append(size)
    return pos, tuple(sizes)


def _place(
    data: bytes, pos: int, names: Sequence[str], described: Sequence[_Described]
) -> tuple[int, tuple[Entry, ...]]:
    """The position after the small bodies, and the leaves."""
    large = len(data) + CHECKSUM_BYTES
    leaves: list[Entry] = []
    for name, (layout, sizes, header_bytes) in zip(names, described, strict=True):
        sections: list[Section] = []
        for size in sizes:
            section = Section(pos if size < SMALL else large, size)
            sections.append(section)
            if section.checksum_bytes:
                large += size + CHECKSUM_BYTES
            else:
                pos += size
        first = layout.exponent_bodies
        own = tuple(sections[first:]), header_bytes, tuple(sections[:first])
        leaves.append(Entry(name, layout, *own))
    return pos, tuple(leaves)


def check_sizes(header: Header, file_bytes: int) -> None:
    """Rejects a file whose sections do not end where it does.

    Args:
        header: Of the file.
        file_bytes: Its size.

    Raises:
        FormatError: C32.
    """
    large = [section for section in _sections(header.leaves) if section.checksum_bytes]
    total = header.size + sum(s.size + s.checksum_bytes for s in large)
    if total != file_bytes:
        why = "it is cut" if file_bytes < total else "something was added to it"
        raise FormatError(
            f"the sections end at byte {total}, the file at {file_bytes}: {why}",
            offset=min(total, file_bytes),
            clause="C32",
        )


def _sections(leaves: Iterable[Entry]) -> Iterator[Section]:
    return (section for entry in leaves for section in entry.bodies)
