"""Flax's msgpack, by Flax itself, which holds the whole network in memory."""

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deepcomp_jax.checkpoints.common import Checkpoint, CheckpointError, Leaf, needed
from deepcomp_jax.format import files


def open(path: Path, stack: contextlib.ExitStack) -> Checkpoint:
    """Reads a file, in the memory of the network and the file."""
    raw = path.read_bytes()
    try:
        tree = _flax().msgpack_restore(raw)
    except CheckpointError:
        raise
    except Exception as error:  # of whatever kind msgpack finds
        raise CheckpointError(f"{path} is no msgpack of Flax: {error}") from None
    lazy = jax.tree.map(_leaf, tree)
    return Checkpoint("msgpack", lazy, {}, len(raw), stack)


def _leaf(value: Any) -> Leaf:
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.kind in "USV" and array.dtype.names:
        raise CheckpointError(f"a leaf of {array.dtype} is no number")
    return Leaf(array.shape, array.dtype, partial(np.asarray, array))


def write(path: Path, tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a file, in twice the memory of the network; it has no metadata."""
    del metadata
    whole = jax.tree.map(np.asarray, tree, is_leaf=lambda x: hasattr(x, "__array__"))
    files.write(path, _flax().msgpack_serialize(_plain(whole)))


def _plain(node: Any) -> Any:
    """Lists and tuples as dictionaries of numbers, as Flax keeps them."""
    if isinstance(node, dict):
        return {str(key): _plain(child) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return {str(i): _plain(child) for i, child in enumerate(node)}
    return node


def _flax() -> Any:
    try:
        from flax import serialization
    except ImportError:
        raise needed("flax", "checkpoints") from None
    return serialization
