"""What holds for checkpoints of every format: they are read as they were written."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze
from hypothesis import given, settings
from hypothesis import strategies as st

from deepcomp_jax import checkpoints
from deepcomp_jax.checkpoints import containers, msgpack_writing, shards
from tests.support import checkpoint_trees, laws
from tests.support.checkpoint_trees import OF_FORMAT, PATHS, Counted

FORMATS = sorted(PATHS)
WITHOUT_METADATA = {"npz", "msgpack"}


def _bits(tree: Any) -> dict[str, tuple[np.dtype, tuple[int, ...], bytes]]:
    """Dtype, shape and every bit of each leaf, by its name."""
    named = containers.named_leaves(containers.plain(tree))
    arrays = {name: np.asarray(leaf) for name, leaf in named.items()}
    return {name: (x.dtype, x.shape, x.tobytes()) for name, x in arrays.items()}


def _read(checkpoint: checkpoints.Checkpoint) -> dict[str, np.ndarray]:
    """The leaves, whole; what they say of themselves and their slices agree with it."""
    arrays = {name: np.asarray(leaf) for name, leaf in checkpoint.leaves.items()}
    for name, leaf in checkpoint.leaves.items():
        values = arrays[name]
        assert (leaf.shape, leaf.dtype) == (values.shape, values.dtype)
        assert (leaf.size, leaf.nbytes) == (values.size, values.nbytes)
        if leaf.ndim and len(leaf):
            laws.assert_identical(leaf[-1], values[-1])
            laws.assert_identical(leaf[1:3], values[1:3])
            laws.assert_identical(leaf[::-2], values[::-2])
    return arrays


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, format: str, data: st.DataObject
):
    tree = data.draw(checkpoint_trees.trees(format))
    if format == "dcz":  # its names have 1024 bytes at most
        tree = {k: v for k, v in tree.items() if len(k.encode()) < 500}
    if format == "safetensors-sharded":  # of no tensors, an index names no files
        tree = tree or {"w": np.ones(2)}
    metadata = data.draw(checkpoint_trees.metadata())
    path = tmp_path_factory.mktemp("formats") / PATHS[format]
    checkpoints.write(path, tree, metadata=metadata, format=format)
    with checkpoints.open(path) as found:
        assert found.format == format
        assert found.metadata == ({} if format in WITHOUT_METADATA else metadata)
        assert found.file_bytes == checkpoint_trees.size_on_disk(path)
        assert _bits(_read(found)) == _bits(tree)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_each_format_becomes_each_other(tmp_path: Path, source: str, target: str):
    rng = np.random.default_rng(0)
    tree = {
        f"layer{i}": rng.normal(size=(3, i)).astype(dtype)
        for i, dtype in enumerate(("f4", "f8", ml_dtypes.bfloat16, "i4", "u1", "?"))
    }
    first, second = tmp_path / PATHS[source], tmp_path / "two" / PATHS[target]
    second.parent.mkdir()
    checkpoints.write(first, tree, format=source)
    with checkpoints.open(first) as found:
        checkpoints.write(second, found.leaves, format=target)
    with checkpoints.open(second) as again:
        assert _bits(_read(again)) == _bits(tree)


@pytest.mark.parametrize("format", ["orbax", "msgpack", "dcz"])
def test_containers_come_back(tmp_path: Path, format: str):
    inner = [np.arange(3), {"e": {}, "n": None, "k": np.ones((2, 2))}]
    tree = {"step": np.int32(3), "layers": inner, "none": None, "empty": {}}
    path = tmp_path / PATHS[format]
    checkpoints.write(path, tree, format=format)
    expected = dict(tree)
    if format == "msgpack":
        expected["layers"] = {"0": inner[0], "1": inner[1]}
    with checkpoints.open(path) as found:
        laws.assert_identical(jax.tree.map(np.asarray, found.tree), expected)


@pytest.mark.parametrize("format", FORMATS)
def test_leaves_of_jax_and_containers_of_flax_are_written(tmp_path: Path, format: str):
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    path = tmp_path / PATHS[format]
    kernel = np.asarray(model.kernel[...])
    for tree in (
        nnx.state(model),
        freeze({"kernel": jnp.asarray(kernel), "bias": jnp.zeros(3)}),
        {"kernel": kernel.astype(">f4"), "bias": jnp.zeros(3)},
    ):
        checkpoints.write(path, tree, format=format)
        with checkpoints.open(path) as found:
            assert _bits(_read(found)) == _bits(
                {"kernel": kernel, "bias": np.zeros(3, np.float32)}
            )


# In .dcz files small leaves are worked on side by side, as `dc.write` says.
@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"dcz"}))
def test_one_leaf_is_in_memory_at_a_time(tmp_path: Path, format: str):
    tree = {f"layer{number}": Counted((300, 300)) for number in range(6)}
    Counted.most = 0
    path = tmp_path / PATHS[format]
    checkpoints.write(path, tree, format=format)
    assert [leaf.reads for leaf in tree.values()] == [1] * 6
    assert Counted.most <= 2
    with checkpoints.open(path) as found:
        assert all((np.asarray(leaf) == 1).all() for leaf in found.leaves.values())


@pytest.mark.parametrize("format", FORMATS)
def test_an_error_in_the_middle_leaves_what_was_there(tmp_path: Path, format: str):
    path = tmp_path / PATHS[format]
    checkpoints.write(path, {"w": np.ones(3)}, format=format)

    class Broken(Counted):
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        checkpoints.write(path, {"a": np.zeros(9), "b": Broken((3,))}, format=format)
    assert os.listdir(tmp_path) == [path.name]
    with checkpoints.open(path) as found:
        assert _bits(_read(found)) == _bits({"w": np.ones(3)})


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", ["<U3", "O", "M8[s]", ml_dtypes.int4, "f2,i4"])
def test_a_leaf_that_a_format_cannot_hold_is_named(
    tmp_path: Path, format: str, dtype: Any
):
    tree = {"inner": {"strange": np.zeros(2, dtype)}}
    with pytest.raises(ValueError, match="strange"):
        checkpoints.write(tmp_path / PATHS[format], tree, format=format)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
def test_random_keys_are_refused(tmp_path: Path, format: str):
    with pytest.raises(checkpoints.CheckpointError, match="'rng' is key<"):
        checkpoints.write(
            tmp_path / PATHS[format], {"rng": jax.random.key(0)}, format=format
        )


@pytest.mark.parametrize("format", FORMATS)
def test_dtypes_that_a_format_lacks_are_refused(tmp_path: Path, format: str):
    known = OF_FORMAT[format]
    for dtype in (np.dtype("complex128"), *checkpoint_trees.FLOAT8):
        if dtype not in known and format != "orbax":
            with pytest.raises(checkpoints.CheckpointError, match="'w' is"):
                checkpoints.write(
                    tmp_path / PATHS[format], {"w": np.zeros(2, dtype)}, format=format
                )


def test_the_format_follows_from_the_ending_or_is_asked_for(tmp_path: Path):
    with pytest.raises(checkpoints.CheckpointError, match="has no ending that says"):
        checkpoints.write(tmp_path / "folder", {"w": np.ones(2)})
    with pytest.raises(checkpoints.CheckpointError, match="no format 'gguf'"):
        checkpoints.write(tmp_path / "m.npz", {"w": np.ones(2)}, format="gguf")
    for ending in (".safetensors", ".NPZ", ".msgpack", ".dcz"):
        checkpoints.write(tmp_path / f"m{ending}", {"w": np.ones(2)})
        with checkpoints.open(tmp_path / f"m{ending}") as found:
            assert found.format == ending[1:].lower()


def test_two_leaves_of_one_name_are_refused(tmp_path: Path):
    tree = {"a/b": np.ones(2), "a": {"b": np.ones(2)}}
    for format in FORMATS:
        with pytest.raises(ValueError, match="two leaves are named 'a/b'"):
            checkpoints.write(tmp_path / PATHS[format], tree, format=format)
    dotted = {"a.b": np.ones(2), "a": {"b": np.ones(2)}}
    with pytest.raises(ValueError, match=r"two leaves the name 'a\.b'"):
        checkpoints.write(tmp_path / "orbax", dotted, format="orbax")


def test_large_leaves_are_sliced_without_reading_the_rest(tmp_path: Path):
    """Files of terabytes, of which the disk holds next to nothing."""
    rows, columns = 1 << 24, 1 << 14
    header = (
        f'{{"w":{{"dtype":"F32","shape":[{rows},{columns}],'
        f'"data_offsets":[0,{4 * rows * columns}]}}}}'
    ).encode()
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.seek(4 * (columns * 5 + 7), 1)
        file.write(np.float32(3).tobytes())
        file.truncate(8 + len(header) + 4 * rows * columns)
    with checkpoints.open(path) as found:
        leaf = found.leaves["w"]
        assert leaf.nbytes == 1 << 40
        assert leaf[5][7] == 3 and leaf[4:6].sum() == 3 and not leaf[-1].any()


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=8),
    most=st.integers(1, 200),
)
def test_shards_have_at_most_so_many_bytes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int
):
    folder = tmp_path_factory.mktemp("shards") / "m"
    tree = {f"w{i}": np.full(n, i, np.int16) for i, n in enumerate(sizes)}
    shards.write(folder, tree, {"format": "np"}, most)
    parts = sorted(folder.glob("*.safetensors"))
    assert [path.name for path in parts] == [
        f"model-{i + 1:05}-of-{len(parts):05}.safetensors" for i in range(len(parts))
    ]
    for part in parts:
        with checkpoints.open(part) as own:
            total = sum(leaf.nbytes for leaf in own.leaves.values())
            assert total <= most or len(own.leaves) == 1
    other = folder / "other.safetensors.index.json"
    for path in (folder, folder / shards.INDEX, other, folder):
        if path == other:
            (folder / shards.INDEX).rename(other)
        with checkpoints.open(path) as found:
            assert found.metadata == {"format": "np"}
            assert _bits(_read(found)) == _bits(tree)


def test_arrays_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(msgpack_writing, "MAX_CHUNK", 100)
    tree = {
        "a": np.arange(300.0).reshape(20, 15),
        "b": np.arange(13, dtype=np.int64),
        "c": np.arange(12, dtype=np.int64),
    }
    checkpoints.write(tmp_path / "m.msgpack", tree)
    with checkpoints.open(tmp_path / "m.msgpack") as found:
        assert _bits(_read(found)) == _bits(tree)


def test_kept_parts_have_the_names_they_had():
    tree = {"a": [1, (2, 3), {"b": 4}], "c": {"d": 5}, "e": None}
    for chosen in ({"a/1/0"}, {"a/0", "a/1/0", "a/1/1", "a/2/b"}, {"c/d"}, set()):
        found = containers.kept(tree, chosen.__contains__)
        assert containers.named_leaves(found).keys() == chosen
    assert containers.kept(tree, lambda name: name[0] == "a") == {"a": tree["a"]}
