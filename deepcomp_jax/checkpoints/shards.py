"""Folders of several safetensors files with an index, as those of Transformers.

model.safetensors.index.json     {"weight_map": {name: file}, "metadata": {...}}
model-00001-of-00003.safetensors ...
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from deepcomp_jax.checkpoints import containers, folders, safetensors
from deepcomp_jax.checkpoints.leaves import Checkpoint, CheckpointError, Leaf
from deepcomp_jax.format import source

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # as in Transformers


def read(path: str | PathLike[str]) -> Checkpoint:
    """Opens a folder, given itself or its index; see `checkpoints.open`."""
    given = Path(path)
    index = (index_of(given) or given) if given.is_dir() else given
    placed = _weight_map(index)
    leaves: dict[str, Leaf] = {}
    metadata: dict[str, str] = {}
    size = index.stat().st_size
    stack = contextlib.ExitStack()
    try:
        for shard in sorted(set(placed.values())):
            file = stack.enter_context(source.opened(index.with_name(shard)))
            content = safetensors.content(file, index.with_name(shard))
            if twice := leaves.keys() & content.leaves.keys():
                raise CheckpointError(f"{index}: two files hold {min(twice)!r}")
            leaves |= content.leaves
            metadata |= content.metadata
            size += file.size
        if missing := placed.keys() - leaves.keys():
            raise CheckpointError(f"{index}: no file holds {min(missing)!r}")
    except BaseException:
        stack.close()
        raise
    tree = dict(leaves)
    return Checkpoint(tree, leaves, metadata, "safetensors-sharded", size, stack.close)


def index_of(folder: Path) -> Path | None:
    """The index in a folder: that of Transformers, or the only one of another name."""
    if (folder / INDEX).exists():
        return folder / INDEX
    found = list(folder.glob("*.safetensors.index.json"))
    return found[0] if len(found) == 1 else None


def _weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor."""
    try:
        placed = json.loads(index.read_bytes())["weight_map"]
        names = set(placed.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(f"{index} is no index of safetensors files") from None
    strange = [n for n in names if not isinstance(n, str) or Path(n).name != n]
    if strange:
        raise CheckpointError(
            f"{index} names {strange[0]!r}, which is no file beside it"
        )
    return placed


def write(
    path: str | PathLike[str],
    tree: Any,
    metadata: Mapping[str, str],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a folder; see `checkpoints.write`.

    Args:
        path, tree, metadata: As for `checkpoints.write`.
        shard_bytes: The most that the values in a file take, but for a larger leaf,
            which is in a file of its own.
    """
    leaves = containers.named_leaves(tree)
    safetensors.check(leaves)
    divided = _divided(leaves, shard_bytes)
    total = 0
    placed: dict[str, str] = {}
    with folders.replacing(path, is_own) as folder:
        for number, own in enumerate(divided, 1):
            name = f"model-{number:05}-of-{len(divided):05}.safetensors"
            with (folder / name).open("wb") as file:
                safetensors.put(file, own, metadata)
                file.flush()
                os.fsync(file.fileno())
            placed |= dict.fromkeys(own, name)
            total += sum(map(_nbytes, own.values()))
        index = {"metadata": {"total_size": total}, "weight_map": placed}
        text = json.dumps(index, indent=2, ensure_ascii=False)
        (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def is_own(entry: Path) -> bool:
    """Whether a file in a folder is of such a checkpoint."""
    return entry.name.endswith((".safetensors", ".safetensors.index.json"))


def _nbytes(leaf: Any) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _divided(leaves: Mapping[str, Any], shard_bytes: int) -> list[dict[str, Any]]:
    """The leaves of each file, in order, at least one file."""
    divided: list[dict[str, Any]] = [{}]
    size = 0
    for name, leaf in leaves.items():
        if divided[-1] and size + _nbytes(leaf) > shard_bytes:
            divided.append({})
            size = 0
        divided[-1][name] = leaf
        size += _nbytes(leaf)
    return divided
