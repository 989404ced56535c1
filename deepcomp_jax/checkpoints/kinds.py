"""Which format a checkpoint has: what its content says, or what its ending asks for."""

import os
import re
import zipfile
from os import PathLike, fspath
from pathlib import Path

from deepcomp_jax.checkpoints import shards
from deepcomp_jax.checkpoints.leaves import CheckpointError

FORMATS = {  # name: module
    "safetensors": "safetensors",
    "safetensors-sharded": "shards",
    "npz": "npz",
    "msgpack": "flax_msgpack",
    "orbax": "orbax",
    "dcz": "dcz",
}
_ENDINGS = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".msgpack": "msgpack",
    ".dcz": "dcz",
}
_WAYS_OUT = {
    "pickle": (
        "a pickle, which can run any program when it is read: load it where you trust "
        "it, and save its tensors with safetensors.torch.save_file or numpy.savez"
    ),
    "GGUF": "a GGUF file: start from the checkpoint that it was made of",
    "HDF5": "an HDF5 file: load it in Keras, and save its arrays with numpy.savez",
}
_PICKLE_ENDINGS = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
_ONLY_FILE = "model.safetensors"  # of a folder of Transformers without an index
_FRONT = 16  # bytes that tell formats apart


def of_ending(path: str | PathLike[str]) -> str | None:
    """The format that the ending of a path asks for; None if it asks for none."""
    return _ENDINGS.get(Path(path).suffix.lower())


def of_content(path: str | PathLike[str]) -> str:
    """The format of a checkpoint.

    Raises:
        CheckpointError: It is of none that can be read; says what to do.
        OSError: There is no such file.
    """
    given = Path(path)
    if given.is_dir():
        return _of_folder(given)
    if not given.exists() and given.suffix.lower() == ".dcz":
        return "dcz"  # of a set, perhaps
    with given.open("rb") as file:
        front = file.read(_FRONT)
    found = _of_front(front, given)
    if found in _WAYS_OUT:
        raise CheckpointError(f"{fspath(path)} is {_WAYS_OUT[found]}")
    if found is None:
        known = ", ".join(FORMATS)
        raise CheckpointError(f"{fspath(path)} has none of the formats {known}")
    return found


def _of_front(front: bytes, path: Path) -> str | None:
    """What the first bytes of a file, or else its name, say."""
    if front[:4] == b"\x89DCZ":
        return "dcz"
    if front[:4] == b"PK\x03\x04" or front[:4] == b"PK\x05\x06":
        return "pickle" if _is_of_torch(path) else "npz"
    if front[:4] == b"GGUF":
        return "GGUF"
    if front[:8] == b"\x89HDF\r\n\x1a\n":
        return "HDF5"
    if re.match(rb"\x80[\x02-\x05][^\x00]", front) and path.suffix != ".msgpack":
        return "pickle"
    if front[8:9] == b"{":
        return "safetensors"
    if path.suffix.lower() in _PICKLE_ENDINGS:
        return "pickle"
    if path.name.endswith(".index.json"):
        return "safetensors-sharded"
    is_map = front[:1] in {bytes([first]) for first in (*range(0x81, 0x90), 0xDE, 0xDF)}
    return of_ending(path) or ("msgpack" if is_map else None)


def _is_of_torch(path: Path) -> bool:
    """Whether an archive is what `torch.save` writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(os.path.basename(n) == "data.pkl" for n in archive.namelist())
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError):
        return False  # whoever reads it says what is wrong


def located(path: str | PathLike[str]) -> Path:
    """The checkpoint that a path leads to: of a folder, perhaps a file in it."""
    given = Path(path)
    file = given / _ONLY_FILE
    alone = given.is_dir() and file.is_file() and not _known_folder(given)
    return file if alone else given


def _known_folder(folder: Path) -> str | None:
    """The format of a folder that is a checkpoint as a whole."""
    if shards.index_of(folder):
        return "safetensors-sharded"
    entries = list(folder.iterdir())
    names = {entry.name for entry in entries}
    if names & {"_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "checkpoint"}:
        return "orbax"
    if any((entry / "_METADATA").exists() for entry in entries):
        return "orbax"
    return None


def _of_folder(folder: Path) -> str:
    if known := _known_folder(folder):
        return known
    names = {entry.name for entry in folder.iterdir()}
    # A manager of Orbax keeps steps under their numbers.
    steps = sorted((n for n in names if n.isdigit()), key=int)
    within = steps[-1:] or sorted(n for n in names if of_ending(n))[:1]
    more = f": name what is in it, such as {folder / within[0]}" if within else ""
    raise CheckpointError(
        f"{folder} is a folder, but of no checkpoint of Orbax or of safetensors{more}"
    )
