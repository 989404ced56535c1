"""The header of a `.dcz` file: everything that is not a value of a tensor.

    front     = magic | u8 version | varint size | header | u32 checksum of all before
    header    = strings | tree | leaves | bodies
    leaves    = for each leaf of the tree: its layout, and but for a copy varint size
                of its body
    bodies    = those of fewer than 1024 bytes, one after the other

Format notes:

- Numbers are little-endian, sizes in bytes. A checksum is the CRC-32 of zlib and PNG.
- The header alone gives names, shapes, dtypes and places of all tensors. The checksum
  of a section would be a good part of a small one, so small bodies are in the header.
- Strings and tree are written in `tree_header`, layouts and codebooks in `leaf_header`.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import Structure
from deepcomp_jax.format import leaf_header, tree_header
from deepcomp_jax.format.leaf_header import Layout
from deepcomp_jax.streams import bits

MAGIC = b"\x89DCZ"  # the first byte is no text, so that line endings stay as they are
VERSIONS = 1, 2
CHECKSUM_BYTES = 4
SMALL = 1024  # bytes; a smaller body is in the header
MAX_ENTRIES = 1 << 20  # of all codebooks: a grid takes few bytes in a file (C45)
SCRATCH = 8  # bytes that decoding takes for a value of a leaf, besides the value (C31)
PREFIX_BYTES = len(MAGIC) + 1 + bits.MAX_VARINT_BYTES  # enough to know the header's end


class Entry(NamedTuple):
    """A leaf, as the header describes it.

    Attributes:
        name: Its path, such as "params/fc1/kernel".
        layout: How it is stored.
        offset: Where its body begins, in bytes from the start of the file.
        size: Of its body, in bytes; 0 for a copy, which has none.
        header_bytes: What this description takes of the header, but for a codebook.
    """

    name: str
    layout: Layout
    offset: int
    size: int
    header_bytes: int

    @property
    def checksum_bytes(self) -> int:
        """Of the checksum after its body: none if that is in the header."""
        return CHECKSUM_BYTES if self.size >= SMALL else 0


class Header(NamedTuple):
    """What a file holds, without the values.

    Attributes:
        structure: The containers.
        codebooks: In order of first use.
        leaves: In tree order.
        size: Where the first section begins, in bytes.
        codebook_bytes: What each codebook takes of the header.
    """

    structure: Structure
    codebooks: tuple[np.ndarray, ...]
    leaves: tuple[Entry, ...]
    size: int
    codebook_bytes: tuple[int, ...]


def checksum(data: bytes) -> bytes:
    """CRC-32 of some bytes."""
    return zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "little")


# ---- writing ------------------------------------------------------------------------


def put(
    tree: bytes,
    codebooks: Sequence[np.ndarray],
    leaves: Sequence[tuple[Layout, bytes]],
) -> bytes:
    """Writes everything in front of the sections.

    Args:
        tree: The strings and the tree.
        codebooks: In order of first use.
        leaves: Layout and body of each leaf, that of a copy being empty.

    Raises:
        ValueError: The codebooks have too many entries together.
    """
    entries = sum(codebook.size for codebook in codebooks)
    if entries > MAX_ENTRIES:
        raise ValueError(
            f"the codebooks have {entries} entries, above {MAX_ENTRIES}: share with "
            "fewer clusters, or leave some leaves as they are"
        )
    out = [tree]
    used = 0
    for layout, body in leaves:
        new = None
        if layout.codebook == used and layout.copy_of is None:
            new, used = codebooks[used], used + 1
        out.append(leaf_header.put(layout, new))
        if layout.copy_of is None:
            out.append(bits.put_varint(len(body)))
    out += [body for _, body in leaves if len(body) < SMALL]
    header = b"".join(out)
    version = max((layout.version for layout, _ in leaves), default=1)
    front = MAGIC + bytes([version]) + bits.put_varint(len(header)) + header
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
        raise FormatError(
            f"not a .dcz file: it begins with {data[:4]!r}", offset=0, clause="C1"
        )
    if not data[4:5] or data[4] not in VERSIONS:
        raise FormatError(
            f"version {data[4:5].hex()} of the format, this reader knows 01 and 02",
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
        FormatError: C1 to C30, C36, C45, C54, C55.
    """
    pos, stop = _front(data)
    if stop + CHECKSUM_BYTES > len(data):
        raise FormatError(
            f"the header takes {stop + CHECKSUM_BYTES} bytes, the file has {len(data)}",
            offset=len(data),
            clause="C4",
        )
    data, found = data[:stop], data[stop : stop + CHECKSUM_BYTES]
    if checksum(data) != found:
        raise FormatError("the header is damaged", offset=stop, clause="C5")
    pos, structure, names = tree_header.get(data, pos)
    pos, described, codebooks, sizes = _get_layouts(data, pos, len(names))
    pos, leaves = _place(data, pos, names, described)
    if pos != stop:
        raise FormatError(
            "the fields do not end where the header does",
            offset=min(pos, stop),
            clause="C6",
        )
    _check_version(data[4], leaves)
    return Header(structure, codebooks, leaves, stop + CHECKSUM_BYTES, sizes)


def _check_version(version: int, leaves: Sequence[Entry]) -> None:
    needed = max((entry.layout.version for entry in leaves), default=1)
    if version != needed:
        raise FormatError(
            f"version {version} of the format for leaves of version {needed}",
            offset=4,
            clause="C2",
        )


class _Described(NamedTuple):
    """A leaf whose place is not known yet."""

    layout: Layout
    size: int
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
        pos, layout, new = leaf_header.get(data, pos, codebooks, data[4], layouts)
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
        size = 0
        if layout.copy_of is None:
            pos, size = bits.get_varint(data, pos, clause="C3")
        described.append(_Described(layout, size, pos - start))
    return pos, described, tuple(codebooks), tuple(sizes)


def _place(
    data: bytes, pos: int, names: Sequence[str], described: Sequence[_Described]
) -> tuple[int, tuple[Entry, ...]]:
    """The position after the small bodies, and the leaves."""
    large = len(data) + CHECKSUM_BYTES
    leaves: list[Entry] = []
    for name, (layout, size, header_bytes) in zip(names, described, strict=True):
        offset = pos if size < SMALL else large
        leaves.append(Entry(name, layout, offset, size, header_bytes))
        if size < SMALL:
            pos += size
        else:
            large += size + CHECKSUM_BYTES
    return pos, tuple(leaves)


def check_sizes(header: Header, file_bytes: int) -> None:
    """Rejects a file whose sections do not end where it does.

    Args:
        header: Of the file.
        file_bytes: Its size.

    Raises:
        FormatError: C32.
    """
    large = [entry.size for entry in header.leaves if entry.checksum_bytes]
    total = header.size + sum(large) + CHECKSUM_BYTES * len(large)
    if total != file_bytes:
        raise FormatError(
            f"the sections end at byte {total}, the file at {file_bytes}",
            offset=min(total, file_bytes),
            clause="C32",
        )


def check_memory(leaves: Iterable[Entry], max_bytes: int) -> None:
    """Rejects leaves whose values would take too much memory.

    Args:
        leaves: Those that are to be decoded, one after the other.
        max_bytes: What their values, and what decoding takes meanwhile, may take.

    Raises:
        FormatError: C31.
    """
    layouts = [entry.layout for entry in leaves]
    values = sum(layout.size * layout.dtype.itemsize for layout in layouts)
    total = values + SCRATCH * max((layout.size for layout in layouts), default=0)
    if total > max_bytes:
        raise FormatError(
            f"the values take {values} bytes, {total} with those that decoding takes, "
            f"above max_bytes={max_bytes}",
            offset=0,
            clause="C31",
        )
