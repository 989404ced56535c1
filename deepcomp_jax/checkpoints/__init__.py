"""Checkpoints of other formats: opened without reading them, written leaf by leaf.

`open` and `write` know `.safetensors` files, folders of them with an index, `.npz`
archives, `.msgpack` files of Flax, folders of Orbax, and `.dcz` files. Values are read
when they are asked for, so the memory is that of about one leaf. Orbax needs the extra
`pip install "deepcomp-jax[checkpoints]"`; the others need nothing.
"""

from collections.abc import Mapping
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from deepcomp_jax.checkpoints import containers, kinds
from deepcomp_jax.checkpoints.kinds import FORMATS as FORMATS
from deepcomp_jax.checkpoints.kinds import of_ending as of_ending
from deepcomp_jax.checkpoints.leaves import Checkpoint as Checkpoint
from deepcomp_jax.checkpoints.leaves import CheckpointError as CheckpointError
from deepcomp_jax.checkpoints.leaves import Leaf as Leaf
from deepcomp_jax.format.memory_limit import MAX_BYTES


def open(path: str | PathLike[str], *, max_bytes: int = MAX_BYTES) -> Checkpoint:
    """Opens a checkpoint without reading its values.

    Its content says what format it is. Nothing in it is run: pickles are refused.

    Args:
        path: Of the file or folder; of a folder with a `model.safetensors`, of either;
            of a folder of several such files, also of its index; of a set of `.dcz`
            files, "model.dcz" or any of them.
        max_bytes: The most memory that a leaf, or the slice of one that is asked for,
            may take while it is read: its values, and what decoding takes meanwhile. A
            leaf that takes more is a `CheckpointError` when it is asked for.

    Raises:
        CheckpointError: The format is none of `FORMATS` or needs a library that is not
            installed, or the file is damaged. (It is a ValueError too.)
        OSError: There is no such file.

    Examples:
        >>> import os, tempfile, numpy as np
        >>> from deepcomp_jax import checkpoints
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> checkpoints.write(path, {"w": np.eye(3)}, metadata={"by": "me"})
        >>> with checkpoints.open(path) as checkpoint:
        ...     print(checkpoint.format, checkpoint.metadata, checkpoint.leaves)
        ...     print(np.asarray(checkpoint.leaves["w"])[0], checkpoint.leaves["w"][1])
        safetensors {'by': 'me'} {'w': Leaf(float64[3, 3])}
        [1. 0. 0.] [0. 1. 0.]
    """
    found = kinds.located(path)
    checkpoint = _module(kinds.of_content(found)).read(found)
    for name, leaf in checkpoint.leaves.items():
        if isinstance(leaf, Leaf):  # and no number or text that stands in a header
            leaf.limit(max_bytes, f"{fspath(path)}: leaf {name!r}")
    return checkpoint


def write(
    path: str | PathLike[str],
    tree: Any,
    *,
    metadata: Mapping[str, str] | None = None,
    format: str | None = None,
) -> None:
    """Writes a checkpoint, whole or not at all, leaf after leaf.

    Args:
        path: Is replaced if it exists. A folder is replaced only if all that it holds
            is of a checkpoint of the same format.
        tree: Any pytree of arrays, or a mapping from names to them. Leaves may be on
            the disk, such as those of a checkpoint that is open: one is in memory at a
            time. Formats without containers (safetensors, `.npz`) get the names that
            paths of keys joined by "/" make.
        metadata: Strings that go with it; `.npz` and `.msgpack` have no place for
            them.
        format: One of `FORMATS`; None takes what the ending of the path says. Folders
            have no ending and need it: "safetensors-sharded" or "orbax".

    Raises:
        CheckpointError: The format is not known or cannot hold a leaf; says which one.
        OSError: The path cannot be written.

    Examples:
        >>> import os, tempfile, numpy as np
        >>> from deepcomp_jax import checkpoints
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> checkpoints.write(path, {"dense": {"kernel": np.eye(3)}})
        >>> np.load(path)["dense/kernel"].shape
        (3, 3)
    """
    if format is None:
        format = kinds.of_ending(path)
    if format is None:
        raise CheckpointError(
            f"{fspath(path)!r} has no ending that says its format: give one of "
            f"{', '.join(FORMATS)}"
        )
    if format not in FORMATS:
        raise CheckpointError(
            f"no format {format!r}: choose one of {', '.join(FORMATS)}"
        )
    own = containers.plain(tree)
    for name, leaf in containers.named_leaves(own).items():
        if not isinstance(leaf.dtype, np.dtype):
            raise CheckpointError(
                f"leaf {name!r} is {leaf.dtype}, which no format has: leave it out"
            )
    _module(format).write(Path(path), own, dict(metadata or {}))


def _module(format: str) -> Any:
    return import_module(f"deepcomp_jax.checkpoints.{FORMATS[format]}")
