"""CIFAR-10, read in every form it is published in or refused if damaged; digits."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.data import cifar10, datasets

COUNT = 4  # images a batch


def _images(name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(cifar10.BATCHES.index(name))
    images = rng.integers(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
    return images, rng.integers(0, 10, COUNT).astype(np.uint8)


def _binary(name: str) -> bytes:
    images, labels = _images(name)
    flat = images.transpose(0, 3, 1, 2).reshape(COUNT, -1)
    return np.concatenate([labels[:, None], flat], axis=1).tobytes()


class _OldArray:
    """Pickles as NumPy under Python 2 did, in either order of the bytes."""

    def __init__(self, array: np.ndarray, *, fortran: bool = False) -> None:
        self.array, self.fortran = array, fortran

    def __reduce__(self) -> Any:
        arguments = (_Name("numpy", "ndarray"), (0,), "b")
        raw = self.array.tobytes(order="F" if self.fortran else "C")
        state = (1, self.array.shape, None, self.fortran, raw)
        return _Name("numpy.core.multiarray", "_reconstruct"), arguments, state


class _Name:
    """Pickles as a global name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        raise AssertionError("only ever pickled")


class _Pickler(pickle._Pickler):  # the Python one, whose `save` can be extended
    def save(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(obj, _Name):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        else:
            super().save(obj, *args, **kwargs)


def _dumps(value: Any) -> bytes:
    out = io.BytesIO()
    _Pickler(out, protocol=3).dump(value)
    return out.getvalue()


def _python(name: str) -> bytes:
    images, labels = _images(name)
    flat = images.transpose(0, 3, 1, 2).reshape(COUNT, -1)
    return _dumps({b"data": _OldArray(flat), b"labels": labels.tolist()})


def _digests() -> cifar10.Digests:
    return cifar10.Digests(
        {f"{n}.bin": hashlib.sha256(_binary(n)).hexdigest() for n in cifar10.BATCHES},
        {n: hashlib.md5(_python(n)).hexdigest() for n in cifar10.BATCHES},
    )


def _files(binary: bool) -> dict[str, bytes]:
    if binary:
        return {f"{name}.bin": _binary(name) for name in cifar10.BATCHES}
    return {name: _python(name) for name in cifar10.BATCHES}


def _write(form: str, folder: Path) -> Path:
    """Writes the batches in one form; returns what to give as --data-dir."""
    binary = "binary" in form
    inner = f"cifar-10-batches-{'bin' if binary else 'py'}"
    if "archive" in form:
        path = folder / f"cifar-10-{'binary' if binary else 'python'}.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for name, content in _files(binary).items():
                info = tarfile.TarInfo(f"{inner}/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return folder
    (folder / inner).mkdir()
    for name, content in _files(binary).items():
        (folder / inner / name).write_bytes(content)
    return folder / inner if "itself" in form else folder


FORMS = [
    f"{version} {form}"
    for version in ("binary", "python")
    for form in ("archive", "folder", "folder itself")
]


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_gives_the_same_arrays(form: str, tmp_path: Path):
    dataset = cifar10.cifar10(_write(form, tmp_path), digests=_digests())

    images, labels = zip(*(_images(name) for name in cifar10.BATCHES), strict=True)
    np.testing.assert_array_equal(dataset.train_images, np.concatenate(images[:5]))
    np.testing.assert_array_equal(dataset.train_labels, np.concatenate(labels[:5]))
    np.testing.assert_array_equal(dataset.test_images, images[5])
    assert dataset.test_labels.dtype == np.int32
    assert dataset.classes == 10


def test_a_folder_without_the_data(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"holds neither .* get one of them"):
        cifar10.cifar10(tmp_path, digests=_digests())


@pytest.mark.parametrize("form", ["binary folder itself", "python folder itself"])
@pytest.mark.parametrize("position", [0, 2, 5])
def test_a_missing_batch(form: str, position: int, tmp_path: Path):
    folder = _write(form, tmp_path)
    lost = sorted(folder.iterdir())[position]
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {lost.name}"):
        cifar10.cifar10(folder, digests=_digests())


@pytest.mark.parametrize("form", ["binary folder itself", "python folder itself"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_batch(form: str, damage: str, tmp_path: Path):
    folder = _write(form, tmp_path)
    path = sorted(folder.iterdir())[3]
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[-1]
    else:
        content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name} in .* is truncated or altered"):
        cifar10.cifar10(folder, digests=_digests())


def test_a_truncated_archive(tmp_path: Path):
    _write("python archive", tmp_path)
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cifar-10-python.tar.gz is truncated"):
        cifar10.cifar10(tmp_path, digests=_digests())


def _archive(path: Path, members: list[tuple[str, int]]) -> None:
    """Writes an archive of zeros, a megabyte at a time, by names and sizes."""
    with gzip.open(path, "wb", compresslevel=1) as out:
        for name, size in members:
            info = tarfile.TarInfo(name)
            info.size = size
            out.write(info.tobuf())
            for first in range(0, size, 1 << 20):
                out.write(bytes(min(1 << 20, size - first)))
            out.write(bytes(-size % 512))


LIMIT = 1 << 20  # for the tests, in place of 200 MiB


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize(
    "members",
    [
        [("data_batch_1", 64 << 20)],
        [("notes", 64 << 20)],
        [(f"notes-{i}", 1 << 18) for i in range(256)],
        [(f"data_batch_{1 + i % 5}.bin", 1 << 18) for i in range(256)],
        [("empty", 0)] * (4 << 11),
    ],
    ids=["batch", "other", "others", "batches", "headers"],
)
def test_an_archive_that_unpacks_to_too_much_is_refused_early(
    version: str,
    members: list[tuple[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(cifar10, "UNPACKED", LIMIT)
    monkeypatch.setattr(cifar10, "LARGEST", LIMIT // 2)
    path = tmp_path / f"cifar-10-{version}.tar.gz"
    _archive(path, members)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{path.name} would unpack to more than"):
            cifar10.cifar10(tmp_path, digests=_digests())
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()


def test_a_batch_larger_than_any_is_not_read(tmp_path: Path):
    folder = _write("binary folder itself", tmp_path)
    with (folder / "data_batch_1.bin").open("r+b") as file:
        file.truncate(1 << 36)  # without blocks on the disk
    with pytest.raises(
        ValueError, match=r"data_batch_1.bin holds more than 33,554,432"
    ):
        cifar10.cifar10(folder, digests=_digests())


@pytest.mark.parametrize("fortran", [False, True])
def test_the_order_of_a_pickled_array_is_kept(fortran: bool):
    flat = np.arange(12, dtype=np.uint8).reshape(3, 4)
    batch = cifar10.load_pickled_batch(
        _dumps({b"data": _OldArray(flat, fortran=fortran)})
    )
    np.testing.assert_array_equal(batch[b"data"].values, flat)


class _Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_not_executed(tmp_path: Path):
    harmful = pickle.dumps({"data": _Attack(tmp_path / "made")}, protocol=2)
    pickle.loads(harmful)
    assert (tmp_path / "made").exists(), "the attack works where pickles are trusted"
    (tmp_path / "made").rmdir()

    with pytest.raises(ValueError, match="mkdir, which no batch of CIFAR-10 needs"):
        cifar10.load_pickled_batch(harmful)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x80\x02N", b"\x80\x02h\x05.", b"garbage" * 9]
)
def test_what_is_no_pickled_batch(content: bytes):
    with pytest.raises(ValueError, match="not a batch of CIFAR-10"):
        cifar10.load_pickled_batch(content)


def test_without_a_folder_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(RuntimeError, match="give its folder as --data-dir"):
        cifar10.cifar10(None)


class _Manager:
    """Stands for the download manager of tensorflow-datasets, with the archive."""

    def __init__(self, download_dir: Path) -> None:
        self.folder = download_dir

    def download(self, url: str) -> Path:
        self.folder.mkdir()
        return _write("binary archive", self.folder) / url.rpartition("/")[2]


def test_without_a_folder_the_archive_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import sys

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    download = SimpleNamespace(DownloadManager=_Manager)
    fake = SimpleNamespace(download=download)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)

    dataset = cifar10.cifar10(None, digests=_digests())

    np.testing.assert_array_equal(dataset.test_images, _images("test_batch")[0])


def test_digits_are_real_and_in_a_fixed_order():
    dataset = datasets.digits()

    assert dataset.train_images.shape == (1437, 32, 32, 3)
    assert dataset.test_images.shape == (360, 32, 32, 3)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_images.max() == 255
    assert set(dataset.test_labels) == set(range(10))
    np.testing.assert_array_equal(
        dataset.test_images[0, ::4, ::4, 0], dataset.test_images[0, 3::4, 3::4, 2]
    )
    np.testing.assert_array_equal(dataset.test_labels, datasets.digits().test_labels)


def test_no_digit_is_both_trained_and_tested_on():
    from sklearn.datasets import load_digits

    loaded: Any = load_digits()
    dataset = datasets.digits()
    images = np.concatenate([dataset.train_images, dataset.test_images])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    small = np.minimum(16 * loaded.images, 255).reshape(-1, 64)
    found = np.column_stack([images[:, ::4, ::4, 0].reshape(-1, 64), labels])
    every = np.column_stack([small, loaded.target])
    order = [np.lexsort(rows.T) for rows in (found, every)]
    np.testing.assert_array_equal(found[order[0]], every[order[1]])
