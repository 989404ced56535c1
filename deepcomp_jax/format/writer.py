"""Writing a `.dcz` file leaf after leaf, in the memory of one.

The bodies are spooled as they come. When all are known, so is the header, and the file
is put together. A leaf that equals one before it is stored once (C56): it is known
again by a digest, so that no body need be kept.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np

from deepcomp_jax._types import Structure
from deepcomp_jax.format import (
    byte_codebooks,
    codebook_header,
    file_header,
    leaf_body,
    records,
    structures,
    tree_header,
)
from deepcomp_jax.format.dtypes import FLOATING, WORDS
from deepcomp_jax.format.file_header import Stored
from deepcomp_jax.format.leaf_encoding import Encoded
from deepcomp_jax.format.leaf_header import ELSEWHERE, Layout
from deepcomp_jax.format.reader import MAX_CLASS_INDICES
from deepcomp_jax.format.records import SMALL


class Writer:
    """A file in the making.

    Attributes:
        names: Of the leaves, in tree order, in which they are to be put.
    """

    def __init__(self, structure: Structure, spool: IO[bytes]) -> None:
        """Begins a file.

        Args:
            structure: The containers.
            spool: What keeps the bodies until all are known; read and written.

        Raises:
            ValueError: No file can hold such containers or names.
        """
        self._tree = tree_header.put(structure)
        self.names, problem = structures.leaf_names(structure)
        if problem:
            raise ValueError(f"{problem.message}: rename a key")
        self._spool = spool
        self._leaves: list[Stored] = []
        self._codebooks: list[np.ndarray] = []
        self._numbers: dict[object, int] = {}  # of codebooks
        self._first: dict[bytes, int] = {}  # the first leaf of each digest
        self._class_indices = 0

    def put(self, encoded: Encoded, codebook: np.ndarray | None) -> int:
        """Adds the next leaf.

        Args:
            encoded: The leaf, from `leaf_encoding.put`.
            codebook: What its labels stand for. Equal ones are stored once.

        Returns:
            What its bodies take in the file, in bytes; 0 for a copy.

        Raises:
            ValueError: The codebook is none that a file can hold, or the axes with
                classes are too long together.
        """
        layout, bodies = encoded
        contents = None
        if codebook is not None:
            check_codebook(codebook)
            contents = codebook.dtype, codebook.tobytes()
        digest = _digest(encoded, contents)
        first = self._first.setdefault(digest, len(self._leaves))
        if first < len(self._leaves) and layout.coding != ELSEWHERE:
            same = self._leaves[first].layout
            self._leaves.append(Stored(same._replace(copy_of=first), (), ()))
            return 0
        if contents is not None and codebook is not None:
            number = self._numbers.setdefault(contents, len(self._codebooks))
            if number == len(self._codebooks):
                self._codebooks.append(codebook)
            layout = layout._replace(codebook=number)
        self._count_classes(layout, bodies)
        small = tuple(body for body in bodies if len(body) < SMALL)
        for body in bodies:
            if len(body) >= SMALL:
                self._spool.write(body)
                self._spool.write(records.checksum(body))
        self._leaves.append(Stored(layout, tuple(map(len, bodies)), small))
        return sum(map(len, bodies))

    def _count_classes(self, layout: Layout, bodies: Sequence[bytes]) -> None:
        for part, body in enumerate(bodies[layout.exponent_bodies :]):
            self._class_indices += leaf_body.class_indices(layout, part, body)
        if self._class_indices > MAX_CLASS_INDICES:
            raise ValueError(
                f"{self._class_indices} indices of axes have classes, above "
                f"{MAX_CLASS_INDICES}: name the coding of some leaves, such as "
                "'order0', or split the network"
            )

    def finish(self, out: IO[bytes], metadata: Mapping[str, str] | None = None) -> int:
        """Writes the file, all leaves having been put.

        Args:
            out: Where to.
            metadata: Strings that go with the network.

        Returns:
            The size of the file, in bytes.

        Raises:
            ValueError: Leaves are missing, or the codebooks have too many entries.
        """
        if len(self.names) != len(self._leaves):
            raise ValueError(
                f"the structure has {len(self.names)} leaves, but "
                f"{len(self._leaves)} are given"
            )
        front = file_header.put(self._tree, self._codebooks, self._leaves, metadata)
        out.write(front)
        size = self._spool.tell()
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, out, 1 << 20)
        return len(front) + size


def _digest(encoded: Encoded, contents: tuple[np.dtype, bytes] | None) -> bytes:
    """The same for leaves alone that are equal in all that is stored of them."""
    layout, bodies = encoded
    found = hashlib.blake2b(digest_size=32)
    sizes = list(map(len, bodies))
    described = layout.shape, layout.dtype.name, layout.coding, layout.scales, sizes
    found.update(repr(described).encode())
    for data in (contents[1] if contents else b"", *bodies):
        found.update(data)
    return found.digest()


def check_codebook(codebook: np.ndarray) -> None:
    """Rejects a codebook that no file can hold.

    Raises:
        ValueError: It breaks a rule of the format.
    """
    if codebook.ndim != 1 or codebook.dtype not in (*FLOATING, *WORDS):
        raise ValueError(
            f"a codebook is {codebook.dtype}{list(codebook.shape)}, not a vector of a "
            "floating dtype or one of one byte"
        )
    rules = byte_codebooks if codebook.dtype in WORDS else codebook_header
    if problem := rules.problem(codebook):
        raise ValueError(
            f"a codebook: {problem.message}; share with fewer clusters, or leave these "
            "leaves out of sharing"
        )
