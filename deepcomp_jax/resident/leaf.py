"""What a leaf on a device has, coded or not."""

import math
from typing import Any, NoReturn

import jax
import numpy as np


class ResidentLeaf:
    """A leaf in the memory of a device.

    It is no array: `decode()` makes one, and `np.asarray` one of NumPy. Operators and
    the functions of JAX refuse it, since each would decode all of it without a word.

    Attributes:
        shape: Of the values.
    """

    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        raise NotImplementedError

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
        """Bytes that it takes on the device."""
        return sum(own.nbytes for own in jax.tree.leaves(self))

    @property
    def dense_nbytes(self) -> int:
        """Bytes of the values once they are decoded."""
        return self.size * self.dtype.itemsize

    def decode(self) -> jax.Array:
        """The values; inside `jit` they are decoded there, of fixed shapes."""
        raise NotImplementedError

    def layers(self) -> "ResidentLeaf":
        """The same by indices of the first axis: the `xs` of a `jax.lax.scan`.

        What the body of the scan gets is a leaf of one axis less, to be decoded there.
        Such a leaf is for that alone: outside of a scan it has no use.

        Raises:
            ValueError: The leaf has no axis.
        """
        raise NotImplementedError

    def _check_axes(self) -> None:
        if not self.shape:
            raise ValueError(
                "a leaf without axes has no layers: use `decode()`, or close over it"
            )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self.decode())
        return np.array(values, dtype) if copy else np.asarray(values, dtype)

    def _refused(self, *args: Any, **kwargs: Any) -> NoReturn:
        """What takes an array gets a sentence in its place."""
        del args, kwargs
        raise TypeError(
            f"{self!r} is coded, and no array: `.decode()` gives its values; "
            "`Resident.apply(fn)`, or `decoding(fn)` in a `jit` of your own, decodes "
            "each leaf where `fn` reads it"
        )

    __jax_array__ = __array_ufunc__ = __getitem__ = __iter__ = __neg__ = _refused
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refused
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __pow__ = _refused
