"""Locks of folders, which end with the process that has them, however that ends."""

from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows has no such locks: two processes there are not noticed
    fcntl = None


def lock(path: Path, message: str) -> BinaryIO:
    """Takes the folder of a file for this process and those that inherit the file.

    Args:
        path: The file, which is made if it is missing.
        message: Of the error.

    Returns:
        The open file; closing it gives the folder back.

    Raises:
        RuntimeError: Another process has it.
    """
    file = path.open("ab")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RuntimeError(message) from None
    return file
