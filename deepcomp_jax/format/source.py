"""Where the bytes of a file come from: memory, or the disk piece by piece."""

import contextlib
import functools
import os
import stat
import threading
from collections.abc import Callable, Iterator
from os import PathLike
from typing import IO, NamedTuple

from deepcomp_jax.format import file_header

_LOCK = threading.Lock()  # for Windows, where all threads have one position in a file


class Source(NamedTuple):
    """The bytes of a file.

    Attributes:
        read: The bytes from an offset on, so many, or those that there are. Several
            threads may call it at once.
        size: Of the file, in bytes.
    """

    read: Callable[[int, int], bytes]
    size: int


def of_bytes(data: bytes) -> Source:
    """A file that is in memory."""
    return Source(lambda offset, size: data[offset : offset + size], len(data))


@contextlib.contextmanager
def opened(path: str | PathLike[str]) -> Iterator[Source]:
    """A file on the disk, open meanwhile; of one without a size, such as a pipe, all.

    Bytes are read where they are asked for and not mapped into memory: a mapped file
    that somebody cuts short ends the process, a read one ends in a `FormatError`.

    Raises:
        FormatError: C1 to C3, of a file without a size.
    """
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            front = file.read(file_header.PREFIX_BYTES)
            file_header.end(front)  # other devices and pipes may never end
            yield of_bytes(front + file.read())
            return
        yield Source(functools.partial(_whole, file), status.st_size)


def _whole(file: IO[bytes], offset: int, size: int) -> bytes:
    """So many bytes: the system may give fewer than were asked for at a time."""
    pieces: list[bytes] = []
    number = file.fileno()  # of a file that was closed there is none
    while size > 0 and (piece := _piece(number, offset, size)):
        pieces.append(piece)
        offset, size = offset + len(piece), size - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _piece(number: int, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(number, size, offset)
    with _LOCK:
        os.lseek(number, offset, os.SEEK_SET)
        return os.read(number, size)
