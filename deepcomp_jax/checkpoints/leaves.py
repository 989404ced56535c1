"""What every format of checkpoints is read as: leaves that are still on the disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from deepcomp_jax.format.lazy_leaf import LazyLeaf as Leaf

# Floating types that NumPy knows by name only if ml_dtypes is loaded.
_NARROW = {
    np.dtype(getattr(ml_dtypes, name))
    for name in dir(ml_dtypes)
    if name.startswith(("bfloat16", "float8"))
}


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message says what to do."""


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


def count(shape: tuple[int, ...]) -> int:
    """Number of values of a shape, however large."""
    product = 1
    for length in shape:
        product *= length
    return product


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


def from_bytes(data: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `bytes_of`: an array in the byte order of this machine.

    Raises:
        CheckpointError: There are not as many bytes as the array has.
    """
    if len(data) != count(shape) * dtype.itemsize:
        raise CheckpointError(
            f"the file ends within the values of a tensor: {len(data)} bytes of "
            f"{count(shape) * dtype.itemsize}"
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
        return 0, count(shape) * itemsize, shape
    each = count(shape[1:]) * itemsize
    length = rows.stop - rows.start
    return rows.start * each, length * each, (length, *shape[1:])
