"""Reading folders of Orbax; what they hold is told in `orbax`."""

import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from deepcomp_jax.checkpoints import containers
from deepcomp_jax.checkpoints.leaves import (
    Checkpoint,
    CheckpointError,
    Leaf,
)

T = TypeVar("T")

EMPTY = {"None": None, "Dict": {}, "List": [], "Tuple": []}
SEQUENCE, DICT = 1, 2  # types of keys
_CHUNK = 256  # bytes that TensorStore takes to read a chunk, besides what is in it
_PLACE = 16  # bytes that say where a chunk is in a file of several
_CACHE = 1 << 25  # bytes of what was read that are kept: where arrays are, above all


def tensorstore() -> Any:
    try:
        import tensorstore as found
    except ModuleNotFoundError:
        raise CheckpointError(
            "Orbax checkpoints need TensorStore: pip install "
            '"deepcomp-jax[checkpoints]"'
        ) from None
    return found


def apart(work: Callable[[], T]) -> T:
    """Does something with TensorStore where no signal interrupts it.

    TensorStore goes on in threads of its own. Whoever is interrupted (in the main
    thread, as always in Python) must not go away before these have come to rest: they
    would write into a folder that is being removed, or crash a process that ends.
    """
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(work).result()


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
    raise CheckpointError(
        f"{folder} has no _METADATA, in itself or in its folders: name the folder of "
        "a step, or save the checkpoint anew if it is from an early version of Orbax"
    )


def _metadata(folder: Path) -> dict[str, str]:
    """What came with a checkpoint; what is no string as JSON."""
    file = folder / "_CHECKPOINT_METADATA"
    custom = _json(file).get("custom_metadata") if file.exists() else None
    if not isinstance(custom, dict):
        return {}
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in custom.items()
    }


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} is damaged: it is no JSON")
    return found


def _tree(folder: Path) -> Any:
    """The containers of an item."""
    try:
        return _described_tree(folder, list(_stored(folder)))
    except (KeyError, TypeError, AttributeError):  # of JSON that has another form
        raise CheckpointError(f"{folder / '_METADATA'} is damaged") from None


def _described_tree(folder: Path, stored: list[_Stored]) -> Any:
    arrays = [own for own in stored if own.kind not in (*EMPTY, "string")]
    opened = dict(zip((own.path for own in arrays), _opened(arrays), strict=True))
    texts = folder / "_strings.json"
    strings = _json(texts) if texts.exists() else {}
    root: dict[Any, Any] = {}
    for own in stored:
        if own.kind in EMPTY:
            leaf = EMPTY[own.kind]
        elif own.kind == "string":
            leaf = np.asarray(str(strings[".".join(key for key, _ in own.path)]))
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
            (str(key["key"]), key["key_type"] == SEQUENCE)
            for key in entry["key_metadata"]
        )
        name = ".".join(key for key, _ in path)
        place = (folder / name).resolve()
        store: dict[str, Any] = {"driver": "file", "path": f"{place}/"}
        if not in_one and not place.is_relative_to(folder.resolve()):
            raise CheckpointError(f"{folder / '_METADATA'} leads out of its folder")
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
    ts = tensorstore()
    context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE}})

    def stores() -> list[Any]:
        opening = [ts.open(own.spec, read=True, context=context) for own in arrays]
        return [future.exception() or future.result() for future in opening]

    leaves: list[Leaf] = []
    for own, store in zip(arrays, apart(stores), strict=True):
        if isinstance(store, Exception):
            raise CheckpointError(_unreadable(own, store))
        dtype = np.dtype(store.dtype.numpy_dtype)
        read_rows = functools.partial(_rows, own, store, dtype)
        memory = functools.partial(_memory, store, dtype)
        leaves.append(Leaf(tuple(store.shape), dtype, read_rows, memory))
    return leaves


def _memory(store: Any, dtype: np.dtype, rows: slice | None) -> int:
    """Bytes of the values, and of the chunks in which they are, all decoded at once."""
    lengths = list(store.shape)
    starts = [0] * len(lengths)
    if rows is not None:
        starts[0], lengths[0] = rows.start, rows.stop - rows.start

    def covering(chunk: Sequence[int]) -> int:
        """How many chunks the values are in."""
        spans = zip(starts, lengths, chunk, strict=True)
        return math.prod(
            -(-(start + n) // own) - start // own for start, n, own in spans
        )

    values = math.prod(lengths)
    if not values:
        return 0
    chunk = store.chunk_layout.read_chunk.shape or lengths
    file = store.chunk_layout.write_chunk.shape or chunk
    decoded = covering(chunk) * (math.prod(chunk) * dtype.itemsize + _CHUNK)
    places = covering(file) * (math.prod(file) // math.prod(chunk)) * _PLACE
    return values * dtype.itemsize + decoded + places


def _rows(own: _Stored, store: Any, dtype: np.dtype, rows: slice | None) -> np.ndarray:
    try:
        chosen = store if rows is None else store[rows.start : rows.stop]
        return np.asarray(apart(lambda: chosen.read().result()), dtype)
    except ValueError as error:
        raise CheckpointError(_unreadable(own, error)) from None


def _unreadable(own: _Stored, error: Exception) -> str:
    name = "/".join(key for key, _ in own.path)
    return f"leaf {name!r} cannot be read: {str(error).partition(' [')[0]}"


def _place(root: dict[Any, Any], path: tuple[tuple[str, bool], ...], leaf: Any) -> None:
    """Puts a leaf where its keys lead to, in dictionaries of keys and their types."""
    node, at = root, ""
    for key in path:
        node, at = node.setdefault(at, {}), key
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
