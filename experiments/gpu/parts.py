"""Files in parts that are small enough to carry, and the same files again.

A file is cut into parts of nearly equal size. A part is named by its SHA-256, so that
one that has arrived already is known, wherever it came from. Parts lie in loads,
folders `1`, `2` and so on, each of which can be carried alone; `manifest.json` in each
says what all loads hold:

    {"files": [{"name": "wheels/a.whl", "size": 9, "sha256": "…", "parts": ["…", "…"]}],
     "loads": [["…"], ["…"]]}

Only the standard library is needed to unpack them.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MANIFEST = "manifest.json"
_ROOM = 1 << 16  # bytes of a load that are left for the manifest


class File(NamedTuple):
    """A file that travels.

    Attributes:
        name: Its path below the folder that it is unpacked to, with slashes.
        size: In bytes.
        sha256: Of its content, in hexadecimal.
        parts: The digests of its parts, in order.
    """

    name: str
    size: int
    sha256: str
    parts: tuple[str, ...]


class Manifest(NamedTuple):
    """What all loads hold.

    Attributes:
        files: In the order in which they were packed.
        loads: The digests of the parts of each load, the first of which is in `1`.
    """

    files: tuple[File, ...]
    loads: tuple[tuple[str, ...], ...]


def pack(sources: Mapping[str, Path], folder: Path, most: int) -> Manifest:
    """Cuts files into parts, and puts these into loads.

    Args:
        sources: The files, by the names that they shall have where they are unpacked.
        folder: Where the loads go. Parts that are there already are not written again,
            and those that belong to no file any more are removed.
        most: The most bytes of a load.

    Raises:
        ValueError: No part would fit into a load.
    """
    if most <= 2 * _ROOM:
        raise ValueError(f"{most} bytes are too few for a load: allow a megabyte")
    files: list[File] = []
    loads: list[list[str]] = [[]]
    room = most - _ROOM
    for name, path in sources.items():
        content = path.read_bytes()
        parts = _cut(content, most - _ROOM)
        digests = tuple(_digest(part) for part in parts)
        files.append(File(name, len(content), _digest(content), digests))
        for digest, part in zip(digests, parts, strict=True):
            if any(digest in load for load in loads):
                continue
            if len(part) > room:
                loads.append([])
                room = most - _ROOM
            loads[-1].append(digest)
            room -= len(part)
            place = folder / str(len(loads)) / digest
            if not place.exists():
                write(place, part)
    manifest = Manifest(tuple(files), tuple(map(tuple, loads)))
    _tidy(folder, manifest)
    return manifest


def unpack(loads: Sequence[Path], folder: Path) -> list[str]:
    """Takes the parts of some loads, and puts together what is complete.

    Args:
        loads: Folders that `pack` wrote, or the folder that they are in. There may be
            none: what came before is remembered.
        folder: Where the files go, and meanwhile the parts.

    Returns:
        The names of the loads that are still to come, in order; none once every file is
        there.

    Raises:
        ValueError: A part or a file is damaged, the loads are of different packs, or
            there never was one.
    """
    found = [each for given in loads for each in _each(given)]
    texts = {(load / MANIFEST).read_bytes() for load in found}
    if len(texts) > 1:
        raise ValueError(f"{', '.join(map(str, found))} are of different packs")
    for text in texts:
        write(folder / MANIFEST, text)
    manifest = read_manifest(folder / MANIFEST)
    waiting = folder / ".parts"
    missing = [file for file in manifest.files if not _is_there(file, folder)]
    for file in missing:
        for part in file.parts:
            for load in found:
                if (load / part).is_file() and not (waiting / part).exists():
                    write(waiting / part, _checked(load / part, part))
    left = [file for file in missing if not _joined(file, folder, waiting)]
    needed = {part for file in left for part in file.parts}
    for path in waiting.glob("*"):
        if path.name in needed:
            needed.remove(path.name)
        else:
            path.unlink()
    return [str(n) for n, own in enumerate(manifest.loads, 1) if needed & set(own)]


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        ValueError: It is none.
    """
    try:
        fields: Any = json.loads(path.read_text())
        files = tuple(
            File(each["name"], each["size"], each["sha256"], tuple(each["parts"]))
            for each in fields["files"]
        )
        return Manifest(files, tuple(map(tuple, fields["loads"])))
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing: give the loads that were packed"
        ) from None
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is no manifest ({error}): pack again") from error


def write(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    os.replace(draft, path)


def _cut(content: bytes, most: int) -> list[bytes]:
    """Nearly equal parts, none above `most`; one, empty, of an empty file."""
    count = max(1, -(-len(content) // most))
    size = -(-len(content) // count)
    return [content[i * size : (i + 1) * size] for i in range(count)]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tidy(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest into every load, and removes what belongs to none."""
    text = json.dumps(
        {
            "files": [file._asdict() for file in manifest.files],
            "loads": manifest.loads,
        },
        indent=1,
    )
    for number, parts in enumerate(manifest.loads, 1):
        load = folder / str(number)
        write(load / MANIFEST, text.encode())
        for path in load.iterdir():
            if path.name not in {*parts, MANIFEST}:
                path.unlink()
    for path in folder.iterdir():
        if path.name.isdecimal() and int(path.name) > len(manifest.loads):
            shutil.rmtree(path)


def _each(folder: Path) -> list[Path]:
    """A load, or all loads within a folder."""
    if (folder / MANIFEST).is_file():
        return [folder]
    inside = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    if not inside:
        raise ValueError(f"{folder} is no load, and none is in it: pack again")
    return inside


def _is_there(file: File, folder: Path) -> bool:
    path = _inside(folder, file.name)
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256


def _joined(file: File, folder: Path, waiting: Path) -> bool:
    """Whether a file could be put together, since all its parts had come."""
    if not all((waiting / part).is_file() for part in file.parts):
        return False
    content = b"".join((waiting / part).read_bytes() for part in file.parts)
    if _digest(content) != file.sha256:
        raise ValueError(f"{file.name} is not what was packed: pack again")
    write(_inside(folder, file.name), content)
    return True


def _checked(path: Path, digest: str) -> bytes:
    content = path.read_bytes()
    if _digest(content) != digest:
        raise ValueError(f"{path} was damaged on its way: carry it again")
    return content


def _inside(folder: Path, name: str) -> Path:
    """Where a file goes, which is never outside of the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"the manifest names {name}, outside of {folder}: pack again")
    return path
