"""What a data set is, the digits of scikit-learn, and downloads of all others."""

import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Dataset(NamedTuple):
    """Images to train and to test on.

    Attributes:
        name: For reports.
        train_images: uint8 `[n, height, width, channels]`.
        train_labels: int32 `[n]`.
        test_images: As `train_images`.
        test_labels: As `train_labels`.
        classes: Number of classes.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int


def digits() -> Dataset:
    """The 1,797 digits of scikit-learn, 8x8 pixels enlarged to 32x32x3.

    1,437 to train and 360 to test on, in a fixed random order.
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
    """A file as `tensorflow-datasets` downloads and keeps it.

    Its `load` would need TensorFlow to prepare a data set; its download does not.

    Args:
        url: Of the file.
        name: Of the data set, for the error.
        remedy: How to get the file by hand, for the error.

    Raises:
        RuntimeError: It could not be had.
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
    """All of a file that may unpack to much more than the data can be.

    Args:
        file: Is read to its end, or to one byte more than allowed.
        limit: In bytes.
        name: Of the file, for the error.

    Raises:
        ValueError: There are more bytes.
    """
    content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(
            f"{name} holds more than {limit:,} bytes, which no published file does: get"
            " it again"
        )
    return content
