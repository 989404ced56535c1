"""Folders of Orbax, read and written a tensor at a time by TensorStore.

    _METADATA               JSON: the keys of each leaf, and how arrays are stored
    manifest.ocdbt, d       the arrays, in one key-value store
    _CHECKPOINT_METADATA    JSON: what made it, and the strings that came with it

Orbax itself reads and writes all leaves at once; TensorStore, on which it is built,
opens and reads one, or a part of one. The tests compare with Orbax. A checkpoint of
several items, such as the state and the data of a run, is a dictionary of them; of a
checkpoint with containers of Python, tuples are lists and objects are dictionaries, as
Orbax itself says.
"""

import functools
import json
import os
import time
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax.checkpoints import containers, folders
from deepcomp_jax.checkpoints.leaves import Checkpoint, Leaf, count, dtype_of

_EMPTY = {"None": None, "Dict": {}, "List": [], "Tuple": []}
_SEQUENCE, _DICT = 1, 2  # types of keys
_HANDLER = (
    "orbax.checkpoint._src.handlers.standard_checkpoint_handler."
    "StandardCheckpointHandler"
)
_OWN = {
    *("_METADATA", "_CHECKPOINT_METADATA", "_sharding", "_strings.json", "d"),
    *("manifest.ocdbt", "array_metadatas", "commit_success.txt", "orbax.checkpoint"),
}
_CHUNK = 1 << 26  # bytes of an array that are compressed at a time
_BATCH = 1 << 26  # bytes of arrays that are written at a time


def _tensorstore() -> Any:
    try:
        import tensorstore
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "Orbax checkpoints need TensorStore: pip install "
            '"deepcomp-jax[checkpoints]"'
        ) from None
    return tensorstore


# ---- reading ------------------------------------------------------------------------


class _Stored(NamedTuple):
    """A leaf of an item.

    Attributes:
        path: Its keys, each with whether it is an index.
        kind: What Orbax calls its type.
        spec: Where TensorStore finds it.
    """

    path: tuple[tuple[str, bool], ...]
    kind: str
    spec: dict[str, Any]


def read(path: str | PathLike[str]) -> Checkpoint:
    """Opens a folder; see `checkpoints.open`."""
    folder = Path(path).absolute()
    tree: Any = {}
    for key, item in _items(folder).items():
        own = _tree(item)
        tree = own if key is None else tree | {key: own}
    leaves = containers.named_leaves(tree)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Checkpoint(tree, leaves, _metadata(folder), "orbax", size, lambda: None)


def _items(folder: Path) -> dict[str | None, Path]:
    """The folders of trees: the folder itself, or those of items by name."""
    if (folder / "_METADATA").exists():
        return {None: folder}
    items = sorted(entry.parent for entry in folder.glob("*/_METADATA"))
    if len(items) == 1:
        return {None: items[0]}
    if items:
        return {item.name: item for item in items}
    raise ValueError(
        f"{folder} has no _METADATA, in itself or in its folders: name the folder of "
        "a step, or save the checkpoint anew if it is from an early version of Orbax"
    )


def _metadata(folder: Path) -> dict[str, str]:
    """What came with a checkpoint; what is no string as JSON."""
    file = folder / "_CHECKPOINT_METADATA"
    custom = _json(file).get("custom_metadata") if file.exists() else None
    return {
        str(key): value if isinstance(value, str) else json.dumps(value)
        for key, value in (custom or {}).items()
    }


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged: it is no JSON")
    return found


def _tree(folder: Path) -> Any:
    """The containers of an item."""
    try:
        stored = list(_stored(folder))
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder / '_METADATA'} is damaged") from None
    arrays = [own for own in stored if own.kind not in (*_EMPTY, "string")]
    opened = dict(zip((own.path for own in arrays), _opened(arrays), strict=True))
    texts = folder / "_strings.json"
    strings = _json(texts) if texts.exists() else {}
    root: dict[str, Any] = {}
    for own in stored:
        keys = [key for key, _ in own.path]
        if own.kind in _EMPTY:
            leaf = _EMPTY[own.kind]
        elif own.kind == "string":
            leaf = np.asarray(strings.get(".".join(keys), ""))
        else:
            leaf = opened[own.path]
        _place(root, own.path, leaf)
    return _listed(root.get("", {}))


def _stored(folder: Path) -> Iterator[_Stored]:
    described = _json(folder / "_METADATA")
    in_one = (folder / "manifest.ocdbt").exists()
    driver = "zarr3" if described.get("use_zarr3") else "zarr"
    for entry in described["tree_metadata"].values():
        path = tuple(
            (str(key["key"]), key["key_type"] == _SEQUENCE)
            for key in entry["key_metadata"]
        )
        name = ".".join(key for key, _ in path)
        store: dict[str, Any] = {"driver": "file", "path": f"{folder / name}/"}
        if in_one:
            store = {
                "driver": "ocdbt",
                "base": {"driver": "file", "path": f"{folder}/"},
                "path": f"{name}/",
            }
        spec = {"driver": driver, "kvstore": store}
        yield _Stored(path, str(entry["value_metadata"]["value_type"]), spec)


def _opened(arrays: list[_Stored]) -> list[Leaf]:
    """The leaves of arrays, opened side by side."""
    if not arrays:
        return []
    ts = _tensorstore()
    # Without a cache, what was read is not kept.
    context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
    opening = [
        ts.open(own.spec, open=True, read=True, context=context) for own in arrays
    ]
    leaves: list[Leaf] = []
    for own, future in zip(arrays, opening, strict=True):
        try:
            store = future.result()
        except ValueError as error:
            raise ValueError(_unreadable(own, error)) from None
        dtype = np.dtype(store.dtype.numpy_dtype)
        read_rows = functools.partial(_rows, own, store, dtype)
        leaves.append(Leaf(tuple(store.shape), dtype, read_rows))
    return leaves


def _rows(own: _Stored, store: Any, dtype: np.dtype, rows: slice | None) -> np.ndarray:
    try:
        chosen = store if rows is None else store[rows.start : rows.stop]
        return np.asarray(chosen.read().result(), dtype)
    except ValueError as error:
        raise ValueError(_unreadable(own, error)) from None


def _unreadable(own: _Stored, error: ValueError) -> str:
    name = "/".join(key for key, _ in own.path)
    return f"leaf {name!r} cannot be read: {str(error).partition(' [')[0]}"


_Branch = dict[tuple[str, bool], Any]


def _place(root: dict[str, Any], path: tuple[tuple[str, bool], ...], leaf: Any) -> None:
    """Puts a leaf where its keys lead to, in dictionaries of keys and their types."""
    node, at = root, ""
    for key in path:
        node, at = node.setdefault(at, {}), key  # type: ignore[assignment]
    node[at] = leaf if not isinstance(leaf, dict | list) else _Empty(leaf)


class _Empty(NamedTuple):
    """A container without anything in it."""

    container: Any


def _listed(node: Any) -> Any:
    """Dictionaries of keys and their types as dictionaries and lists."""
    if isinstance(node, _Empty):
        return type(node.container)()
    if not isinstance(node, dict):
        return node
    children = {key: _listed(child) for (key, _), child in node.items()}
    if node and all(is_index for _, is_index in node):
        whole = sorted(children, key=int) == [str(i) for i in range(len(children))]
        return [children[key] for key in sorted(children, key=int)] if whole else {}
    return children


# ---- writing ------------------------------------------------------------------------


def write(path: str | PathLike[str], tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a folder; see `checkpoints.write`."""
    ts = _tensorstore()
    began = time.time_ns()
    ends = list(_ends(tree))
    leaves: dict[str, Any] = {}
    for keys, leaf in ends:
        name = ".".join(str(key) for key, _ in keys)
        if _type_of(leaf) in _EMPTY:
            continue
        if name in leaves:
            raise ValueError(f"Orbax would give two leaves the name {name!r}: rename")
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
        kind = _DICT if type(node) is dict else _SEQUENCE
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
        "value_metadata": {"value_type": kind, "skip_deserialize": kind in _EMPTY},
    }


def _check(name: str, leaf: Any) -> None:
    dtype = np.dtype(leaf.dtype)
    if not name:
        raise ValueError("Orbax checkpoints hold trees, not one array: name it")
    if dtype.kind not in "biufcV" or dtype.itemsize > 16 or dtype.kind + str(
        dtype.itemsize
    ) in ("f16", "c32"):
        raise ValueError(f"leaf {name!r} is {dtype}, which Orbax does not have")


def _put(ts: Any, folder: Path, leaves: Mapping[str, Any]) -> None:
    """Writes arrays: small ones many at a time, large ones one by one."""
    context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
    batch, size = ts.Transaction(), 0
    for name, leaf in leaves.items():
        values = np.asarray(leaf)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        large = values.nbytes > _BATCH
        store = ts.open(
            _spec(folder, name, values),
            create=True,
            context=context,
            transaction=None if large else batch,
        ).result()
        store.write(values).result()
        size += 0 if large else values.nbytes
        if size > _BATCH:
            batch.commit_async().result()
            batch, size = ts.Transaction(), 0
    batch.commit_async().result()


def _spec(folder: Path, name: str, values: np.ndarray) -> dict[str, Any]:
    dtype = values.dtype
    own = dtype.name if dtype.isbuiltin != 1 else dtype.newbyteorder("<").str
    rows = max(1, _CHUNK // max(count(values.shape[1:]) * dtype.itemsize, 1))
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
