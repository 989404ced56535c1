"""MNIST as arrays, from its four official files.

They come from `tensorflow-datasets`, or from a folder, gzipped or not. Each is checked
against the published digest of its unpacked bytes before it is used.
"""

import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.data.datasets import Dataset, download, read_at_most

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
LARGEST = 48 << 20  # bytes of a file, unpacked; that of the images has 47,040,016
IMAGES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
LABELS = ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte")
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def mnist(data_dir: Path | None, *, digests: Mapping[str, str] = MD5) -> Dataset:
    """Reads MNIST: 60,000 images of 28x28x1 pixels to train and 10,000 to test on.

    Args:
        data_dir: A folder with the four files, gzipped or not. None asks
            `tensorflow-datasets`, which may download.
        digests: The MD5 that each file must have when it is unpacked, by its name.

    Raises:
        FileNotFoundError: The folder lacks a file.
        ValueError: A file is truncated, altered or too large.
        RuntimeError: `tensorflow-datasets` could not provide a file.
    """
    files = {name: _read(name, data_dir, digest) for name, digest in digests.items()}
    train_images, test_images = (_array(files[name], rank=3) for name in IMAGES)
    train_labels, test_labels = (_array(files[name], rank=1) for name in LABELS)
    return Dataset(
        "MNIST",
        train_images[..., None],
        train_labels.astype(np.int32),
        test_images[..., None],
        test_labels.astype(np.int32),
        10,
    )


def _read(name: str, data_dir: Path | None, expected: str) -> bytes:
    """Reads, unpacks and checks a file."""
    path = _find(name, data_dir)
    with path.open("rb") as file:
        content = read_at_most(file, LARGEST, str(path))
    if content.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = read_at_most(file, LARGEST, str(path))
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"{path} is truncated or damaged ({error}): get it again from {URL}"
            ) from error
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != expected:
        raise ValueError(
            f"{path} is truncated or altered (unpacked, its digest is {digest}, not "
            f"{expected}): get it again from {URL}"
        )
    return content


def _find(name: str, data_dir: Path | None) -> Path:
    if data_dir is None:
        remedy = f"get {', '.join(f'{name}.gz' for name in MD5)} from {URL}"
        return download(f"{URL}{name}.gz", name="MNIST", remedy=remedy)
    for path in (data_dir / name, data_dir / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{data_dir} lacks {name}, gzipped or not: get {name}.gz from {URL}"
    )


def _array(content: bytes, *, rank: int) -> np.ndarray:
    """Reads an IDX file of bytes: a magic number, then the shape, then the values."""
    shape = np.frombuffer(content, ">u4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
