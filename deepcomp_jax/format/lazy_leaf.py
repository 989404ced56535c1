"""Leaves that are still on the disk, of `.dcz` files and of other checkpoints."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

# Reads the values from one index of the first axis to another, or all for None.
Read = Callable[[slice | None], np.ndarray]


class LazyLeaf:
    """An array on the disk; nothing of it is read until it is asked for.

    `np.asarray(leaf)` reads all of it; `leaf[3]` and `leaf[2:5]` read no more than the
    format needs for these indices of the first axis. Several threads may read at once.

    Attributes:
        shape, dtype: As of the array.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, read: Read) -> None:
        """A leaf that a function reads."""
        self.shape, self.dtype, self._read = shape, dtype, read

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array in memory."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"Leaf({self.dtype}{list(self.shape)})"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self} has no axis, and so no length")
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self._read(None)
        return values if dtype is None else values.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> Any:
        key = index if isinstance(index, tuple) else (index,)
        first = key[0] if key and self.shape else ...
        if isinstance(first, int | np.integer) and not isinstance(first, bool):
            at = self._at(int(first))
            return self._read(slice(at, at + 1))[(0, *key[1:])]
        if isinstance(first, slice):
            chosen = range(self.shape[0])[first]
            low, high = (min(chosen), max(chosen) + 1) if chosen else (0, 0)
            rows = self._read(slice(low, high))
            if chosen.step < 0:
                rows = rows[::-1]
            return rows[(slice(None, None, abs(chosen.step)), *key[1:])]
        return self._read(None)[key]

    def _at(self, index: int) -> int:
        """An index of the first axis, counted from its beginning."""
        length = self.shape[0]
        if not -length <= index < length:
            raise IndexError(
                f"index {index} is out of bounds: the first axis of {self} has length "
                f"{length}"
            )
        return index % length
