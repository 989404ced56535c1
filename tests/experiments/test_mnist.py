"""Reading the four files of MNIST, gzipped or not, and refusing damaged ones."""

import gzip
import hashlib
import struct
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.data import mnist
from experiments.data.datasets import Dataset

COUNTS = {"train": 7, "t10k": 3}  # images


def _array(name: str) -> np.ndarray:
    shape = (COUNTS[name.partition("-")[0]], 28, 28)[: 3 if "idx3" in name else 1]
    rng = np.random.default_rng(list(mnist.MD5).index(name))
    return rng.integers(0, 10, shape).astype(np.uint8)


def _content(name: str) -> bytes:
    array = _array(name)
    return struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape) + (
        array.tobytes()
    )


DIGESTS = {name: hashlib.md5(_content(name)).hexdigest() for name in mnist.MD5}


def _write(folder: Path, *, zipped: bool) -> None:
    for name in mnist.MD5:
        content = _content(name)
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)


def _read(folder: Path | None) -> Dataset:
    return mnist.mnist(folder, digests=DIGESTS)


@pytest.mark.parametrize("zipped", [False, True])
def test_both_forms_give_the_same_arrays(zipped: bool, tmp_path: Path):
    _write(tmp_path, zipped=zipped)
    dataset = _read(tmp_path)

    train, test = (_array(name)[..., None] for name in mnist.IMAGES)
    np.testing.assert_array_equal(dataset.train_images, train)
    np.testing.assert_array_equal(dataset.test_images, test)
    train, test = (_array(name) for name in mnist.LABELS)
    np.testing.assert_array_equal(dataset.train_labels, train)
    np.testing.assert_array_equal(dataset.test_labels, test)
    assert dataset.train_labels.dtype == np.int32
    assert dataset.classes == 10


@pytest.mark.parametrize("name", mnist.MD5)
def test_a_missing_file(name: str, tmp_path: Path):
    _write(tmp_path, zipped=True)
    (tmp_path / f"{name}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}, .*get {name}.gz from"):
        _read(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "altered", "emptied"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_damaged_file(zipped: bool, damage: str, tmp_path: Path):
    _write(tmp_path, zipped=zipped)
    path = sorted(tmp_path.iterdir())[1]
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[-1]
    elif damage == "altered":
        content[len(content) // 2] ^= 1
    else:
        content.clear()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name} is truncated or .*get it again"):
        _read(tmp_path)


def test_other_data_of_the_right_form(tmp_path: Path):
    _write(tmp_path, zipped=False)
    with pytest.raises(ValueError, match="is truncated or altered"):
        mnist.mnist(tmp_path)


def test_without_a_folder_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(RuntimeError, match="get train-images.*folder as --data-dir"):
        _read(None)


class _Manager:
    """Stands for the download manager of tensorflow-datasets, with the files."""

    def __init__(self, download_dir: Path) -> None:
        self.folder = download_dir

    def download(self, url: str) -> Path:
        self.folder.mkdir(exist_ok=True)
        name = url.rpartition("/")[2]
        path = self.folder / f"renamed-{name}"
        path.write_bytes(gzip.compress(_content(name.removesuffix(".gz"))))
        return path


def test_without_a_folder_the_files_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    fake = SimpleNamespace(download=SimpleNamespace(DownloadManager=_Manager))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)

    assert len(_read(None).train_images) == COUNTS["train"]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_larger_than_any_is_refused_in_little_memory(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mnist, "LARGEST", 1 << 20)
    _write(tmp_path, zipped=zipped)
    name = mnist.LABELS[0]
    zeros = bytes(64 << 20)
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(zeros, 1) if zipped else zeros)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{name}.* holds more than 1,048,576"):
            _read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
