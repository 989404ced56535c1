"""Folders written whole or not at all, as `format.files` writes files.

A folder is written under another name beside its place and then renamed. One that was
there before is put aside first: a machine that stops between the two renames leaves
both, neither under its name. Drafts of processes that were killed are removed by
whoever next writes the same folder.
"""

import contextlib
import os
import secrets
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks, and stale drafts stay there
    fcntl = None


_TRIES = 50


@contextlib.contextmanager
def replacing(
    path: str | PathLike[str], is_own: Callable[[Path], bool]
) -> Iterator[Path]:
    """A folder that takes its name when the block ends, if that ends without an error.

    Args:
        path: Of the folder; a link is followed.
        is_own: Whether an entry of a folder that is there already is of a checkpoint,
            which may be replaced.

    Yields:
        The folder under another name.

    Raises:
        OSError: The path is a file, or a folder with anything that is not of a
            checkpoint, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    _check(target, path, is_own)
    prefix = f".{zlib.crc32(os.fsencode(target.name)):08x}."
    _remove_stale(target.parent, prefix)
    draft = target.with_name(f"{prefix}{secrets.token_hex(4)}.draft")
    try:
        draft.mkdir(mode=0o700)
        with _held(draft):
            yield draft
            mode = target.stat().st_mode if target.exists() else 0o777 & ~_umask()
            draft.chmod(stat.S_IMODE(mode))
            _swap(draft, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        _remove(draft)


def _remove(draft: Path) -> None:
    """Removes a draft, into which threads of a library may still be writing."""
    for _ in range(_TRIES):
        shutil.rmtree(draft, ignore_errors=True)
        if not draft.exists():
            return
        time.sleep(0.02)


def _check(
    target: Path, path: str | PathLike[str], is_own: Callable[[Path], bool]
) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise NotADirectoryError(f"{os.fspath(path)} is a file, not a folder")
    others = sorted(entry.name for entry in target.iterdir() if not is_own(entry))
    if others:
        raise FileExistsError(
            f"{os.fspath(path)} holds {others[0]!r}, which is not of a checkpoint and "
            "would be lost: choose another folder"
        )


def _swap(draft: Path, target: Path) -> None:
    """Gives a draft its name, and removes what had the name before."""
    if not target.exists():
        os.rename(draft, target)
        return
    old = Path(f"{draft.with_suffix('')}.old.draft")
    os.rename(target, old)
    try:
        os.rename(draft, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old)


def _remove_stale(parent: Path, prefix: str) -> None:
    for draft in parent.glob(f"{prefix}*.draft"):
        with contextlib.suppress(OSError), _held(draft) as is_stale:
            if is_stale and draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def _held(draft: Path) -> Iterator[bool]:
    """A draft that is locked meanwhile; whether that was possible."""
    if fcntl is None:
        yield False
        return
    number = os.open(draft, os.O_RDONLY)
    try:
        yield _locked(number)
    finally:
        os.close(number)


def _locked(number: int) -> bool:
    """Locks an open folder until it is closed; whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody has it, or the file system knows no locks
        return False
    return True


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
