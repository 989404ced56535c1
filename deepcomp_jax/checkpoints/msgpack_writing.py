"""Writing files of `flax.serialization`; `flax_msgpack` tells what they hold."""

import math
import struct
from collections.abc import Mapping
from os import PathLike
from typing import IO, Any

import numpy as np

from deepcomp_jax.checkpoints import containers
from deepcomp_jax.checkpoints.leaves import (
    CheckpointError,
    bytes_of,
    is_narrow,
    is_plain,
    native,
)
from deepcomp_jax.checkpoints.msgpack_reading import ARRAY, CHUNKED
from deepcomp_jax.format import files

MAX_CHUNK = 1 << 30  # bytes of values; larger arrays are in chunks, as in Flax


def write(path: str | PathLike[str], tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a file, which has no place for metadata; see `checkpoints.write`.

    Lists are maps from "0", "1"... and numbers arrays without axes, as Flax makes them
    of the state of a network.
    """
    for name, leaf in containers.named_leaves(tree).items():
        if not is_plain(leaf.dtype) and not is_narrow(leaf.dtype):
            raise CheckpointError(
                f"leaf {name!r} is {leaf.dtype}, which Flax does not have"
            )
    with files.replacing(path) as file:
        _put(file, tree)


def _put(file: IO[bytes], node: Any) -> None:
    if node is None:
        file.write(b"\xc0")
    elif type(node) in (dict, list, tuple):
        items = node.items() if type(node) is dict else enumerate(node)
        _put_map(file, len(node))
        for key, child in items:
            file.write(_short(str(key).encode()))
            _put(file, child)
    elif math.prod(node.shape) * np.dtype(node.dtype).itemsize > MAX_CHUNK:
        _put_chunks(file, node)
    else:
        _put_array(file, np.asarray(node))


def _put_map(file: IO[bytes], items: int) -> None:
    small = items < 16
    file.write(bytes([0x80 | items]) if small else struct.pack(">BI", 0xDF, items))


def _short(text: bytes) -> bytes:
    """A string."""
    if len(text) < 32:
        return bytes([0xA0 | len(text)]) + text
    return struct.pack(">BI", 0xDB, len(text)) + text


def _put_array(file: IO[bytes], values: np.ndarray) -> None:
    name = native(values.dtype).name.encode()
    shape = b"".join(struct.pack(">BQ", 0xCF, length) for length in values.shape)
    axes = struct.pack(">BI", 0xDD, values.ndim)
    size = values.nbytes
    front = b"\x93" + axes + shape + _short(name) + struct.pack(">BI", 0xC6, size)
    file.write(struct.pack(">BIb", 0xC9, len(front) + size, ARRAY) + front)
    file.write(bytes_of(values).data)


def _put_chunks(file: IO[bytes], leaf: Any) -> None:
    """Writes a large array, of which the parts are read where a leaf can give them."""
    values = np.asarray(leaf).reshape(-1)
    each = MAX_CHUNK // values.dtype.itemsize
    _put_map(file, 3)
    file.write(_short(CHUNKED.encode()) + b"\xc3" + _short(b"shape"))
    _put_map(file, len(leaf.shape))
    for axis, length in enumerate(leaf.shape):
        file.write(_short(str(axis).encode()) + struct.pack(">BQ", 0xCF, length))
    file.write(_short(b"chunks"))
    starts = range(0, values.size, each)
    _put_map(file, len(starts))
    for number, start in enumerate(starts):
        file.write(_short(str(number).encode()))
        _put_array(file, values[start : start + each])
