"""Reading files of `flax.serialization`; `flax_msgpack` tells what they hold."""

import contextlib
import functools
import math
import struct
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax.checkpoints import containers
from deepcomp_jax.checkpoints.leaves import (
    Checkpoint,
    CheckpointError,
    Leaf,
    dtype_of,
    rows_of,
    values_at,
)
from deepcomp_jax.format import source
from deepcomp_jax.format.source import Source

MAX_DEPTH = 64  # containers within each other
CHUNKED = "__msgpack_chunked_array__"
ARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # extensions of Flax
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
        raise CheckpointError(f"{fspath(path)} is no Flax file: {error}") from None
    except BaseException:
        stack.close()
        raise
    return Checkpoint(tree, leaves, {}, "msgpack", file.size, stack.close)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise CheckpointError(problem)


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
    return pos, _joined(found) if CHUNKED in found else found


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
        raise CheckpointError("a string is not UTF-8") from None


def _extension(file: Source, pos: int, size: int) -> tuple[int, Any]:
    """The position after an extension, and its leaf."""
    code, start, end = file.read(pos, 1)[:1], pos + 1, pos + 1 + size
    _require(end <= file.size and code != b"", "it ends too early")
    if code[0] == _COMPLEX:
        _, parts = _node(file, start, MAX_DEPTH)
        pair = parts if isinstance(parts, list) else []
        numbers = [number for number in pair if isinstance(number, np.ndarray)]
        real = len(numbers) == 2 and all(p.dtype.kind in "biuf" for p in numbers)
        _require(real, "a complex number has not two parts")
        return end, np.asarray(complex(*map(float, numbers)))
    _require(code[0] in (ARRAY, _SCALAR), f"extension {code[0]} is none of Flax")
    kind, parts, pos = _token(file, start)
    _require((kind, parts) == (_LIST, 3), "an array has not three parts")
    pos, lengths = _node(file, pos, MAX_DEPTH)
    shape = _shape(lengths if isinstance(lengths, list) else [None])
    pos, name = _key(file, pos)
    try:
        dtype = dtype_of(str(name))
    except TypeError:
        raise CheckpointError(f"there is no dtype {name!r}") from None
    kind, taken, pos = _token(file, pos)
    whole = kind in (_BYTES, _TEXT) and math.prod(shape) * dtype.itemsize == taken
    fits = whole and pos + taken == end
    _require(fits and not dtype.hasobject, "an array has not the size of its shape")
    return end, Leaf(
        shape, dtype, functools.partial(values_at, file, pos, dtype, shape)
    )


def _shape(lengths: Sequence[Any]) -> tuple[int, ...]:
    """A shape from numbers that were read."""
    numbers = [n for n in lengths if isinstance(n, np.ndarray) and n.dtype.kind in "iu"]
    known = len(numbers) == len(lengths) and all(number >= 0 for number in numbers)
    _require(known, "the shape of an array is no list of lengths")
    return tuple(map(int, numbers))


def _joined(found: Mapping[str | int, Any]) -> Leaf:
    """The leaf of an array that is stored in chunks."""
    shape, chunks = found.get("shape"), found.get("chunks")
    if not (isinstance(shape, dict) and isinstance(chunks, dict) and chunks):
        raise CheckpointError("an array in chunks has no shape or no chunks")
    lengths = _shape([shape.get(str(axis)) for axis in range(len(shape))])
    pieces = [chunks.get(str(i)) for i in range(len(chunks))]
    flat = [p for p in pieces if isinstance(p, Leaf) and p.ndim == 1]
    _require(len(flat) == len(pieces), "an array in chunks lacks some")
    same = len({piece.dtype for piece in flat}) == 1
    size = sum(piece.size for piece in flat)
    _require(same and size == math.prod(lengths), "chunks are not those of their array")
    dtype = flat[0].dtype
    read_rows = functools.partial(_of_chunks, flat, dtype, lengths)
    largest = max(piece.nbytes for piece in flat)

    def memory(rows: slice | None) -> int:
        """Of the values, and of the chunk that they are copied from."""
        size = rows_of(lengths, dtype.itemsize, rows)[1]
        return size + min(size, largest)

    return Leaf(lengths, dtype, read_rows, memory)


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
