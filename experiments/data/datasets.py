"""What a data set is, the digits of scikit-learn, and downloads of all others."""

import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Dataset(NamedTuple):
    """Images to train and to test on.

    Attributes:
        name: The name of the data in reports.
        train_images: The images to train on, uint8 `[n, height, width, channels]`.
        train_labels: Their labels, int32 `[n]`.
        test_images: The images to test on, like `train_images`.
        test_labels: Their labels, like `train_labels`.
        classes: How many classes there are.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int


def digits() -> Dataset:
    """Reads the 1,797 digits of scikit-learn, enlarged from 8x8 pixels to 32x32x3.

    There are 1,437 to train and 360 to test on, in a fixed random order.
    """
    from sklearn.datasets import load_digits

    loaded: Any = load_digits()
    small = np.minimum(loaded.images * 16, 255).astype(np.uint8)
    large = np.kron(small, np.ones((1, 4, 4), np.uint8))
    images = np.repeat(large[..., None], 3, axis=-1)
    labels = loaded.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = order[:360], order[360:]
    return Dataset(
        "digits", images[train], labels[train], images[test], labels[test], 10
    )


def download(url: str, *, name: str, remedy: str) -> Path:
    """Downloads a file by `tensorflow-datasets`, which keeps it.

    Its `load` would need TensorFlow to prepare a data set; its download does not.

    Args:
        url: Where the file is.
        name: The name of the data set, for the error.
        remedy: How to get the file by hand, for the error.

    Raises:
        RuntimeError: The file could not be downloaded.
    """
    try:
        import tensorflow_datasets as tfds

        home = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        folder = Path(home).expanduser() / "downloads"
        manager = tfds.download.DownloadManager(download_dir=folder)
        return Path(manager.download(url))
    except Exception as error:
        raise RuntimeError(
            f"tensorflow-datasets could not provide {name} ({error}): {remedy} and "
            "give its folder as --data-dir"
        ) from error


class Readable(Protocol):
    """A file that is open to be read."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""
        ...


def read_at_most(file: Readable, limit: int, name: str) -> bytes:
    """Reads a file that might unpack to much more than the data can be.

    Args:
        file: The file, which is read to its end or to one byte more than allowed.
        limit: How many bytes are allowed.
        name: The name of the file, for the error.

    Raises:
        ValueError: The file has more bytes.
    """
    content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(
            f"{name} holds more than {limit:,} bytes, which no published file does: get"
            " it again"
        )
    return content
