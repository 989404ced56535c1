"""What checkpoints of all formats are to the rest: trees of leaves not read yet."""

import contextlib
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import trees


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message says what to do."""


@dataclass(frozen=True)
class Leaf:
    """A leaf of a checkpoint, which is read when `np.asarray` asks for it.

    Attributes:
        shape: Of the array.
        dtype: Of NumPy or `ml_dtypes`.
        read: Reads it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray] = field(repr=False)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.read()
        return values if dtype is None else values.astype(dtype, copy=False)


@dataclass
class Checkpoint:
    """A checkpoint that is open.

    Attributes:
        format: Name of the format.
        tree: The containers, with leaves that have `shape`, `dtype`, `size`, `nbytes`
            and `__array__`.
        metadata: Strings that came with it.
        file_bytes: Of all its files.
    """

    format: str
    tree: Any
    metadata: Mapping[str, str]
    file_bytes: int
    _stack: contextlib.ExitStack = field(repr=False)

    @property
    def leaves(self) -> dict[str, Any]:
        """The leaves by name, in tree order."""
        return trees.named_leaves(self.tree)

    def close(self) -> None:
        """Closes its files; the leaves cannot be read any more."""
        self._stack.close()

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Format(NamedTuple):
    """A format of checkpoints: all that the rest of the library knows of it.

    Attributes:
        ending: Of the names of its files; empty for directories.
        open: Opens a path; files go onto the stack that closes them.
        write: Writes a tree, whose leaves may be read one after the other, and
            metadata to a path, whole or not at all.
    """

    ending: str
    open: Callable[[Path, contextlib.ExitStack], Checkpoint]
    write: Callable[[Path, Any, Mapping[str, str]], None]


def check_dtype(
    name: str, dtype: np.dtype, known: Mapping[np.dtype, Any], where: str
) -> None:
    """Rejects a leaf of a dtype that a format does not have."""
    if dtype not in known:
        names = ", ".join(own.name for own in known)
        raise CheckpointError(
            f"{where} cannot hold leaf {name!r} of {dtype}: convert it to one of "
            f"{names}, or choose another format"
        )


def needed(package: str, extra: str) -> CheckpointError:
    """What to install for a format."""
    return CheckpointError(
        f"this format needs the package {package}: pip install 'deepcomp-jax[{extra}]'"
    )


@contextlib.contextmanager
def replacing_directory(path: str | PathLike[str]) -> Iterator[Path]:
    """A directory that takes its name when the block ends without an error.

    One that is there already is removed then.
    """
    target = Path(os.path.abspath(path))
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(
            f"{path} is a file, where a directory is to be written"
        )
    draft = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.draft")
    try:
        yield draft
        if target.exists():
            old = draft.with_suffix(".old")
            target.rename(old)
            draft.rename(target)
            shutil.rmtree(old)
        else:
            draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def directory_bytes(path: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(own.stat().st_size for own in path.rglob("*") if own.is_file())
