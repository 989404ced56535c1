"""From what was compressed to a file, and from a file to a network."""

import contextlib
from collections.abc import Mapping
from os import PathLike
from typing import Any

from deepcomp_jax import account
from deepcomp_jax._types import Compressed, Progress
from deepcomp_jax.api import opened
from deepcomp_jax.api.compression import check_compressed
from deepcomp_jax.api.opened import Place
from deepcomp_jax.device import put_on_cpu
from deepcomp_jax.format import container, files, memory_limit, reader, sets, source


def save(
    path: str | PathLike[str],
    compressed: Compressed,
    *,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Writes a `.dcz` file, or replaces one, whole or not at all.

    Args:
        path: Of the file. One that exists is replaced, and keeps its mode and owner;
            links are followed.
        compressed: What `compress` or `pack` returned.
        metadata: Strings that go with the network, such as where it comes from. They
            are in the file as they are, and count towards its size.

    Returns:
        The size of the file, in bytes.

    Raises:
        ValueError: No file can hold the network; says which leaf or key and what to do.
        TypeError: The network was not compressed.
        OSError: The path is no regular file, or cannot be written with its owner kept.

    Examples:
        >>> import os, tempfile, numpy as np, deepcomp_jax as dc
        >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
        >>> size = dc.save(path, dc.compress({"kernel": np.eye(100, dtype="f4")}))
        >>> size == os.path.getsize(path)
        True
        >>> dc.load(path)["kernel"].shape
        (100, 100)
    """
    data = dumps(compressed, metadata=metadata)
    files.write(path, data)
    return len(data)


def dumps(
    compressed: Compressed,
    *,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> bytes:
    """The bytes of the file that `save` writes, the same on every machine.

    Args:
        compressed, metadata: As for `save`.
        progress: As for `write`.

    Raises:
        ValueError, TypeError: As for `save`.

    Examples:
        >>> import numpy as np, deepcomp_jax as dc
        >>> dc.dumps(dc.compress({"bias": np.arange(3)}))[:4]
        b'\\x89DCZ'
    """
    check_compressed(compressed)
    return container.dumps(compressed, metadata, put_on_cpu, progress)


def load(
    path: str | PathLike[str],
    like: Any = None,
    *,
    only: str | None = None,
    device: Place | None = None,
    max_bytes: int = container.MAX_BYTES,
) -> Any:
    """Reads a `.dcz` file.

    Args:
        path: Of the file, or of a set of files, as for `open`.
        like: Optional pytree of arrays or `jax.ShapeDtypeStruct`, whose containers the
            result gets: to load into a NNX state, a `FrozenDict` or a dataclass. Its
            leaves must have the names, shapes and dtypes of those in the file; numbers
            of Python, and arrays of a weak type, stand for every width of their kind.
        only: Optional regular expression: only leaves in whose names it is found are
            read. The others are those of `like`, or left out if there is none.
        device: Optional device or sharding to load to, or a pytree of them, one for
            each leaf: the result has JAX arrays, decoded by compiled loops. Leaves
            that one sharding for all cannot divide are whole on each of its devices.
            None puts leaves where those of `like` were placed. As always in JAX,
            64-bit values are narrowed unless `jax_enable_x64` is set.
        max_bytes: The most memory that the decoded arrays may take, and decoding
            meanwhile: 8 bytes for each value of the largest part of one
            (`specs/container.md`, C58).

    Returns:
        Arrays of NumPy, or of JAX if there is a device or place for them, in plain
        containers or in those of `like`.

    Raises:
        FormatError: The file is damaged or too large. (It is a ValueError too.)
        ValueError: `like` or `device` does not fit; says which leaves do not.

    Examples:
        >>> import os, tempfile, jax, numpy as np, deepcomp_jax as dc
        >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
        >>> size = dc.save(path, dc.compress({"bias": np.arange(3, dtype="f4")}))
        >>> dc.load(path, device=jax.devices()[0])
        {'bias': Array([0., 1., 2.], dtype=float32)}
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(
            f"load takes a path, got {type(path).__name__}: use dc.loads for bytes"
        )
    with opened.open(path, max_bytes=max_bytes) as file:
        return file.load(like, only=only, device=device)


def loads(
    data: bytes,
    like: Any = None,
    *,
    only: str | None = None,
    device: Place | None = None,
    max_bytes: int = container.MAX_BYTES,
) -> Any:
    """Reads the bytes of a `.dcz` file, as `load` does those in a file.

    Args:
        data: The whole file.
        like, only, device, max_bytes: As for `load`.

    Raises:
        FormatError, ValueError: As for `load`.

    Examples:
        >>> import numpy as np, deepcomp_jax as dc
        >>> dc.loads(dc.dumps(dc.compress([np.arange(3), np.ones(2)])))
        [array([0, 1, 2]), array([1., 1.])]
    """
    if isinstance(data, str | PathLike):
        raise TypeError("loads takes the bytes of a file: use dc.load for a path")
    held = source.of_bytes(data)
    file = opened.File([sets.Opened(held, reader.read_header(held))], max_bytes)
    return file.load(like, only=only, device=device)


def report(
    path: str | PathLike[str],
    *,
    max_bytes: int = container.MAX_BYTES,
    compare: bool = False,
) -> account.Account:
    """Accounts for every bit of a `.dcz` file, or of a set; printed, it is a table.

    Args:
        path: Of the file; of a set, "model.dcz" or any of its files.
        max_bytes: As for `load`.
        compare: Whether to name, for each tensor, the next best coding and what it
            would take. All of them are tried then, which takes many times as long.

    Raises:
        FormatError: The file is damaged or too large.
        TypeError: There is no path.

    Examples:
        >>> import os, tempfile, numpy as np, deepcomp_jax as dc
        >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
        >>> size = dc.save(path, dc.compress({"kernel": np.eye(100, dtype="f4")}))
        >>> account = dc.report(path)
        >>> account.parameters, account.file_bytes == size
        (10000, True)
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(
            f"report reads a file, got {type(path)}: save the network first, and give "
            "the path"
        )
    memory_limit.check_max_bytes(max_bytes)
    with contextlib.ExitStack() as stack:
        files = sets.opened(path, stack)
        return account.account_files(files, max_bytes=max_bytes, compare=compare)
