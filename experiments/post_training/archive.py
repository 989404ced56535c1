"""Arrays in one file, each compressed by Zstandard at level 19: that of the baselines.

    file = u32 length of the header | header: JSON, compressed | arrays, compressed

The header has the name, the dtype, the shape and the compressed length of each array,
and whether it is stored transposed, which is done where that is smaller: a table of
sines, say, has much in common along one axis only.
"""

import importlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_LEVEL = 19
_FAST = 3


def zstandard() -> Any:
    """The library, which only this benchmark needs.

    Raises:
        RuntimeError: It is not installed.
    """
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        raise RuntimeError(
            "the baselines need Zstandard: pip install zstandard, or choose others by "
            "--methods"
        ) from None


def write(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Makes a file of arrays of any dtypes that NumPy has."""
    best = zstandard().ZstdCompressor(level=_LEVEL).compress
    header: list[Any] = []
    bodies: list[bytes] = []
    for name, array in arrays.items():
        turned = _smaller_transposed(array)
        bodies.append(best((array.T if turned else array).tobytes()))
        form = array.dtype.str, list(array.shape), turned
        header.append([name, *form, len(bodies[-1])])
    front = best(json.dumps(header).encode())
    return b"".join([struct.pack("<I", len(front)), front, *bodies])


def _smaller_transposed(array: np.ndarray) -> bool:
    """Whether an array seems to become smaller transposed, by a fast level."""
    fast = zstandard().ZstdCompressor(level=_FAST).compress
    return array.ndim > 1 and len(fast(array.T.tobytes())) < len(fast(array.tobytes()))


def read(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file that `write` made."""
    expand = zstandard().ZstdDecompressor().decompress
    (length,) = struct.unpack_from("<I", data)
    at = 4 + length
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape, turned, size in json.loads(expand(data[4:at])):
        own = np.frombuffer(expand(data[at : at + size]), dtype)
        arrays[name] = own.reshape(shape[::-1]).T if turned else own.reshape(shape)
        at += size
    return arrays
