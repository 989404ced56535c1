"""CIFAR-10 as arrays, from every form that it is published in.

It comes from `tensorflow-datasets`, or from a folder that holds the official archive or
its unpacked batches, in the binary or the Python version. Batches of the Python version
are pickles. They are read by an unpickler that can make arrays, strings, numbers and
containers, and nothing else. Every batch is checked against its published digest before
it is used.
"""

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data.datasets import Dataset, download, read_at_most

URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
ARCHIVE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
LARGEST = 32 << 20  # bytes of a batch; those of the binary version have 30,730,000
UNPACKED = 200 << 20  # bytes of all that an archive may unpack to; theirs have 185 MB
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
SHA256 = dict(
    zip(
        (f"{name}.bin" for name in BATCHES),
        (
            "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        ),
        strict=True,
    )
)
MD5 = dict(
    zip(
        BATCHES,
        (
            "c99cafc152244af753f735de768cd75f",
            "d4bba439e000b95fd0a9bffe97cbabec",
            "54ebc095f3ab1f0389bbae665268c751",
            "634d18415352ddfa80567beed471001a",
            "482c414d41f54cd18b22e5b47cb7c3cb",
            "40351d587109b95175f43aff81a1287e",
        ),
        strict=True,
    )
)


class Digests(NamedTuple):
    """The published digests of the batches, by the names of their files.

    Attributes:
        binary: The SHA-256 of the batches of the binary version.
        python: The MD5 of the batches of the Python version.
    """

    binary: Mapping[str, str] = SHA256
    python: Mapping[str, str] = MD5


def cifar10(data_dir: Path | None, *, digests: Digests = Digests()) -> Dataset:
    """Reads CIFAR-10: 50,000 images to train and 10,000 to test on.

    Args:
        data_dir: A folder with the official archive, or with its batches or the folder
            that they unpack to. None asks `tensorflow-datasets`, which may download.
        digests: The digests that the batches must have.

    Raises:
        FileNotFoundError: The folder holds no version of the data, or a batch is
            missing.
        ValueError: A batch is truncated, altered or too large, or an archive would
            unpack to much more than the published ones.
        RuntimeError: `tensorflow-datasets` could not provide the data.
    """
    source = _downloaded() if data_dir is None else _find(data_dir)
    batches = (_read_batch(source, name, digests) for name in BATCHES)
    images, labels = zip(*batches, strict=True)
    return Dataset(
        "CIFAR-10",
        np.concatenate(images[:-1]),
        np.concatenate(labels[:-1]),
        images[-1],
        labels[-1],
        10,
    )


class _Source(NamedTuple):
    """Where the batches are, their version, and what reads one by its name."""

    binary: bool
    where: str
    read: Callable[[str], bytes | None]


def _find(data_dir: Path) -> _Source:
    """Looks for the binary version first, and for folders before archives."""
    for binary in (True, False):
        kind = "bin" if binary else "py"
        first = f"{BATCHES[0]}.bin" if binary else BATCHES[0]
        for folder in (data_dir, data_dir / f"cifar-10-batches-{kind}"):
            named = folder.name == f"cifar-10-batches-{kind}" and folder.is_dir()
            if named or (folder / first).is_file():
                return _Source(binary, str(folder), _reader(folder))
        archive = f"cifar-10-{'binary' if binary else 'python'}.tar.gz"
        if (data_dir / archive).is_file():
            members = _members(data_dir / archive)
            return _Source(binary, str(data_dir / archive), members.get)
    raise FileNotFoundError(
        f"{data_dir} holds neither cifar-10-binary.tar.gz nor cifar-10-python.tar.gz "
        f"nor their unpacked batches: get one of them from {URL}"
    )


def _reader(folder: Path) -> Callable[[str], bytes | None]:
    """A function that reads a file of a folder, or returns None if it is missing."""

    def read(name: str) -> bytes | None:
        path = folder / name
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return read_at_most(file, LARGEST, str(path))

    return read


def _members(archive: Path) -> dict[str, bytes]:
    """Reads the batches of an archive into memory, by the names of their files.

    An archive is unpacked as a stream and no further than `UNPACKED`. What is no batch
    is skipped.
    """
    batches: dict[str, bytes] = {}
    try:
        with (
            gzip.open(archive) as unpacked,
            tarfile.open(fileobj=_Limited(unpacked, archive), mode="r|") as tar,
        ):
            while (member := tar.next()) is not None:
                vars(tar)["members"].clear()  # or millions of empty ones would pile up
                name = Path(member.name).name
                if member.size > LARGEST:
                    raise _too_large(archive)
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None and name.removesuffix(".bin") in BATCHES:
                    batches[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{archive} is truncated or damaged ({error}): get it again from {URL}"
        ) from error
    return batches


class _Limited(io.RawIOBase):
    """A stream that ends in an error after `UNPACKED` bytes."""

    def __init__(self, file: gzip.GzipFile, archive: Path) -> None:
        self._file, self._archive, self._left = file, archive, UNPACKED

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._archive)
        return content


def _too_large(archive: Path) -> ValueError:
    return ValueError(
        f"{archive} would unpack to more than the published archives do: get it again "
        f"from {URL}"
    )


def _read_batch(
    source: _Source, name: str, digests: Digests
) -> tuple[np.ndarray, np.ndarray]:
    """Checks a batch, and reads its images `[n, 32, 32, 3]` and labels `[n]`."""
    file = f"{name}.bin" if source.binary else name
    data = source.read(file)
    if data is None:
        raise FileNotFoundError(
            f"{source.where} lacks {file}: unpack the whole archive from {URL}"
        )
    if source.binary:
        digest, expected = hashlib.sha256(data).hexdigest(), digests.binary[file]
    else:
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        expected = digests.python[file]
    if digest != expected:
        raise ValueError(
            f"{file} in {source.where} is truncated or altered (its digest is {digest},"
            f" not {expected}): get the archive again from {URL}"
        )
    if source.binary:
        records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
        flat, labels = records[:, 1:], records[:, 0]
    else:
        batch = load_pickled_batch(data)
        flat, labels = batch[b"data"].values, np.array(batch[b"labels"])
    images = flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int32)


def load_pickled_batch(data: bytes) -> dict[bytes, Any]:
    """Reads a pickled batch without running anything that it names.

    This does not limit memory: check the digest first, as `cifar10` does.

    Returns:
        The batch. Its array is under `b"data"`, as an `_Array`.

    Raises:
        ValueError: The batch is no pickle, or it asks for anything but what a NumPy
            array of bytes is made of.
    """
    try:
        return _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        AttributeError,
        EOFError,
        LookupError,
        OverflowError,
        TypeError,
    ) as error:
        raise ValueError(f"not a batch of CIFAR-10: {error}") from error


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows three harmless names and no others."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): lambda *_: _Dtype(),
        }
        if (module_name, global_name) not in allowed:
            raise ValueError(
                f"the batch asks for {module_name}.{global_name}, which no batch of "
                f"CIFAR-10 needs: do not trust it; get the archive from {URL}"
            )
        return allowed[module_name, global_name]


class _Array:
    """Stands for an array of bytes while it is read; runs no code."""

    values: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, _, fortran, raw = state
        order = "F" if fortran else "C"
        self.values = np.frombuffer(raw, np.uint8).reshape(shape, order=order)


class _Dtype:
    """Stands for the dtype of an array, which is always that of bytes."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        del state


def _downloaded() -> _Source:
    """The archive as `tensorflow-datasets` downloads and keeps it."""
    remedy = f"get cifar-10-binary.tar.gz from {URL}"
    archive = download(ARCHIVE, name="CIFAR-10", remedy=remedy)
    return _Source(True, str(archive), _members(archive).get)
