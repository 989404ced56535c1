"""Files that a run reads again: sealed by a digest, in a directory of one process.

    sealed file = SHA-256 of the content in hexadecimal, "\n", content
    state       = a sealed file of msgpack: "epoch", "rows" (JSON), "leaves", "names"

Notes:

- A file that does not fit its digest is refused, so that nothing is trained on from a
  damaged file or one of an older version.
- The lock of a directory ends with its process, however that ends.
"""

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import flax.serialization
import jax
import numpy as np

from deepcomp_jax.format import files
from experiments import locking

_DRAFT = re.compile(r"\.[0-9a-f]{8}\.[0-9a-f]{8}\.draft")
_DIGEST = 64  # hexadecimal digits


class Saved(NamedTuple):
    """A phase as it was left.

    Attributes:
        epoch: How many epochs are done.
        rows: What these epochs logged.
        state: The state after them.
    """

    epoch: int
    rows: list[dict[str, Any]]
    state: Any


def lock(directory: Path) -> BinaryIO:
    """Takes a directory for this process, and removes what killed ones left there.

    Args:
        directory: The directory of a run.

    Returns:
        An open file; closing it gives the directory back.

    Raises:
        RuntimeError: Another run has it.
    """
    file = locking.lock(
        directory / "lock",
        f"another run is using {directory}: wait until it ends, or give another "
        "--work-dir",
    )
    if locking.fcntl is not None:
        # Drafts are written by this process alone from here on.
        for path in directory.rglob(".*.draft"):
            if _DRAFT.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
    return file


def write(path: Path, content: bytes) -> None:
    """Writes a sealed file, whole or not at all."""
    digest = hashlib.sha256(content).hexdigest().encode()
    files.write(path, digest + b"\n" + content)


def read(path: Path) -> bytes:
    """The content of a sealed file.

    Raises:
        ValueError: It is not as it was written.
    """
    data = path.read_bytes()
    content = data[_DIGEST + 1 :]
    if data[: _DIGEST + 1] != hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise ValueError(
            f"{path} is damaged or was written by another version: delete it, and the "
            "same command does that step again"
        )
    return content


def save(path: Path, saved: Saved) -> None:
    """Writes a phase, so that it can go on later."""
    leaves = jax.tree.leaves(saved.state)
    fields = {
        "epoch": saved.epoch,
        "rows": json.dumps(saved.rows),
        "leaves": [np.asarray(leaf) for leaf in leaves],
        "names": _names(saved.state),
    }
    write(path, flax.serialization.msgpack_serialize(fields))


def restore(path: Path, like: Any) -> Saved:
    """Reads a phase that is to go on.

    Args:
        path: A file that `save` wrote.
        like: The state where the phase began, whose containers and devices the result
            gets.

    Raises:
        ValueError: The file is damaged, or the state in it has other leaves, shapes or
            dtypes.
    """
    fields: Any = flax.serialization.msgpack_restore(read(path))
    now, treedef = jax.tree.flatten(like)
    leaves, names = fields["leaves"], fields["names"]
    found = dict(zip(names, map(_kind, leaves), strict=True))
    expected = dict(zip(_names(like), map(_kind, now), strict=True))
    for name in expected | found:
        if found.get(name) != expected.get(name):
            raise ValueError(
                f"{path} is of another network: {name or 'the state'} is "
                f"{found.get(name, 'missing')} there and "
                f"{expected.get(name, 'missing')} here; delete it, and the same "
                "command does that phase again"
            )
    placed = [
        jax.device_put(leaf, old.sharding)
        for leaf, old in zip(leaves, now, strict=True)
    ]
    rows = json.loads(fields["rows"])
    return Saved(int(fields["epoch"]), rows, jax.tree.unflatten(treedef, placed))


def _names(state: Any) -> list[str]:
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    return [jax.tree_util.keystr(path) for path, _ in paths]


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
