"""Files written whole or not at all, in the place, mode and ownership they have.

    draft = "." crc32 of the file's name "." token ".draft"      beside the file

Notes:

- The new content is written to a draft, which then takes the name of the file.
- A draft is locked while it is written. One that nobody has locked is left from a
  process that was killed; whoever next writes the same file removes it.
- The names of drafts have 24 bytes, however long that of the file is.
"""

import contextlib
import errno
import os
import secrets
import stat
import tempfile
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks, and stale drafts stay there
    fcntl = None

_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM}


def write(path: str | PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all, even if the machine stops meanwhile.

    Args:
        path: As for `replacing`.
        data: What the file is to hold.

    Raises:
        OSError: As for `replacing`.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """A file that takes its name when the block ends, if that ends without an error.

    Args:
        path: Is replaced if it exists, and keeps its mode and owner. A link is
            followed.

    Yields:
        The file, open for writing.

    Raises:
        OSError: The path is no regular file, its owner cannot be kept, or the system
            refuses; names the path.
    """
    with _named(path):
        target, before = _target(path)
        with contextlib.suppress(PermissionError):  # of a directory we may not list
            _remove_stale(target)
        with _replacing(target, before) as file:
            yield file


@contextlib.contextmanager
def spool(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """A file beside another, on the same disk, of which nothing is ever left."""
    with _named(path), tempfile.TemporaryFile(dir=_target(path)[0].parent) as file:
        yield file


@contextlib.contextmanager
def _named(path: str | PathLike[str]) -> Iterator[None]:
    """Errors inside that name no file name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and error.filename != os.fspath(path):
            own = Path(os.fspath(error.filename))
            beside = own.parent == Path(os.path.realpath(path)).parent
            if not (beside and own.name.endswith(".draft") or own.name[:3] == "tmp"):
                raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _target(path: str | PathLike[str]) -> tuple[Path, os.stat_result | None]:
    """The file that a path leads to, and what it is now if it exists."""
    target = Path(os.path.realpath(path))
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return target, None
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "special file")
        code = errno.EISDIR if kind == "directory" else errno.EINVAL
        raise OSError(code, f"a {kind}, not a regular file: choose another path")
    # Links of /proc lead to open files, also to those that have no name any more.
    if not (target.exists() and os.path.samestat(found, os.stat(target))):
        raise OSError(errno.EINVAL, "a file without a name: choose another path")
    return target, found


@contextlib.contextmanager
def _replacing(target: Path, before: os.stat_result | None) -> Iterator[IO[bytes]]:
    draft, number = _open_draft(target, 0o666 if before is None else 0o600)
    try:
        with open(number, "wb") as file:
            yield file
            if before is not None:
                _keep(draft, before)
            file.flush()
            os.fsync(number)
            if fcntl is None:
                file.close()  # Windows renames no open file
            os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _keep(draft: Path, before: os.stat_result) -> None:
    """Gives a draft the owner and the mode of the file that it replaces."""
    now = draft.stat()
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.chown(draft, before.st_uid, before.st_gid)
        except PermissionError:
            raise PermissionError(
                errno.EPERM,
                "another owner's file, which only a privileged user can replace by "
                "one of the same owner: choose another path, or remove it first",
            ) from None
    if stat.S_IMODE(now.st_mode) != stat.S_IMODE(before.st_mode):
        os.chmod(draft, stat.S_IMODE(before.st_mode))  # last: chown clears bits


def _open_draft(target: Path, mode: int) -> tuple[Path, int]:
    """A new, locked draft, and the number of the open file."""
    while True:
        name = f"{_prefix(target)}{secrets.token_hex(4)}.draft"
        draft = target.with_name(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        number = os.open(draft, flags, mode)
        _lock(number, wait=True)
        if os.fstat(number).st_nlink:
            return draft, number
        os.close(number)  # somebody took it for a stale one before it was locked


def _prefix(target: Path) -> str:
    return f".{zlib.crc32(os.fsencode(target.name)):08x}."


def _remove_stale(target: Path) -> None:
    for draft in target.parent.glob(f"{_prefix(target)}*.draft"):
        with contextlib.suppress(OSError), _opened(draft) as number:
            if _lock(number, wait=False):
                draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The number of a file or directory that is open meanwhile."""
    number = os.open(path, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)


def _lock(number: int, *, wait: bool) -> bool:
    """Locks an open file until it is closed; whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # somebody has it, or the file system knows no locks
        return False
    return True


def _sync_directory(directory: Path) -> None:
    """Makes a new name outlast a stop of the machine, where the system can do that."""
    try:
        with _opened(directory) as number:
            os.fsync(number)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
