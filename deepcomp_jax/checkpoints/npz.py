"""NumPy's `.npz`: a zip of arrays, each read on its own."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deepcomp_jax import trees
from deepcomp_jax.checkpoints.common import Checkpoint, CheckpointError, Leaf
from deepcomp_jax.format import files


def open(path: Path, stack: contextlib.ExitStack) -> Checkpoint:
    """Opens a file; its arrays are read one at a time."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path} is no .npz file: {error}") from None
    tree: dict[str, Leaf] = {}
    for member in archive.namelist():
        name = member.removesuffix(".npy")
        shape, dtype = _describe(archive, member, path)
        tree[name] = Leaf(shape, dtype, partial(_read, archive, member, path))
    return Checkpoint("npz", tree, {}, path.stat().st_size, stack)


def _describe(
    archive: zipfile.ZipFile, member: str, path: Path
) -> tuple[tuple[int, ...], np.dtype]:
    with _named(path, member), archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        get = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if get is None:
            raise CheckpointError(f"{path}: array {member!r} is of version {version}")
        shape, _, dtype = get(file)
    if dtype.hasobject or dtype.kind not in "biufc":
        raise CheckpointError(
            f"{path}: array {member!r} is of {dtype}, which is no number: .npz forgets "
            "what bfloat16 and float8 are, so save them as safetensors"
        )
    return shape, dtype.newbyteorder("=")


def _read(archive: zipfile.ZipFile, member: str, path: Path) -> np.ndarray:
    with _named(path, member), archive.open(member) as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _named(path: Path, member: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: array {member!r} is damaged: {error}") from None


def write(path: Path, tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes a file, in the memory of the largest array; it has no metadata."""
    del metadata
    named = trees.named_leaves(tree)
    for name, leaf in named.items():
        if (
            np.dtype(leaf.dtype).kind not in "biufc"
            or np.dtype(leaf.dtype).isbuiltin != 1
        ):
            raise CheckpointError(
                f".npz cannot hold leaf {name!r} of {leaf.dtype}: write safetensors, "
                "or convert it to float32"
            )
    with (
        files.replacing(path) as out,
        zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name, leaf in named.items():
            # A date, as of all files of zip, that does not say when it was written.
            member = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(leaf), allow_pickle=False)
