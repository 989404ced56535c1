"""Files in the format of this package, and sets of them, read without JAX."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.checkpoints.leaves import Checkpoint, CheckpointError, Leaf
from deepcomp_jax.format import leaf_reading, memory_limit, sets, structures
from deepcomp_jax.format.records import Entry


class StoredLeaf(Leaf):
    """A leaf of a `.dcz` file.

    Attributes:
        coding: How it is stored; "copy" if another leaf is stored in its place.
        entry: What the header says of it.
        part_bytes: What it takes of the file, by part. A codebook of several leaves is
            charged to the first of them.
    """

    def __init__(
        self, file: sets.Opened, entry: Entry, codebook_bytes: int, path: Path
    ) -> None:
        """The leaf of an entry of the header."""
        layout = entry.layout
        read_rows = functools.partial(_read, file, entry, path)
        memory = functools.partial(memory_limit.taken, layout)
        super().__init__(layout.shape, layout.dtype, read_rows, memory)
        self.entry, self.coding = entry, layout.coding_name
        self._file, self._path = file, path
        exponents = sum(section.size for section in entry.exponents)
        self.part_bytes = {
            "body": entry.size - exponents,
            "codebook": codebook_bytes,
            "scales": exponents,
            "header": entry.header_bytes,
            "checksum": entry.checksum_bytes,
        }

    def stored(self) -> tuple[DenseLeaf | SharedLeaf, np.ndarray | None]:
        """Reads the leaf as it is in the file: its values, or labels and a codebook.

        Raises:
            CheckpointError: The file is damaged, or the leaf too large.
        """
        self.check()
        with naming(self._path):
            entry = leaf_reading.original(self.entry, self._file.header)
            leaf = leaf_reading.read_leaf(*self._file, entry)
        if isinstance(leaf, DenseLeaf):
            return leaf, None
        return leaf, self._file.header.codebooks[leaf.codebook]


def _read(
    file: sets.Opened, entry: Entry, path: Path, rows: slice | None
) -> np.ndarray:
    # What decodes fast needs JAX, which those do not want who only look at headers.
    from deepcomp_jax.device import take_on_cpu

    with naming(path):
        return leaf_reading.read_values(*file, entry, rows, take=take_on_cpu)


@contextlib.contextmanager
def naming(path: str | PathLike[str]) -> Iterator[None]:
    """Errors in a file say which file it is.

    Raises:
        CheckpointError: There was a `FormatError`.
    """
    try:
        yield
    except FormatError as error:
        raise CheckpointError(f"{fspath(path)}: {error}") from error


def read(path: str | PathLike[str]) -> Checkpoint:
    """Opens a file or a set; see `checkpoints.open`."""
    stack = contextlib.ExitStack()
    try:
        with naming(path):
            opened = sets.opened(path, stack)
    except BaseException:
        stack.close()
        raise
    leaves: dict[str, Leaf] = {}
    charges: list[dict[int | None, int]] = [
        dict(enumerate(file.header.codebook_bytes)) for file in opened
    ]
    for number, entry in sets.leaves(opened):
        charge = charges[number].pop(entry.layout.codebook, 0)
        leaves[entry.name] = StoredLeaf(opened[number], entry, charge, Path(path))
    first = opened[0].header
    tree = structures.fill(first.structure, list(leaves.values()))
    size = sum(file.source.size for file in opened)
    return Checkpoint(tree, leaves, dict(first.metadata), "dcz", size, stack.close)


def write(path: str | PathLike[str], tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a file without loss; see `checkpoints.write`."""
    from deepcomp_jax import api

    api.write(path, tree, [], metadata=metadata)
