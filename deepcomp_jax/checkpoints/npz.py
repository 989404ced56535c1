"""Archives of NumPy arrays, read and written an array at a time.

NumPy writes a bfloat16 array as two bytes of no type, and forgets what they were. Such
arrays are read as bfloat16, as those do who save checkpoints so.
"""

import contextlib
import functools
import io
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from os import PathLike, fspath
from typing import IO, Any

import ml_dtypes
import numpy as np

from deepcomp_jax.checkpoints import containers
from deepcomp_jax.checkpoints.leaves import (
    Checkpoint,
    CheckpointError,
    Leaf,
    is_plain,
    native,
    rows_of,
)
from deepcomp_jax.format import files

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_UNTYPED = np.dtype("V2")
_FRONT = 1 << 16  # bytes of an array in which its header is, as NumPy bounds it too
# What the library raises: RuntimeError for encryption and unknown compressions, OSError
# for places outside of the file.
_DAMAGES = (
    *(ValueError, EOFError, RuntimeError, OSError),
    *(zipfile.BadZipFile, zlib.error),
)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: str | PathLike[str]) -> Checkpoint:
    """Opens an archive; see `checkpoints.open`."""
    stack = contextlib.ExitStack()
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        leaves: dict[str, Leaf] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in leaves:
                raise CheckpointError(f"{info.filename!r} is no array, or there twice")
            leaves[name] = _leaf(archive, info, name)
        size = os.stat(path).st_size
    except _DAMAGES as error:
        stack.close()
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise CheckpointError(
            f"{fspath(path)} is no .npz file: {str(error)[:200]}"
        ) from None
    except BaseException:
        stack.close()
        raise
    return Checkpoint(dict(leaves), leaves, {}, "npz", size, stack.close)


def _leaf(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Leaf:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError(f"array {name!r} is compressed as NumPy compresses none")
    with archive.open(info) as member:
        front = io.BytesIO(member.read(_FRONT))
    version = np.lib.format.read_magic(front)
    if version not in _HEADERS:
        raise CheckpointError(f"array {name!r} has version {version}")
    shape, by_columns, dtype = _HEADERS[version](front)
    start = front.tell()
    if dtype.hasobject:
        raise CheckpointError(
            f"array {name!r} holds pickled objects, which could run any program: save "
            "it as numbers"
        )
    if start + math.prod(shape) * dtype.itemsize != info.file_size:
        raise CheckpointError(f"array {name!r} has another size than its header says")
    read_rows = functools.partial(_rows, archive, info, start, shape, dtype, by_columns)
    known = _BFLOAT16 if dtype == _UNTYPED else native(dtype)
    copies = 1 if dtype.isnative else 2

    def memory(rows: slice | None) -> int:
        """Of all values if they are stored by columns, and of them in other bytes."""
        wanted = None if by_columns else rows
        return copies * rows_of(shape, dtype.itemsize, wanted)[1]

    return Leaf(shape, known, read_rows, memory)


def _rows(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    start: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    by_columns: bool,
    rows: slice | None,
) -> np.ndarray:
    """The values of an array, or those at some indices of its first axis."""
    wanted = None if by_columns else rows
    first, size, shown = rows_of(shape, dtype.itemsize, wanted)
    raw = bytearray(size)
    try:
        with archive.open(info) as member:
            member.seek(start + first)
            done = _fill(member, raw)
    except _DAMAGES as error:
        raise CheckpointError(
            f"{info.filename!r} is damaged: {str(error)[:200]}"
        ) from None
    if done < size:
        raise CheckpointError(f"{info.filename!r} ends within its values")
    order = "F" if by_columns else "C"
    values = np.frombuffer(raw, dtype).reshape(shown, order=order)
    if dtype == _UNTYPED:
        values = values.view(_BFLOAT16)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values if rows is wanted else values[rows]


def _fill(member: IO[bytes], raw: bytearray) -> int:
    """Reads as many bytes as fit, and says how many there were."""
    view, done = memoryview(raw), 0
    while done < len(raw) and (more := member.readinto(view[done:])):  # type: ignore
        done += more
    return done


def write(path: str | PathLike[str], tree: Any, metadata: Mapping[str, str]) -> None:
    """Writes an archive, which has no place for metadata; see `checkpoints.write`."""
    leaves = containers.named_leaves(tree)
    for name, leaf in leaves.items():
        if not is_plain(np.dtype(leaf.dtype)) and leaf.dtype != _BFLOAT16:
            raise CheckpointError(
                f"leaf {name!r} is {leaf.dtype}, which .npz files do not have: choose "
                "another format, such as .safetensors"
            )
        if "\0" in name or len(name.encode()) > 65000:
            raise CheckpointError(
                f"no .npz file can hold the name {name[:40]!r}: rename it"
            )
    with (
        files.replacing(path) as file,
        zipfile.ZipFile(file, "w", allowZip64=True) as archive,
    ):
        for name, leaf in leaves.items():
            array = np.asarray(leaf)
            if array.dtype == _BFLOAT16:
                array = array.view(_UNTYPED)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
