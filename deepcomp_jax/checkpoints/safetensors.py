"""Files in the format of safetensors, read and written a tensor at a time.

    file = u64 size of the header | header: JSON, padded with spaces | values

The format is specified in https://github.com/huggingface/safetensors, whose library is
what the tests compare with. It is not used here: it has no NumPy dtypes for float8, it
maps files into memory, where one that is cut short meanwhile ends the process, and it
writes what is all in memory.
"""

import contextlib
import functools
import json
import math
from collections.abc import Mapping
from os import PathLike, fspath
from typing import IO, Any, NamedTuple

import numpy as np

from deepcomp_jax.checkpoints import containers
from deepcomp_jax.checkpoints.leaves import (
    Checkpoint,
    CheckpointError,
    Leaf,
    bytes_of,
    dtype_of,
    native,
    values_at,
)
from deepcomp_jax.format import files, source
from deepcomp_jax.format.source import Source

MAX_HEADER = 100_000_000  # bytes, as in the library
_NAMES = {  # in the order in which the library sorts tensors, the last one first
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_DTYPES = {code: dtype_of(name) for code, name in _NAMES.items()}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_RANKS = {code: rank for rank, code in enumerate(_NAMES)}


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        leaves: By name, in the order of their values.
        metadata: Its strings.
    """

    leaves: dict[str, Leaf]
    metadata: dict[str, str]


def read(path: str | PathLike[str]) -> Checkpoint:
    """Opens a file; see `checkpoints.open`."""
    stack = contextlib.ExitStack()
    try:
        file = stack.enter_context(source.opened(path))
        leaves, metadata = content(file, path)
    except BaseException:
        stack.close()
        raise
    tree = dict(leaves)
    return Checkpoint(tree, leaves, metadata, "safetensors", file.size, stack.close)


def content(file: Source, path: str | PathLike[str]) -> Content:
    """Reads the header of a file.

    Args:
        file: The file.
        path: Its path, for errors.

    Raises:
        CheckpointError: The header is none, or lies about the file.
    """
    try:
        start, header = _header(file)
        metadata = header.pop("__metadata__", {})
        _require(_is_strings(metadata), "__metadata__ is no mapping of strings")
        entries = {name: _entry(name, entry) for name, entry in header.items()}
        ordered = sorted(entries.items(), key=lambda item: item[1][2:])
        end = 0
        leaves: dict[str, Leaf] = {}
        for name, (dtype, shape, first, last) in ordered:
            _require(first == end, f"{name!r} begins at byte {first}, not at {end}")
            end = last
            read_rows = functools.partial(values_at, file, start + first, dtype, shape)
            leaves[name] = Leaf(shape, dtype, read_rows)
        size = file.size - start
        _require(end == size, f"it describes {end} bytes of values, but has {size}")
    except ValueError as error:
        raise CheckpointError(
            f"{fspath(path)} is no safetensors file: {error}"
        ) from None
    return Content(leaves, metadata)


def _header(file: Source) -> tuple[int, dict[str, Any]]:
    """Where the values begin, and the header."""
    size = int.from_bytes(file.read(0, 8), "little")
    most = min(MAX_HEADER, file.size - 8)
    _require(2 <= size <= most, f"its header cannot have {size} bytes")
    raw = file.read(8, size)
    try:
        header = json.loads(raw.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise CheckpointError("its header nests too deep") from None
    except UnicodeDecodeError:
        raise CheckpointError("its header is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"its header is not JSON: {error}") from None
    _require(isinstance(header, dict), "its header is not a mapping")
    return 8 + size, header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _require(len(found) == len(pairs), "its header names something twice")
    return found


def _entry(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Dtype, shape, first byte and end of a tensor."""
    keys = {"dtype", "shape", "data_offsets"}
    whole = isinstance(entry, dict) and entry.keys() == keys
    _require(whole, f"{name!r} needs dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    known = isinstance(code, str) and code in _DTYPES
    _require(known, f"{name!r} has dtype {code!r}, which is none of NumPy's")
    _require(_is_counts(shape), f"{name!r} has shape {shape!r}")
    _require(
        _is_counts(offsets) and len(offsets) == 2,
        f"{name!r} has data_offsets {offsets!r}",
    )
    size = math.prod(tuple(shape)) * _DTYPES[code].itemsize
    taken = offsets[1] - offsets[0]
    _require(size == taken, f"{name!r} takes {size} bytes, but has {taken}")
    return _DTYPES[code], tuple(shape), offsets[0], offsets[1]


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise CheckpointError(problem)


def _is_strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 1 << 63 for item in value
    )


# ---- writing ------------------------------------------------------------------------


def write(path: str | PathLike[str], tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a file; see `checkpoints.write`."""
    leaves = containers.named_leaves(tree)
    check(leaves)
    with files.replacing(path) as file:
        put(file, leaves, metadata)


def check(leaves: Mapping[str, Any]) -> None:
    """Checks that a file can hold some leaves.

    Raises:
        CheckpointError: It cannot; says which leaf is why.
    """
    for name, leaf in leaves.items():
        if name == "__metadata__":
            raise CheckpointError("no tensor can be named '__metadata__': rename it")
        if native(leaf.dtype) not in _CODES:
            raise CheckpointError(
                f"leaf {name!r} is {leaf.dtype}, which safetensors do not have: "
                "convert it, or leave it out"
            )


def put(
    file: IO[bytes], leaves: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Writes the header, and then a leaf after the other.

    Values are in the order of the library: dtypes of more bytes first, so that all
    begin at multiples of their size, and names in order of their code points.
    """
    order = sorted(
        leaves, key=lambda name: (-_RANKS[_CODES[native(leaves[name].dtype)]], name)
    )
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        dtype, shape = native(leaves[name].dtype), leaves[name].shape
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    file.write(len(raw).to_bytes(8, "little") + raw)
    for name in order:
        file.write(bytes_of(leaves[name]).data)
