"""What the header of a file says: where bodies are, how leaves are stored, and all."""

import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from deepcomp_jax._types import Structure
from deepcomp_jax.format.leaf_header import ELSEWHERE, Layout

CHECKSUM_BYTES = 4
SMALL = 1024  # bytes; a smaller body is in the header


class Section(NamedTuple):
    """Where a body is.

    Attributes:
        offset: Where it begins, in bytes from the start of the file.
        size: Of the body, in bytes.
    """

    offset: int
    size: int

    @property
    def checksum_bytes(self) -> int:
        """Of the checksum after the body: none if that is in the header."""
        return CHECKSUM_BYTES if self.size >= SMALL else 0


class Entry(NamedTuple):
    """A leaf, as the header describes it.

    Attributes:
        name: Its path, such as "params/fc1/kernel".
        layout: How it is stored.
        sections: Of the bodies of its parts; none for a leaf that has no body here.
        header_bytes: What this description takes of the header, but for a codebook.
        exponents: Sections of the bodies of exponents, if it has scales.
    """

    name: str
    layout: Layout
    sections: tuple[Section, ...]
    header_bytes: int
    exponents: tuple[Section, ...] = ()

    @property
    def bodies(self) -> tuple[Section, ...]:
        """Of all its bodies, in the order of the file."""
        return *self.exponents, *self.sections

    @property
    def size(self) -> int:
        """Bytes of its bodies."""
        return sum(section.size for section in self.bodies)

    @property
    def checksum_bytes(self) -> int:
        """Bytes of the checksums of its bodies."""
        return sum(section.checksum_bytes for section in self.bodies)


class Header(NamedTuple):
    """What a file holds, without the values.

    Attributes:
        structure: The containers.
        codebooks: In order of first use.
        leaves: In tree order.
        size: Where the first section begins, in bytes.
        codebook_bytes: What each codebook takes of the header.
        metadata: Strings that came with the network.
        metadata_bytes: What they take of the header.
    """

    structure: Structure
    codebooks: tuple[np.ndarray, ...]
    leaves: tuple[Entry, ...]
    size: int
    codebook_bytes: tuple[int, ...]
    metadata: Mapping[str, str]
    metadata_bytes: int

    @property
    def held(self) -> list[Entry]:
        """The leaves without those that are in other files of a set."""
        return [entry for entry in self.leaves if entry.layout.coding != ELSEWHERE]


def checksum(data: bytes) -> bytes:
    """CRC-32 of some bytes."""
    return zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "little")
