"""Safetensors, in one file or in several with an index.

    file = u64 size of the header | header, JSON | bytes of the tensors

Read and written here, and compared with the library of that name in the tests: that
maps whole files into memory, holds all tensors to write them, and knows no float8 in
NumPy.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax.checkpoints.common import (
    Checkpoint,
    CheckpointError,
    Leaf,
    check_dtype,
    replacing_directory,
)
from deepcomp_jax.format import files, source
from deepcomp_jax.format.source import Source

INDEX = "model.safetensors.index.json"
MAX_HEADER = 100_000_000  # bytes, as the library allows
MAX_SHARD = 5_000_000_000  # bytes of tensors in one of several files

_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
    "F16": "float16", "BF16": ml_dtypes.bfloat16, "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}  # fmt: skip
DTYPES = {name: np.dtype(dtype) for name, dtype in _NAMES.items()}
_CODES = {dtype: name for name, dtype in DTYPES.items()}

# ---- reading ------------------------------------------------------------------------


class _Tensor(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # in the file
    end: int


def open(path: Path, stack: contextlib.ExitStack) -> Checkpoint:
    """Opens a file; its tensors are read one at a time."""
    file = stack.enter_context(source.opened(path))
    tensors, metadata = _get_header(file, str(path))
    tree = {name: _leaf(file, own, str(path)) for name, own in tensors.items()}
    return Checkpoint("safetensors", tree, metadata, file.size, stack)


def open_sharded(path: Path, stack: contextlib.ExitStack) -> Checkpoint:
    """Opens the files of an index, or of the index in a directory."""
    index = path / INDEX if path.is_dir() else path
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index} is no index of safetensors files") from None
    tree: dict[str, Any] = {}
    metadata: Mapping[str, str] = {}
    for name in names:
        # An index is no way out of its directory.
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index} names the file {name!r} outside of its own")
        shard = open(index.parent / name, stack)
        metadata = metadata or shard.metadata
        own = {key for key, file in weight_map.items() if file == name}
        if missing := sorted(own - shard.tree.keys()):
            raise CheckpointError(f"{index} says that {missing[0]!r} is in {name}: no")
        tree |= {key: leaf for key, leaf in shard.tree.items() if key in own}
    size = sum((index.parent / name).stat().st_size for name in names)
    return Checkpoint(
        "sharded safetensors", tree, metadata, size + index.stat().st_size, stack
    )


def _leaf(file: Source, tensor: _Tensor, where: str) -> Leaf:
    return Leaf(tensor.shape, tensor.dtype, partial(_read, file, tensor, where))


def _read(file: Source, tensor: _Tensor, where: str) -> np.ndarray:
    raw = file.read(tensor.start, tensor.end - tensor.start)
    if len(raw) != tensor.end - tensor.start:
        raise CheckpointError(f"{where} has become shorter since it was opened")
    little = np.frombuffer(raw, tensor.dtype.newbyteorder("<"))
    return little.astype(tensor.dtype, copy=False).reshape(tensor.shape)


def _get_header(file: Source, where: str) -> tuple[dict[str, _Tensor], dict[str, str]]:
    """The tensors of a file in the order of their bytes, and its metadata.

    Raises:
        CheckpointError: The header is not what it has to be, whatever it says.
    """
    size = int.from_bytes(file.read(0, 8), "little")
    if file.size < 8 or size > min(MAX_HEADER, file.size - 8):
        raise CheckpointError(f"{where} is no safetensors file: its header is cut off")
    try:
        header = json.loads(file.read(8, size), object_pairs_hook=_pairs)
        metadata = header.pop("__metadata__", {})
        tensors = {name: _tensor(own, 8 + size) for name, own in header.items()}
        text = all(isinstance(x, str) for pair in metadata.items() for x in pair)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{where} has a header that is not of safetensors: {error}"
        ) from None
    if not text:
        raise CheckpointError(f"{where} has metadata that are no strings")
    at = 8 + size
    for name, own in sorted(tensors.items(), key=lambda item: item[1].start):
        if own.start != at or own.end - own.start != _nbytes(own):
            raise CheckpointError(
                f"{where}: the bytes of tensor {name!r} are not where its neighbors "
                "end, or not as many as its shape takes"
            )
        at = own.end
    if at != file.size:
        raise CheckpointError(
            f"{where}: the tensors end at byte {at}, the file at {file.size}"
        )
    return tensors, dict(metadata)


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _tensor(described: Any, start: int) -> _Tensor:
    if described["dtype"] not in DTYPES:
        raise ValueError(f"dtype {described['dtype']!r} is not known here")
    shape, offsets = tuple(described["shape"]), described["data_offsets"]
    numbers = (*shape, *offsets)
    if any(type(x) is not int or x < 0 for x in numbers) or len(offsets) != 2:
        raise ValueError(f"shape {shape} or offsets {offsets}")
    first, end = offsets
    return _Tensor(DTYPES[described["dtype"]], shape, start + first, start + end)


def _nbytes(tensor: _Tensor) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


# ---- writing ------------------------------------------------------------------------


def write(path: Path, tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a file, in the memory of the largest tensor."""
    named = _checked(tree)
    with files.replacing(path) as out:
        _put(out, named, metadata)


def write_sharded(
    path: Path, tree: Any, metadata: Mapping[str, str], *, most: int = MAX_SHARD
) -> None:
    """Writes a directory of files, each of `most` bytes if no tensor has more."""
    named = _checked(tree)
    shards = list(_shards(named, most))
    with replacing_directory(path) as folder:
        folder.mkdir()
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            name = f"model-{number:05}-of-{len(shards):05}.safetensors"
            with files.replacing(folder / name) as out:
                _put(out, shard, metadata)
            weight_map |= dict.fromkeys(shard, name)
        total = sum(leaf.size * leaf.dtype.itemsize for leaf in named.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        files.write(folder / INDEX, (json.dumps(index, indent=2) + "\n").encode())


def _checked(tree: Any) -> dict[str, Any]:
    named = trees.named_leaves(tree)
    for name, leaf in named.items():
        check_dtype(name, np.dtype(leaf.dtype), _CODES, "safetensors")
    if "__metadata__" in named:
        raise CheckpointError("safetensors keeps the name '__metadata__' to itself")
    return named


def _shards(named: Mapping[str, Any], most: int) -> Iterator[dict[str, Any]]:
    shard: dict[str, Any] = {}
    size = 0
    for name, leaf in named.items():
        own = leaf.size * leaf.dtype.itemsize
        if shard and size + own > most:
            yield shard
            shard, size = {}, 0
        shard[name] = leaf
        size += own
    yield shard


def _put(out: IO[bytes], named: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, leaf in named.items():
        dtype = np.dtype(leaf.dtype)
        end = at + leaf.size * dtype.itemsize
        code, shape = _CODES[dtype], list(leaf.shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # so that tensors are aligned, as the library does
    out.write(len(raw).to_bytes(8, "little") + raw)
    for leaf in named.values():
        values = np.asarray(leaf)
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        out.write(memoryview(np.ascontiguousarray(little).reshape(-1).view(np.uint8)))
