"""`dc.open`: leaves, slices and parts of trees, read when they are asked for."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import trees
from deepcomp_jax._types import Compressed
from deepcomp_jax.format import container, source
from tests.support import laws, small_parts, strategies


@pytest.fixture(autouse=True)
def _small_parts() -> Iterator[None]:
    """Leaves of a few hundred values have several parts."""
    with small_parts.limited(200):
        yield


def _tree() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "layers": {
            "kernel": rng.normal(size=(6, 10, 20)).astype(np.float32),
            "bias": rng.normal(size=(6, 20)).astype(np.float32),
        },
        "mask": (rng.random((40, 30)) < 0.1).astype(np.int8),
        "heads": [rng.normal(size=500).astype(np.float32), None, (np.int32(3),)],
        "none": None,
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "model.dcz"
    dc.save(found, dc.compress(_tree()), metadata={"source": "here", "a": "ü"})
    return found


@pytest.mark.spec("C42", "C58")
@settings(max_examples=40)
@given(strategies.networks(), st.data())
def test_every_leaf_and_slice_is_that_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, network: Compressed, data: st.DataObject
):
    path = tmp_path_factory.mktemp("opened") / "m.dcz"
    path.write_bytes(container.dumps(network))
    expected = [container.values(leaf, network.codebooks) for leaf in network.leaves]
    with dc.open(path) as file:
        assert len(file) == len(expected)
        for leaf, values in zip(file.values(), expected, strict=True):
            assert (leaf.shape, leaf.dtype, leaf.size, leaf.ndim, leaf.nbytes) == (
                values.shape, values.dtype, values.size, values.ndim, values.nbytes
            )  # fmt: skip
            laws.assert_identical(np.asarray(leaf), values)
            if values.ndim:
                rows = data.draw(st.slices(len(values)))
                laws.assert_identical(leaf[rows], values[rows])
        loaded = trees.named_leaves(file.load())
        assert list(loaded) == list(trees.named_leaves(container.variables(network)))
        laws.assert_identical(list(loaded.values()), expected)


@pytest.mark.parametrize(
    "index",
    [
        0, -1, 5, np.int64(2), slice(None), slice(1, 3), slice(None, None, -2),
        slice(4, 1), slice(5, None, 3), (2, 3), (slice(1, 4), ..., 7), (1, ..., None),
        ..., (), (..., 2), [0, 3], np.array([1, 1]), (slice(None), [2, 0]),
    ],
)  # fmt: skip
def test_a_leaf_is_indexed_as_an_array_is(path: Path, index: Any):
    with dc.open(path) as file:
        leaf = file["layers/kernel"]
        laws.assert_identical(leaf[index], np.asarray(leaf)[index])


def test_what_is_out_of_bounds_is_an_error(path: Path):
    with dc.open(path) as file:
        for wrong in (6, -7):
            said = f"index {wrong} is out of bounds: .*'layers/kernel'.* has length 6"
            with pytest.raises(IndexError, match=said):
                file["layers/kernel"][wrong]
        with pytest.raises(TypeError, match="has no axis"):
            len(file["heads/2/0"])
        with pytest.raises(KeyError, match="no leaf 'layers/wrong': there are"):
            file["layers/wrong"]


@pytest.mark.spec("C42")
def test_a_slice_reads_no_more_of_the_file_than_it_needs(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    read: list[tuple[int, int]] = []
    whole = source._piece

    def counted(number: int, offset: int, size: int) -> bytes:
        read.append((offset, size))
        return whole(number, offset, size)

    monkeypatch.setattr(source, "_piece", counted)
    with dc.open(path) as file:
        leaf = file["layers/kernel"]
        read.clear()
        leaf[2]
        entry = leaf.entry
        assert read == [(entry.sections[2].offset, entry.sections[2].size)]
        assert entry.layout.parts.number == 6


def test_a_part_of_the_tree_keeps_its_containers(path: Path):
    with dc.open(path) as file:
        whole = file.load()
        assert jax.tree.structure(whole) == jax.tree.structure(_tree())
        part = file.load(only="^layers/b|heads/2")
        assert set(part) == {"layers", "heads"} and set(part["layers"]) == {"bias"}
        assert part["heads"][:2] == [None, None] and part["heads"][2] == (3,)
        laws.assert_identical(part["layers"]["bias"], whole["layers"]["bias"])
        laws.assert_identical(dc.load(path, only="mask"), {"mask": whole["mask"]})
        assert list(file.select("^heads")) == ["heads/0", "heads/2/0"]
        with pytest.raises(ValueError, match="'wrong' matches no leaf: there are"):
            file.load(only="wrong")


def test_a_part_goes_into_a_tree_that_keeps_the_rest(path: Path):
    like = jax.tree.map(lambda leaf: jnp.zeros_like(leaf), _tree())
    loaded = dc.load(path, like, only="kernel")
    assert loaded["mask"] is like["mask"]
    laws.assert_identical(loaded["layers"]["kernel"], dc.load(path)["layers"]["kernel"])
    wrong = like | {"layers": like["layers"] | {"kernel": jnp.zeros(3)}}
    with pytest.raises(ValueError, match="does not fit `like`"):
        dc.load(path, wrong, only="kernel")
    assert dc.load(path, wrong, only="bias")["layers"]["kernel"].shape == (3,)
    with pytest.raises(ValueError, match="(?s)only in the file.*give `only` too"):
        dc.load(path, {"layers": like["layers"]})


def test_what_is_said_of_a_leaf_needs_no_reading(path: Path):
    with dc.open(path) as file:
        assert file.metadata == {"source": "here", "a": "ü"}
        assert file.file_bytes == path.stat().st_size
        assert repr(file) == f"File(5 leaves, {file.file_bytes} bytes)"
        leaf = file.tree["layers"]["kernel"]
        assert repr(leaf) == f"Leaf('layers/kernel', float32[6, 10, 20], {leaf.coding})"
        assert 0 < leaf.stored_bytes < leaf.nbytes and leaf.copy_of is None
        assert len(leaf) == 6


def test_tied_leaves_say_of_what_they_are_copies(tmp_path: Path):
    table = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    dc.save(tmp_path / "m.dcz", dc.compress({"a": table, "b": table.copy()}, []))
    with dc.open(tmp_path / "m.dcz") as file:
        assert file["b"].copy_of == "a" and file["b"].stored_bytes == 0
        assert file["b"].coding == "copy"
        laws.assert_identical(file["b"][3:5], table[3:5])
        both = file.load()
        both["a"][:] = 0
        laws.assert_identical(both["b"], table)


def test_a_closed_file_says_so(path: Path):
    file = dc.open(path)
    leaf = file["mask"]
    file.close()
    file.close()
    for read in (lambda: np.asarray(leaf), lambda: leaf[0], file.load):
        with pytest.raises(ValueError, match="the file was closed"):
            read()


def test_a_file_that_cannot_be_opened_is_left_closed(tmp_path: Path):
    (tmp_path / "m.dcz").write_bytes(b"something else")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(dc.FormatError):
        dc.open(tmp_path / "m.dcz")
    assert len(os.listdir("/proc/self/fd")) == before


def test_several_threads_read_at_once(path: Path):
    with dc.open(path) as file, ThreadPoolExecutor(8) as pool:
        expected = {name: np.asarray(leaf) for name, leaf in file.items()}
        names = [name for _ in range(20) for name in file]
        for name, values in zip(
            names, pool.map(lambda n: np.asarray(file[n]), names), strict=True
        ):
            laws.assert_identical(values, expected[name])


@pytest.mark.spec("C31")
def test_memory_is_bounded_by_what_is_read_at_a_time(path: Path):
    least = 6 * 10 * 20 * 4  # bytes of the kernel
    with dc.open(path, max_bytes=least + 200 * 8) as file:
        np.asarray(file["layers/kernel"])
        with pytest.raises(dc.FormatError, match="C31"):
            file.load()
    with dc.open(path, max_bytes=least) as file:
        with pytest.raises(dc.FormatError, match="C31"):
            np.asarray(file["layers/kernel"])
        assert file["layers/kernel"][0].shape == (10, 20)


def test_leaves_go_to_the_device(path: Path):
    device = jax.devices()[0]
    with dc.open(path) as file:
        loaded = file.load(only="layers", device=device)
        laws.assert_identical(loaded, file.load(only="layers"))
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))


def test_a_file_cut_short_while_it_is_open_is_found_damaged(path: Path):
    with dc.open(path) as file:
        os.truncate(path, 100)
        with pytest.raises(dc.FormatError, match="C33|C3"):
            np.asarray(file["layers/kernel"])


@pytest.mark.parametrize(
    ("content", "clause", "message"),
    [
        (b"", "C1", "the file is cut: it has no more than 0 bytes"),
        (b"\x89DC", "C1", "the file is cut: it has no more than 3 bytes"),
        (b"\x89DCZ", "C2", "the file is cut: it has no more than 4 bytes"),
        (
            b"PK\3\4 an archive",
            "C1",
            "not a .dcz file: .* deepcomp_jax.checkpoints.open",
        ),
    ],
)
def test_what_is_no_file_of_ours_is_named(
    tmp_path: Path, content: bytes, clause: str, message: str
):
    (tmp_path / "m.dcz").write_bytes(content)
    with pytest.raises(dc.FormatError, match=message) as caught:
        dc.load(tmp_path / "m.dcz")
    assert caught.value.clause == clause


def test_a_file_of_another_length_says_whether_it_is_cut(path: Path):
    data = path.read_bytes()
    for size in (30, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(dc.FormatError, match=f"the file .*{size}: it is cut"):
            dc.load(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(dc.FormatError, match="something was added to it"):
        dc.load(path)


def test_a_limit_that_is_no_number_is_an_error(path: Path):
    wrong: Any = "1 GB"
    for read in (dc.load, dc.open, dc.report):
        with pytest.raises(TypeError, match="max_bytes is a number of bytes.*'1 GB'"):
            read(path, max_bytes=wrong)
    with pytest.raises(TypeError, match="max_bytes is a number of bytes.*'1 GB'"):
        dc.loads(path.read_bytes(), max_bytes=wrong)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="max_bytes is a number of bytes.*'1 GB'"):
        dc.write(path, {"a": np.ones(3)}, max_bytes=wrong)
    assert path.read_bytes() == before
    assert dc.load(path, max_bytes=1e9).keys() == _tree().keys()
