"""Data by `tensorflow-datasets` itself: all of its way but the network beyond this
machine, which a server on it stands for.
"""

import functools
import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from experiments.data import cifar10, mnist
from tests.experiments import test_data, test_mnist

ARCHIVE = "cifar-10-binary.tar.gz"


class Server(NamedTuple):
    """Files to download, and what was asked for."""

    folder: Path
    url: str
    asked: list[str]
    stop: threading.Event


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of a folder; what is downloaded is kept in another."""
    folder, asked, stop = tmp_path / "served", [], threading.Event()
    folder.mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if stop.is_set():
                self.send_error(404)
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield Server(folder, f"http://127.0.0.1:{running.server_port}/", asked, stop)
        running.shutdown()
        thread.join()


def test_an_archive_is_downloaded_once(server: Server, monkeypatch: pytest.MonkeyPatch):
    test_data._write("binary archive", server.folder)
    monkeypatch.setattr(cifar10, "ARCHIVE", server.url + ARCHIVE)
    for _ in range(2):
        dataset = cifar10.cifar10(None, digests=test_data._digests())
        expected, labels = test_data._images("test_batch")
        np.testing.assert_array_equal(dataset.test_images, expected)
        np.testing.assert_array_equal(dataset.test_labels, labels)
        server.stop.set()  # it is kept, in the format of tensorflow-datasets
    assert server.asked == [f"/{ARCHIVE}"]


def test_files_are_downloaded_once(server: Server, monkeypatch: pytest.MonkeyPatch):
    test_mnist._write(server.folder, zipped=True)
    monkeypatch.setattr(mnist, "URL", server.url)
    for _ in range(2):
        dataset = test_mnist._read(None)
        expected = test_mnist._array(mnist.IMAGES[0])[..., None]
        np.testing.assert_array_equal(dataset.train_images, expected)
        server.stop.set()
    assert sorted(server.asked) == sorted(f"/{name}.gz" for name in mnist.MD5)


def test_what_is_not_there_to_download(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cifar10, "ARCHIVE", server.url + ARCHIVE)
    with pytest.raises(
        RuntimeError, match=r"CIFAR-10 \(.*404.*get .* its folder as --data-dir"
    ):
        cifar10.cifar10(None, digests=test_data._digests())


def _keep(folder: Path, url: str, content: bytes) -> None:
    """Puts a file where `tensorflow-datasets` keeps what it downloaded from a URL.

    It knows the checksums of the official files, and names what it keeps by them.
    """
    from tensorflow_datasets.core.download import checksums, resource

    known = checksums.get_all_url_infos()[url]
    path = folder / "downloads" / resource.get_dl_fname(url, known.checksum)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    resource.write_info_file(url, path, "any", url.rpartition("/")[2], known)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `tensorflow-datasets`, and no way to any network."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "kept"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path / "kept"


def test_what_was_downloaded_from_the_official_url_is_read(kept: Path, tmp_path: Path):
    path = test_data._write("binary archive", tmp_path) / ARCHIVE
    _keep(kept, cifar10.ARCHIVE, path.read_bytes())
    dataset = cifar10.cifar10(None, digests=test_data._digests())
    expected, _ = test_data._images("data_batch_1")
    np.testing.assert_array_equal(dataset.train_images[: len(expected)], expected)


def test_official_files_are_read(kept: Path):
    for name in mnist.MD5:
        content = gzip.compress(test_mnist._content(name))
        _keep(kept, f"{mnist.URL}{name}.gz", content)
    dataset = test_mnist._read(None)
    expected = test_mnist._array(mnist.LABELS[1])
    np.testing.assert_array_equal(dataset.test_labels, expected)
