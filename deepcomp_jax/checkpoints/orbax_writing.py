"""Writing folders of Orbax; what they hold is told in `orbax`."""

import functools
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from deepcomp_jax.checkpoints import folders
from deepcomp_jax.checkpoints.leaves import (
    CheckpointError,
    is_narrow,
    is_plain,
    native,
)
from deepcomp_jax.checkpoints.orbax_reading import (
    DICT,
    EMPTY,
    SEQUENCE,
    apart,
    tensorstore,
)

_HANDLER = (
    "orbax.checkpoint._src.handlers.standard_checkpoint_handler."
    "StandardCheckpointHandler"
)
_OWN = {
    *("_METADATA", "_CHECKPOINT_METADATA", "_sharding", "_strings.json", "d"),
    *("manifest.ocdbt", "array_metadatas", "commit_success.txt", "orbax.checkpoint"),
}
_SYSTEM_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")  # in those of TensorStore
_CHUNK = 1 << 26  # bytes of an array that are compressed at a time
_BATCH = 1 << 26  # bytes of arrays that are written at a time


def write(path: str | PathLike[str], tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a folder; see `checkpoints.write`."""
    ts = tensorstore()
    began = time.time_ns()
    ends = list(_ends(tree))
    leaves: dict[str, Any] = {}
    for keys, leaf in ends:
        name = ".".join(str(key) for key, _ in keys)
        if _type_of(leaf) in EMPTY:
            continue
        if name in leaves:
            raise CheckpointError(
                f"Orbax would give two leaves the name {name!r}: rename"
            )
        if not keys:
            raise CheckpointError("Orbax has trees and not one array: give it a name")
        _check(name, leaf)
        leaves[name] = leaf
    described = {
        "tree_metadata": dict(_described(keys, leaf) for keys, leaf in ends),
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    with folders.replacing(path, is_own) as folder:
        _put(ts, folder, leaves)
        _put_json(folder / "_METADATA", described)
        about = {"item_handlers": _HANDLER, "metrics": {}, "performance_metrics": {}}
        about |= {"init_timestamp_nsecs": began, "custom_metadata": dict(metadata)}
        about["commit_timestamp_nsecs"] = time.time_ns()
        _put_json(folder / "_CHECKPOINT_METADATA", about)


def is_own(entry: Path) -> bool:
    """Whether a file or folder is of such a checkpoint."""
    of_process = entry.name.startswith("ocdbt.process_")
    return entry.name in _OWN or of_process or (entry / "_METADATA").exists()


def _put_json(file: Path, content: dict[str, Any]) -> None:
    with file.open("w", encoding="utf-8") as out:
        json.dump(content, out)
        out.flush()
        os.fsync(out.fileno())


def _ends(node: Any, keys: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Leaves, None and empty containers, each with the keys that lead to it."""
    if type(node) in (dict, list, tuple) and node:
        kind = DICT if type(node) is dict else SEQUENCE
        items = node.items() if type(node) is dict else enumerate(node)
        for key, child in items:
            yield from _ends(child, (*keys, (key, kind)))
    else:
        yield keys, node


def _type_of(leaf: Any) -> str:
    """What Orbax calls the type of a leaf, or of what has none in it."""
    known = {dict: "Dict", list: "List", tuple: "List", type(None): "None"}
    return known.get(type(leaf), "np.ndarray")


def _described(keys: tuple, leaf: Any) -> tuple[str, dict[str, Any]]:
    kind = _type_of(leaf)
    return repr(tuple(str(key) for key, _ in keys)), {
        "key_metadata": [{"key": str(key), "key_type": type_} for key, type_ in keys],
        "value_metadata": {"value_type": kind, "skip_deserialize": kind in EMPTY},
    }


def _check(name: str, leaf: Any) -> None:
    dtype = np.dtype(leaf.dtype)
    if not is_plain(dtype) and not is_narrow(dtype):
        raise CheckpointError(f"leaf {name!r} is {dtype}, which Orbax does not have")


def _put(ts: Any, folder: Path, leaves: Mapping[str, Any]) -> None:
    """Writes arrays: small ones many at a time, large ones one by one."""
    context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
    batch, size = ts.Transaction(), 0

    def put(name: str, values: np.ndarray, within: Any) -> None:
        spec = _spec(folder, name, values)
        store = ts.open(spec, create=True, context=context, transaction=within)
        store.result().write(values).result()

    def commit(own: Any) -> None:
        own.commit_async().result()

    try:
        for name, leaf in leaves.items():
            values = np.asarray(leaf)
            values = values.astype(native(values.dtype), copy=False)
            large = values.nbytes > _BATCH
            apart(functools.partial(put, name, values, None if large else batch))
            size += 0 if large else values.nbytes
            if size > _BATCH:
                apart(functools.partial(commit, batch))
                batch, size = ts.Transaction(), 0
        apart(functools.partial(commit, batch))
    except BaseException as error:
        batch.abort()
        if code := _SYSTEM_ERROR.search(str(error)):  # such as of a disk that is full
            number = int(code[1])
            raise OSError(number, os.strerror(number)) from None
        raise


def _spec(folder: Path, name: str, values: np.ndarray) -> dict[str, Any]:
    dtype = values.dtype
    own = dtype.name if is_narrow(dtype) else dtype.newbyteorder("<").str
    rows = max(1, _CHUNK // max(math.prod(values.shape[1:]) * dtype.itemsize, 1))
    chunk = [max(1, length) for length in values.shape]
    chunk[:1] = [min(chunk[0], rows)] if chunk else []
    return {
        "driver": "zarr",
        "kvstore": {
            "driver": "ocdbt",
            "base": {"driver": "file", "path": f"{folder}/"},
            "path": f"{name}/",
        },
        "metadata": {
            "shape": list(values.shape),
            "chunks": chunk,
            "dtype": own,
            "fill_value": None,
            "compressor": {"id": "zstd", "level": 1},
        },
        "store_data_equal_to_fill_value": True,
        "recheck_cached_data": False,
    }
