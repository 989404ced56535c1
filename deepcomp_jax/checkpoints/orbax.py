"""Orbax's directories, by Orbax itself."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deepcomp_jax.checkpoints.common import (
    Checkpoint,
    CheckpointError,
    Leaf,
    directory_bytes,
    needed,
    replacing_directory,
)

_MARKS = "_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"


def is_orbax(path: Path) -> bool:
    """Whether a directory looks like one of Orbax's."""
    return any((path / mark).exists() for mark in _MARKS)


def open(path: Path, stack: contextlib.ExitStack) -> Checkpoint:
    """Opens a directory; its arrays are read one at a time."""
    orbax = _orbax()
    # What a manager saves has items in directories of their own.
    place = path.absolute()
    if not (place / "_METADATA").exists() and (place / "default").is_dir():
        place /= "default"
    checkpointer = stack.enter_context(orbax.PyTreeCheckpointer())
    try:
        described = checkpointer.metadata(place).item_metadata
        tree = getattr(described, "tree", described)
        if not jax.tree.leaves(tree):
            raise ValueError("there are no arrays in it")
    except Exception as error:  # of whatever kind Orbax and its libraries find
        raise CheckpointError(f"{path} is no checkpoint of Orbax: {error}") from None

    def leaf(keys: Sequence[Any], own: Any) -> Leaf:
        shape = getattr(own, "shape", None)
        if shape is None or own.dtype is None:
            name = jax.tree_util.keystr(tuple(keys))
            raise CheckpointError(f"{path}: leaf {name} is no array: skip it")
        read = partial(_read, checkpointer, place, tree, tuple(keys))
        return Leaf(tuple(shape), np.dtype(own.dtype), read)

    lazy = jax.tree_util.tree_map_with_path(leaf, tree)
    return Checkpoint("orbax", lazy, {}, directory_bytes(path), stack)


def _read(checkpointer: Any, place: Path, tree: Any, keys: Sequence[Any]) -> np.ndarray:
    orbax = _orbax()
    item = _alone(tree, keys, orbax.PLACEHOLDER)
    each = jax.tree.map(lambda _: orbax.RestoreArgs(restore_type=np.ndarray), item)
    wanted = orbax.args.PyTreeRestore(
        item=item, restore_args=each, partial_restore=True
    )
    found = checkpointer.restore(place, args=wanted)
    for key in keys:
        found = found[_plain(key)]
    return np.asarray(found)


def _alone(node: Any, keys: Sequence[Any], placeholder: Any) -> Any:
    """The containers on the way to one leaf; what is beside it is not restored."""
    if not keys:
        return 0
    key = _plain(keys[0])
    inner = _alone(node[key], keys[1:], placeholder)
    if isinstance(node, dict):
        return {key: inner}
    others = [jax.tree.map(lambda _: placeholder, child) for child in node]
    return type(node)(inner if i == key else own for i, own in enumerate(others))


def _plain(key: Any) -> Any:
    return key.key if hasattr(key, "key") else key.idx


def write(path: Path, tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a directory, in the memory of the network; it has no metadata."""
    del metadata
    orbax = _orbax()
    whole = jax.tree.map(np.asarray, tree, is_leaf=lambda x: hasattr(x, "__array__"))
    with (
        replacing_directory(path) as folder,
        orbax.PyTreeCheckpointer() as checkpointer,
    ):
        checkpointer.save(folder, whole)


def _orbax() -> Any:
    try:
        import orbax.checkpoint
    except ImportError:
        raise needed("orbax-checkpoint", "checkpoints") from None
    return orbax.checkpoint
