"""Files that are read piece by piece: cut meanwhile, without a size, by threads."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import FormatError
from deepcomp_jax._types import Compressed, DenseLeaf
from deepcomp_jax.format import container, leaf_reading, reader, source
from tests.support import small_parts

VALUES = list(np.random.default_rng(0).integers(1, 2**63, (2, 5, 400)))  # noise


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of two leaves, each of five parts."""
    network = Compressed([0, 1], tuple(map(DenseLeaf, VALUES)), ())
    with small_parts.limited(400):
        (tmp_path / "m.dcz").write_bytes(container.dumps(network))
    return tmp_path / "m.dcz"


@given(st.binary(max_size=50), st.integers(0, 60), st.integers(-5, 60))
def test_bytes_in_memory(data: bytes, offset: int, size: int):
    found = source.of_bytes(data)
    assert found.size == len(data)
    if size >= 0:
        assert found.read(offset, size) == data[offset : offset + size]


@pytest.mark.parametrize("positioned", [True, False], ids=["pread", "seek"])
@pytest.mark.parametrize("most", [None, 3])
def test_a_file_gives_the_bytes_that_are_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, positioned: bool, most: int | None
):
    """Also where the system has no `pread`, and where it gives a few bytes only."""
    name = "pread" if positioned else "read"
    if not positioned:
        monkeypatch.delattr(os, "pread")
    if most is not None:
        whole = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda number, size, *at: whole(number, min(size, most), *at)
        )
    data = path.read_bytes()
    with source.opened(path) as file:
        assert file.size == len(data)
        for offset, size in [(0, 0), (0, 14), (7, 100), (len(data) - 3, 9), (10**9, 5)]:
            assert file.read(offset, size) == data[offset : offset + size]


@pytest.mark.parametrize("positioned", [True, False], ids=["pread", "seek"])
def test_threads_read_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, positioned: bool
):
    if not positioned:
        monkeypatch.delattr(os, "pread")
    data = path.read_bytes()
    spans = [(7 * i % len(data), 1 + 31 * i % 300) for i in range(2000)]
    with source.opened(path) as file, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda span: file.read(*span), spans))
    assert found == [data[offset : offset + size] for offset, size in spans]


@pytest.mark.spec("C41")
@pytest.mark.parametrize("grows", [False, True])
def test_a_file_that_is_cut_while_it_is_open(path: Path, grows: bool):
    """An error of ours, not the end of the process; the rest can still be read."""
    data = path.read_bytes()
    with small_parts.limited(400), source.opened(path) as file:
        header = reader.read_header(file)
        first, second = header.leaves
        cut = second.sections[2].offset + 100
        os.truncate(path, cut)
        if grows:  # to zeros, as large as it was
            os.truncate(path, len(data))
        assert (
            leaf_reading.read_values(file, header, first).tolist() == VALUES[0].tolist()
        )
        rows = leaf_reading.read_values(file, header, second, slice(0, 2))
        assert rows.tolist() == VALUES[1][:2].tolist()
        for rows in (None, slice(1, 3), slice(4, 5)):
            with pytest.raises(FormatError, match="leaf '1': .* damaged") as caught:
                leaf_reading.read_values(file, header, second, rows)
            assert caught.value.clause == "C33"
            assert 0 <= caught.value.offset <= len(data)
        for read in (reader.read_network, reader.read_tree):
            with pytest.raises(FormatError, match="C33"):
                read(file, header)


@pytest.mark.spec("C32", "C4")
def test_a_file_that_is_cut_before_its_header_is_read(path: Path):
    size = path.stat().st_size
    for cut in (0, 3, 10, 40, size // 2, size - 1):
        with source.opened(path) as file:
            os.truncate(path, cut)
            with small_parts.limited(400):
                with pytest.raises(FormatError) as caught:
                    reader.read_network(file, reader.read_header(file))
                assert 0 <= caught.value.offset <= size


def test_a_named_pipe_is_read_as_a_file(path: Path, tmp_path: Path):
    data = container.dumps(Compressed([0, 1], tuple(map(DenseLeaf, VALUES)), ()))
    os.mkfifo(tmp_path / "pipe")
    for read in (dc.load, dc.report, lambda path: container.load_leaf(path, "1")):
        path.write_bytes(data)
        expected = read(path)
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[data])
        writer.start()
        found = read(tmp_path / "pipe")
        writer.join()
        assert repr(found) == repr(expected)


def test_a_device_without_an_end_is_not_read_to_it():
    code = (
        "from deepcomp_jax import FormatError; import deepcomp_jax as dc\n"
        "try: dc.load('/dev/zero')\n"
        "except FormatError as error: print(error.clause)"
    )
    limited = f'ulimit -v {1 << 24}; exec {sys.executable} -c "$0"'
    found = subprocess.run(
        ["bash", "-c", limited, code], capture_output=True, check=False, timeout=100
    )
    assert found.stdout.decode() == "C1\n"


def test_a_file_is_closed(path: Path):
    with source.opened(path) as file:
        assert file.read(0, 4) == b"\x89DCZ"
    with pytest.raises(ValueError, match="closed file"):
        file.read(0, 4)
    with pytest.raises(FileNotFoundError), source.opened(path.with_name("none")):
        pass
