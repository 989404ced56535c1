"""Arrays that are read when they are asked for, whole or a slice at a time."""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class LazyArray(ABC):
    """An array on the disk; nothing of it is read until it is asked for.

    `np.asarray(leaf)` reads all of it, `leaf[3]` or `leaf[2:5]` no more than what is
    needed for these indices of the first axis. Several threads may read at once.

    Attributes:
        shape, dtype: As of the array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def _read(self, rows: slice | None) -> np.ndarray:
        """The values from one index of the first axis to another, or all for None."""

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

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self!r} has no axis")
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self._read(None)
        return values if dtype is None else values.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> Any:
        key = index if isinstance(index, tuple) else (index,)
        first = key[0] if key and self.shape else ...
        if isinstance(first, int | np.integer) and not isinstance(first, bool):
            at = range(self.shape[0])[first]
            return self._read(slice(at, at + 1))[(0, *key[1:])]
        if isinstance(first, slice):
            chosen = range(self.shape[0])[first]
            low, high = (min(chosen), max(chosen) + 1) if chosen else (0, 0)
            rows = self._read(slice(low, high))
            step = chosen.step
            return (rows if step > 0 else rows[::-1])[
                (slice(None, None, abs(step)), *key[1:])
            ]
        return self._read(None)[key]
