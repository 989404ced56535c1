"""Checkpoints in the formats of others: safetensors, orbax, npz, msgpack, and dcz.

    open     a checkpoint whose leaves are read when they are asked for
    write    a pytree into a checkpoint, leaf after leaf where the format allows it

A checkpoint is a tree of leaves that have `shape`, `dtype` and `__array__`, which is
what `dc.write` takes: so no checkpoint need fit into memory.
"""

import contextlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from deepcomp_jax._errors import listed
from deepcomp_jax.checkpoints import dcz, msgpack, npz, orbax, safetensors
from deepcomp_jax.checkpoints.common import Checkpoint as Checkpoint
from deepcomp_jax.checkpoints.common import CheckpointError as CheckpointError
from deepcomp_jax.checkpoints.common import Format
from deepcomp_jax.checkpoints.common import Leaf as Leaf

FORMATS = {
    "dcz": Format(".dcz", dcz.open, dcz.write),
    "safetensors": Format(".safetensors", safetensors.open, safetensors.write),
    "sharded safetensors": Format(
        "", safetensors.open_sharded, safetensors.write_sharded
    ),
    "npz": Format(".npz", npz.open, npz.write),
    "msgpack": Format(".msgpack", msgpack.open, msgpack.write),
    "orbax": Format("", orbax.open, orbax.write),
}
_FOREIGN = {
    **dict.fromkeys(
        (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"),
        "may hold a pickle, which runs code when it is read: load it where you trust "
        "it, and save its tensors as safetensors",
    ),
    **dict.fromkeys(
        (".gguf", ".h5", ".hdf5", ".keras", ".onnx", ".tflite", ".msgpack.gz"),
        "is of a format that is not read here: save its tensors as safetensors or .npz",
    ),
}


def open(path: str | PathLike[str]) -> Checkpoint:
    """Opens a checkpoint; of its arrays nothing is read yet, but for msgpack's.

    Args:
        path: Of a `.dcz`, `.safetensors`, `.npz` or `.msgpack` file, of an index
            `.safetensors.index.json`, or of a directory with safetensors and such an
            index or of Orbax.

    Returns:
        The checkpoint, a context manager that closes its files.

    Raises:
        CheckpointError: It is of no format that can be read, or is damaged.
        OSError: There is no such file.

    Examples:
        >>> import os, tempfile, numpy as np
        >>> from deepcomp_jax import checkpoints
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> checkpoints.write(path, {"dense.weight": np.ones((2, 3), "f4")})
        >>> with checkpoints.open(path) as found:
        ...     print(found.leaves["dense.weight"])
        ...     print(np.asarray(found.tree["dense.weight"]))
        Leaf(shape=(2, 3), dtype=dtype('float32'))
        [[1. 1. 1.]
         [1. 1. 1.]]
    """
    given = Path(path)
    found = FORMATS[format_of(given)]
    stack = contextlib.ExitStack()
    try:
        return found.open(given, stack)
    except BaseException:
        stack.close()
        raise


def write(
    path: str | PathLike[str],
    tree: Any,
    *,
    metadata: Mapping[str, str] | None = None,
    format: str | None = None,
) -> None:
    """Writes a checkpoint, whole or not at all, one leaf after the other.

    Of the formats, msgpack and orbax need the whole network in memory.

    Args:
        path: Of the file or directory; is replaced if it exists.
        tree: Any pytree of arrays, or of leaves with `shape`, `dtype`, `size` and
            `__array__`. Formats without containers name leaves by their paths.
        metadata: Strings that go with it, where the format has a place for them.
        format: Name of the format; None goes by the ending of the path.

    Raises:
        CheckpointError: There is no such format, or it cannot hold a leaf.
        OSError: The system refuses.

    Examples:
        >>> import os, tempfile, numpy as np
        >>> from deepcomp_jax import checkpoints
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> checkpoints.write(path, {"dense": {"kernel": np.ones((2, 3))}})
        >>> list(np.load(path))
        ['dense/kernel']
    """
    given = Path(path)
    name = format or by_ending(given)
    if name not in FORMATS:
        raise CheckpointError(
            f"no format {name!r} for {path}: choose one of {listed(FORMATS)}, or one "
            f"of the endings {listed(_endings())}"
        )
    FORMATS[name].write(given, tree, metadata or {})


def format_of(path: Path) -> str:
    """The name of the format of a checkpoint that exists.

    Raises:
        CheckpointError: It is none that can be read.
        FileNotFoundError: There is nothing.
    """
    if path.is_dir():
        if (path / safetensors.INDEX).exists():
            return "sharded safetensors"
        if orbax.is_orbax(path) or orbax.is_orbax(path / "default"):
            return "orbax"
        raise CheckpointError(
            f"the directory {path} holds neither {safetensors.INDEX} nor a checkpoint "
            "of Orbax: give the path of a file in it, or of one step of a manager"
        )
    if path.name.endswith(".index.json"):
        return "sharded safetensors"
    if name := by_ending(path):
        return name
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    why = _FOREIGN.get(path.suffix.lower(), "is of no known format")
    raise CheckpointError(f"{path} {why}; known are {listed(_endings())}")


def by_ending(path: Path | None) -> str | None:
    """The name of the format of files with such an ending, if there is one."""
    if path is None:
        return None
    for name, found in FORMATS.items():
        if found.ending and path.name.lower().endswith(found.ending):
            return name
    return None


def _endings() -> list[str]:
    return [found.ending for found in FORMATS.values() if found.ending]
