"""What every format of checkpoints is read as: leaves that are still on the disk."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from deepcomp_jax.format.lazy_leaf import LazyLeaf, Read
from deepcomp_jax.format.source import Source

# Floating types that NumPy knows by name only if ml_dtypes is loaded.
_NARROW = {
    np.dtype(getattr(ml_dtypes, name))
    for name in dir(ml_dtypes)
    if name.startswith(("bfloat16", "float8"))
}

# The bytes of memory that reading takes, the values included.
Memory = Callable[[slice | None], int]


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message says what to do."""


class Leaf(LazyLeaf):
    """A tensor on the disk; nothing of it is read until it is asked for.

    `np.asarray(leaf)` reads all of it; `leaf[3]` and `leaf[2:5]` read no more than the
    format needs for these indices of the first axis. Several threads may read at once.

    Attributes:
        shape, dtype, size, ndim, nbytes: As of the array.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        read: Read,
        memory: Memory | None = None,
    ) -> None:
        """A leaf that a function reads.

        Args:
            shape, dtype: Of the array.
            read: Reads it.
            memory: What that takes; None if it is no more than the values.
        """
        super().__init__(shape, dtype, self._limited)
        self._values, self._memory = read, memory
        self._max_bytes, self._where = None, ""

    def limit(self, max_bytes: int, where: str) -> None:
        """Lets no more be read at a time than fits into a memory.

        Args:
            max_bytes: The memory.
            where: File and name, for the error.
        """
        self._max_bytes, self._where = max_bytes, where

    def check(self, rows: slice | None = None) -> None:
        """Rejects what takes more memory than was set.

        Args:
            rows: Indices of the first axis that are to be read; None for all.

        Raises:
            CheckpointError: It takes more.
        """
        if self._max_bytes is not None:
            needed = rows_of(self.shape, self.dtype.itemsize, rows)[1]
            if self._memory is not None:
                needed = self._memory(rows)
            if needed > self._max_bytes:
                raise CheckpointError(
                    f"{self._where} takes {needed} bytes while it is read, above "
                    f"max_bytes={self._max_bytes}: allow more if you trust the file"
                )

    def _limited(self, rows: slice | None) -> np.ndarray:
        self.check(rows)
        return self._values(rows)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is open, of whatever format; closed like a file.

    Attributes:
        tree: The containers, with leaves that have not been read.
        leaves: The same leaves by name, which is the path of keys joined by "/".
        metadata: The strings that came with it.
        format: Its name, one of `checkpoints.FORMATS`.
        file_bytes: What it takes on the disk.
        close: Closes it; its leaves cannot be read any more.
    """

    tree: Any
    leaves: Mapping[str, Leaf]
    metadata: dict[str, str]
    format: str
    file_bytes: int
    close: Callable[[], None] = field(repr=False)

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def dtype_of(name: str) -> np.dtype:
    """The dtype of a name such as "float32", "bfloat16" or "float8_e5m2".

    Raises:
        TypeError: There is none.
    """
    if not name.isidentifier():  # NumPy reads a small language here
        raise TypeError(f"no dtype {name!r}")
    own = getattr(ml_dtypes, name, None)
    return np.dtype(own if isinstance(own, type) else name)


def native(dtype: Any) -> np.dtype:
    """The same dtype in the byte order of this machine."""
    return np.dtype(dtype).newbyteorder("=")


def is_narrow(dtype: np.dtype) -> bool:
    """Whether a dtype is bfloat16 or one of the float8."""
    return dtype in _NARROW


def is_plain(dtype: np.dtype) -> bool:
    """Whether a dtype is one of NumPy's numbers, and alike on all machines."""
    return dtype.kind in "biu" or dtype.char in "efdFD"


def bytes_of(leaf: Any) -> np.ndarray:
    """The values of a leaf, little-endian, in C order, as uint8[nbytes].

    Reads the leaf if it is on the disk, and copies it only if it is not in that order.
    """
    array = np.asarray(leaf)
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return little.reshape(-1).view(np.uint8)


def values_at(
    file: Source,
    start: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    rows: slice | None,
) -> np.ndarray:
    """Values that are little-endian and in C order in a file, as `bytes_of` gives them.

    Args:
        file: The file.
        start: The first byte of the array.
        dtype, shape: Of the array, in the byte order of this machine.
        rows: The indices of its first axis that are wanted; None for all.

    Raises:
        CheckpointError: The file has been cut short.
    """
    first, size, shape = rows_of(shape, dtype.itemsize, rows)
    data = file.read(start + first, size)
    if len(data) != size:
        raise CheckpointError(
            f"the file ends within the values of a tensor: {len(data)} bytes of {size}"
        )
    array = np.frombuffer(data, dtype.newbyteorder("<"))
    return array.astype(dtype, copy=False).reshape(shape)


def rows_of(
    shape: tuple[int, ...], itemsize: int, rows: slice | None
) -> tuple[int, int, tuple[int, ...]]:
    """Where some indices of the first axis lie in values in C order.

    Returns:
        Their first byte, how many bytes they take, and their shape.
    """
    if rows is None or not shape:
        return 0, math.prod(shape) * itemsize, shape
    each = math.prod(shape[1:]) * itemsize
    length = rows.stop - rows.start
    return rows.start * each, length * each, (length, *shape[1:])
