"""Laws that hold for many parts of the library."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import pytest

from deepcomp_jax._errors import FormatError

T = TypeVar("T")

Decode = Callable[[bytes, int], tuple[int, Any]]


def assert_codec(encode: Callable[[T], bytes], decode: Decode, value: T) -> bytes:
    """A codec gives back what it was given, and reads no byte more and none less.

    Returns the code.
    """
    front, behind = b"\xa5", b"\x5a"
    data = encode(value)
    assert encode(value) == data
    pos, back = decode(front + data + behind, len(front))
    assert pos == len(front) + len(data)
    assert np.array_equal(np.asarray(back), np.asarray(value))
    assert np.asarray(back).dtype == np.asarray(value).dtype
    pos, _ = decode(data, 0)
    assert pos == len(data)
    return data


def assert_prefixes_rejected(decode: Decode, data: bytes, *, most: int = 200) -> None:
    """Every strict prefix of a code is rejected; of a long one, `most` prefixes are."""
    for size in range(0, len(data), -(-len(data) // most)):
        with pytest.raises(FormatError) as caught:
            decode(data[:size], 0)
        assert 0 <= caught.value.offset <= size


def assert_error_or_other_data(decode: Decode, data: bytes) -> None:
    """Damaged data give an error of ours that says where, or are read as other data."""
    try:
        pos, _ = decode(data, 0)
    except FormatError as error:
        assert 0 <= error.offset <= len(data)
        assert error.clause
    else:
        assert 0 <= pos <= len(data)


def assert_identical(left: Any, right: Any) -> None:
    """Two pytrees: same containers, and leaves equal in dtype, shape and every bit."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
