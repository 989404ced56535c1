"""Files of `flax.serialization`, read and written a tensor at a time.

    array = extension 1: [shape, name of the dtype, values]       scalars: extension 3
    large = {"__msgpack_chunked_array__": True, "shape": {...}, "chunks": {...}}

The libraries of MessagePack read an array whole to know where it ends; here, values are
skipped. (https://github.com/msgpack/msgpack/blob/master/spec.md)
"""

import contextlib
import functools
import struct
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import IO, Any, NamedTuple

import numpy as np

from deepcomp_jax.checkpoints import containers
from deepcomp_jax.checkpoints.leaves import (
    Checkpoint,
    Leaf,
    bytes_of,
    count,
    dtype_of,
    from_bytes,
    rows_of,
)
from deepcomp_jax.format import files, source
from deepcomp_jax.format.source import Source

MAX_DEPTH = 64  # containers within each other
MAX_CHUNK = 1 << 30  # bytes of values; larger arrays are in chunks, as in Flax
_CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # extensions of Flax
_MAP, _LIST, _TEXT, _BYTES, _EXTENSION = "map", "list", "text", "bytes", "extension"
_SIZED = {  # first byte: what follows, and how many bytes its size has
    **{0xC4: (_BYTES, 1), 0xC5: (_BYTES, 2), 0xC6: (_BYTES, 4)},
    **{0xC7: (_EXTENSION, 1), 0xC8: (_EXTENSION, 2), 0xC9: (_EXTENSION, 4)},
    **{0xD9: (_TEXT, 1), 0xDA: (_TEXT, 2), 0xDB: (_TEXT, 4)},
    **{0xDC: (_LIST, 2), 0xDD: (_LIST, 4), 0xDE: (_MAP, 2), 0xDF: (_MAP, 4)},
}
_FIXED = {  # first byte: how `struct` unpacks the number that follows
    **{0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
    **{0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"},
}
_PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}


# ---- reading ------------------------------------------------------------------------


class _Token(NamedTuple):
    """A value, or the beginning of one.

    Attributes:
        kind: What it is; "" for a number, a truth value or None, which `value` holds.
        value: That, or the size: items of containers, bytes of others.
        pos: Where what follows begins.
    """

    kind: str
    value: Any
    pos: int


def read(path: str | PathLike[str]) -> Checkpoint:
    """Opens a file; see `checkpoints.open`."""
    stack = contextlib.ExitStack()
    try:
        file = stack.enter_context(source.opened(path))
        end, tree = _node(file, 0, 1)
        _require(end == file.size, "something follows its content")
        leaves = containers.named_leaves(tree)
    except ValueError as error:
        stack.close()
        raise ValueError(f"{fspath(path)} is no Flax file: {error}") from None
    except BaseException:
        stack.close()
        raise
    return Checkpoint(tree, leaves, {}, "msgpack", file.size, stack.close)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _token(file: Source, pos: int) -> _Token:
    front = file.read(pos, 9)
    _require(front != b"", "it ends too early")
    first, rest = front[0], front[1:]
    if first <= 0x7F or first >= 0xE0:
        return _Token("", first if first <= 0x7F else first - 256, pos + 1)
    if first in _PLAIN:
        return _Token("", _PLAIN[first], pos + 1)
    if first <= 0x9F:
        return _Token(_MAP if first <= 0x8F else _LIST, first & 15, pos + 1)
    if first <= 0xBF:
        return _checked(file, _Token(_TEXT, first & 31, pos + 1))
    if first in _FIXED:
        size = struct.calcsize(_FIXED[first])
        _require(len(rest) >= size, "it ends too early")
        return _Token("", struct.unpack_from(_FIXED[first], rest)[0], pos + 1 + size)
    if 0xD4 <= first <= 0xD8:
        return _checked(file, _Token(_EXTENSION, 1 << (first - 0xD4), pos + 1))
    _require(first in _SIZED, f"byte {first:#x} begins nothing")
    kind, width = _SIZED[first]
    size = int.from_bytes(rest[:width], "big")
    return _checked(file, _Token(kind, size, pos + 1 + width))


def _checked(file: Source, token: _Token) -> _Token:
    """A token whose items, of which each takes a byte at least, are within the file."""
    least = token.value * (2 if token.kind == _MAP else 1)
    _require(token.pos + least <= file.size, "it ends too early")
    return token


def _node(file: Source, pos: int, depth: int) -> tuple[int, Any]:
    """The position after a value, and the value with leaves for arrays."""
    kind, value, pos = _token(file, pos)
    if kind == "":
        return pos, None if value is None else np.asarray(value)
    if kind in (_TEXT, _BYTES):
        raw = file.read(pos, value)
        return pos + value, np.asarray(_text(raw) if kind == _TEXT else raw)
    if kind == _EXTENSION:
        return _extension(file, pos, value)
    _require(depth <= MAX_DEPTH, f"its containers nest deeper than {MAX_DEPTH}")
    if kind == _LIST:
        items = []
        for _ in range(value):
            pos, item = _node(file, pos, depth + 1)
            items.append(item)
        return pos, items
    found: dict[str | int, Any] = {}
    for _ in range(value):
        pos, key = _key(file, pos)
        _require(key not in found, f"a map has {key!r} twice")
        pos, found[key] = _node(file, pos, depth + 1)
    return pos, _joined(found) if _CHUNKED in found else found


def _key(file: Source, pos: int) -> tuple[int, str | int]:
    kind, value, pos = _token(file, pos)
    if kind in (_TEXT, _BYTES):
        return pos + value, _text(file.read(pos, value))
    _require(type(value) is int and not kind, "a key is neither a string nor a number")
    return pos, value


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ValueError("a string is not UTF-8") from None


def _extension(file: Source, pos: int, size: int) -> tuple[int, Any]:
    """The position after an extension, and its leaf."""
    code, start, end = file.read(pos, 1)[:1], pos + 1, pos + 1 + size
    _require(end <= file.size and code != b"", "it ends too early")
    if code[0] == _COMPLEX:
        _, parts = _node(file, start, MAX_DEPTH)
        _require(isinstance(parts, list) and len(parts) == 2, "a number has no parts")
        return end, np.asarray(complex(*map(float, parts)))
    _require(code[0] in (_ARRAY, _SCALAR), f"extension {code[0]} is none of Flax")
    kind, parts, pos = _token(file, start)
    _require((kind, parts) == (_LIST, 3), "an array has not three parts")
    pos, lengths = _node(file, pos, MAX_DEPTH)
    _require(isinstance(lengths, list), "the shape of an array is no list")
    shape = tuple(int(length) for length in lengths)
    pos, name = _key(file, pos)
    try:
        dtype = dtype_of(str(name))
    except TypeError:
        raise ValueError(f"there is no dtype {name!r}") from None
    kind, taken, pos = _token(file, pos)
    whole = min(shape, default=0) >= 0 and count(shape) * dtype.itemsize == taken
    fits = kind in (_BYTES, _TEXT) and whole and pos + taken == end
    _require(fits and not dtype.hasobject, "an array has not the size of its shape")
    return end, Leaf(shape, dtype, functools.partial(_rows, file, pos, dtype, shape))


def _rows(
    file: Source,
    start: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    rows: slice | None,
) -> np.ndarray:
    first, size, shape = rows_of(shape, dtype.itemsize, rows)
    return from_bytes(file.read(start + first, size), dtype, shape)


def _joined(found: Mapping[str | int, Any]) -> Leaf:
    """The leaf of an array that is stored in chunks."""
    shape, chunks = found.get("shape"), found.get("chunks")
    whole = isinstance(shape, dict) and isinstance(chunks, dict) and bool(chunks)
    _require(whole, "an array in chunks has no shape or no chunks")
    assert isinstance(shape, dict) and isinstance(chunks, dict)
    lengths = tuple(int(shape.get(str(i), -1)) for i in range(len(shape)))
    pieces = [chunks.get(str(i)) for i in range(len(chunks))]
    flat = all(isinstance(piece, Leaf) and piece.ndim == 1 for piece in pieces)
    _require(flat and min(lengths, default=0) >= 0, "an array in chunks lacks some")
    same = len({piece.dtype for piece in pieces}) == 1
    size = sum(piece.size for piece in pieces)
    _require(same and size == count(lengths), "chunks are not those of their array")
    dtype = pieces[0].dtype
    return Leaf(lengths, dtype, functools.partial(_of_chunks, pieces, dtype, lengths))


def _of_chunks(
    pieces: Sequence[Leaf], dtype: np.dtype, shape: tuple[int, ...], rows: slice | None
) -> np.ndarray:
    first, size, shape = rows_of(shape, 1, rows)
    values = np.empty(size, dtype)
    start = 0
    for piece in pieces:
        low = max(start, first)
        high = min(start + piece.size, first + size)
        if low < high:
            values[low - first : high - first] = piece[low - start : high - start]
        start += piece.size
    return values.reshape(shape)


# ---- writing ------------------------------------------------------------------------


def write(path: str | PathLike[str], tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a file, which has no place for metadata; see `checkpoints.write`.

    Lists are maps from "0", "1"... and numbers arrays without axes, as Flax makes them
    of the state of a network.
    """
    for name, leaf in containers.named_leaves(tree).items():
        if np.dtype(leaf.dtype).kind not in "biufcV":
            raise ValueError(f"leaf {name!r} is {leaf.dtype}, which Flax does not have")
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
    elif count(node.shape) * np.dtype(node.dtype).itemsize > MAX_CHUNK:
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
    name = values.dtype.newbyteorder("=").name.encode()
    shape = b"".join(struct.pack(">BQ", 0xCF, length) for length in values.shape)
    axes = struct.pack(">BI", 0xDD, values.ndim)
    size = values.nbytes
    front = b"\x93" + axes + shape + _short(name) + struct.pack(">BI", 0xC6, size)
    file.write(struct.pack(">BIb", 0xC9, len(front) + size, _ARRAY) + front)
    file.write(bytes_of(values).data)


def _put_chunks(file: IO[bytes], leaf: Any) -> None:
    """Writes a large array, of which the parts are read where a leaf can give them."""
    values = np.asarray(leaf).reshape(-1)
    each = MAX_CHUNK // values.dtype.itemsize
    _put_map(file, 3)
    file.write(_short(_CHUNKED.encode()) + b"\xc3" + _short(b"shape"))
    _put_map(file, len(leaf.shape))
    for axis, length in enumerate(leaf.shape):
        file.write(_short(str(axis).encode()) + struct.pack(">BQ", 0xCF, length))
    file.write(_short(b"chunks"))
    starts = range(0, values.size, each)
    _put_map(file, len(starts))
    for number, start in enumerate(starts):
        file.write(_short(str(number).encode()))
        _put_array(file, values[start : start + each])
