"""The libraries of the formats read what we write, and we read what they write."""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import safetensors
import safetensors.numpy
from flax.training.train_state import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

from deepcomp_jax import checkpoints
from deepcomp_jax.checkpoints import msgpack_writing, orbax_writing
from tests.support import checkpoint_trees, laws
from tests.support.checkpoint_trees import BFLOAT16, BUILTIN

BOTH = [*BUILTIN, BFLOAT16]  # what the library of safetensors has in NumPy


def _read(path: Path) -> Any:
    with checkpoints.open(path) as found:
        return jax.tree.map(np.asarray, found.tree)


# ---- safetensors --------------------------------------------------------------------


@settings(max_examples=50)
@given(
    tree=st.dictionaries(checkpoint_trees.keys(), checkpoint_trees.arrays(BOTH)),
    metadata=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=1),
)
def test_safetensors_are_those_of_the_library(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, metadata: dict[str, str]
):
    """Byte for byte, and each reads the files of the other."""
    folder = tmp_path_factory.mktemp("safetensors")
    ours, theirs = folder / "ours.safetensors", folder / "theirs.safetensors"
    tree = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in tree.items()}
    checkpoints.write(ours, tree, metadata=metadata)
    safetensors.numpy.save_file(tree, theirs, metadata or None)
    assert ours.read_bytes() == theirs.read_bytes()
    laws.assert_identical(_read(theirs), tree)
    with safetensors.safe_open(ours, "np") as found:
        assert (found.metadata() or {}) == metadata
        laws.assert_identical(found.get_tensors(), tree)


def test_float8_in_safetensors_is_what_the_library_says(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    names = ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu")
    dtypes = {name: getattr(ml_dtypes, f"float8_{name}") for name in names}
    checkpoints.write(path, {k: np.ones(2, dtype) for k, dtype in dtypes.items()})
    codes = {"e4m3fn": "F8_E4M3", "e8m0fnu": "F8_E8M0"}
    with safetensors.safe_open(path, "np") as found:
        for name in names:
            code = codes.get(name, f"F8_{name.upper()}")
            assert found.get_slice(name).get_dtype() == code


# ---- NumPy --------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    tree=st.dictionaries(
        st.sampled_from(["a", "b/c", "b.npy", "ä b"]),
        checkpoint_trees.arrays([*BUILTIN, *(d.newbyteorder(">") for d in BUILTIN)]),
    ),
    save=st.sampled_from([np.savez, np.savez_compressed]),
)
def test_archives_of_numpy(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, save: Any
):
    folder = tmp_path_factory.mktemp("npz")
    native = {k: a.astype(a.dtype.newbyteorder("=")) for k, a in tree.items()}
    save(folder / "theirs.npz", **tree)
    laws.assert_identical(_read(folder / "theirs.npz"), native)
    with checkpoints.open(folder / "theirs.npz") as found:
        for name, leaf in found.leaves.items():
            if leaf.ndim:
                laws.assert_identical(leaf[1:], native[name][1:])
    checkpoints.write(folder / "ours.npz", tree)
    with np.load(folder / "ours.npz") as found:
        laws.assert_identical(
            {k: a.astype(native[k].dtype) for k, a in found.items()}, native
        )


def test_bfloat16_in_archives_is_what_numpy_makes_of_it(tmp_path: Path):
    values = np.arange(6).reshape(2, 3).astype(BFLOAT16)
    np.savez(tmp_path / "theirs.npz", w=values)
    laws.assert_identical(_read(tmp_path / "theirs.npz"), {"w": values})
    checkpoints.write(tmp_path / "ours.npz", {"w": values})
    for name in ("ours", "theirs"):
        with np.load(tmp_path / f"{name}.npz") as found:
            assert found["w"].dtype == np.dtype("V2")
            laws.assert_identical(found["w"].view(BFLOAT16), values)


# ---- Flax ---------------------------------------------------------------------------


def _state() -> TrainState:
    params = {
        "dense.0": {"kernel": jnp.ones((3, 4), jnp.bfloat16), "bias": jnp.arange(4.0)},
        "f8": jnp.ones(3, jnp.float8_e4m3fn),
        "layers": [jnp.zeros(2, jnp.int8), jnp.full((2, 2), jnp.nan)],
    }
    return TrainState.create(apply_fn=print, params=params, tx=optax.adam(0.1))


def test_states_of_flax(tmp_path: Path):
    state = _state()
    expected = flax.serialization.to_state_dict(state)
    path = tmp_path / "m.msgpack"
    path.write_bytes(flax.serialization.to_bytes(state))
    found = _read(path)
    laws.assert_identical(found, expected)
    checkpoints.write(tmp_path / "again.msgpack", found)
    restored = flax.serialization.from_bytes(
        state, (tmp_path / "again.msgpack").read_bytes()
    )
    laws.assert_identical(restored, state)


def test_numbers_and_scalars_of_flax(tmp_path: Path):
    tree = {
        "i": 3, "big": 2**63, "neg": [-1, -200, -70000, -(2**40)], "f": 0.5, "b": True,
        "c": 1 + 2j, "s": np.float32(2), "n": None, "many": list(range(20)),
        "long": {f"key{i}" * 9: np.int16(i) for i in range(70)},
    }  # fmt: skip
    path = tmp_path / "m.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    found = _read(path)
    laws.assert_identical(found, jax.tree.map(np.asarray, tree))


@pytest.mark.parametrize("most", [8, 60, 100])
def test_chunks_of_flax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int):
    tree = {"a": np.arange(60.0).reshape(5, 4, 3), "b": np.ones(2, np.int8)}
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", most)
    monkeypatch.setattr(msgpack_writing, "MAX_CHUNK", most)
    path = tmp_path / "m.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    laws.assert_identical(_read(path), tree)
    checkpoints.write(path, tree)
    restored = flax.serialization.msgpack_restore(path.read_bytes())
    laws.assert_identical(restored, tree)


# ---- Orbax --------------------------------------------------------------------------


@pytest.fixture
def orbax() -> Iterator[Any]:
    """Orbax, whose warnings are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import orbax.checkpoint

        yield orbax.checkpoint


def _plain(state: TrainState) -> Any:
    """What Orbax makes of a state: its containers are dictionaries and lists."""
    count, inner = state.opt_state[0].count, state.opt_state[0]
    return {
        "step": np.int64(state.step),
        "params": jax.tree.map(np.asarray, state.params),
        "opt_state": [
            {"count": np.asarray(count), "mu": inner.mu, "nu": inner.nu},
            None,
        ],
    }


@pytest.mark.parametrize("driver", ["standard", "files", "zarr3", "v1"])
def test_states_of_orbax(tmp_path: Path, orbax: Any, driver: str):
    state, path = _state(), tmp_path / "state"
    if driver == "standard":
        with orbax.StandardCheckpointer() as saver:
            saver.save(path, state, custom_metadata={"by": "me", "steps": 3})
    elif driver == "v1":
        from orbax.checkpoint.experimental import v1

        v1.save(path, state, custom_metadata={"by": "me", "steps": 3})
    else:
        settings = {"use_ocdbt": driver != "files", "use_zarr3": driver == "zarr3"}
        handler = orbax.PyTreeCheckpointHandler(**settings)
        with orbax.Checkpointer(handler) as saver:
            saver.save(path, state, custom_metadata={"by": "me", "steps": 3})
    laws.assert_identical(_read(path), _plain(state))
    with checkpoints.open(path) as found:
        assert found.metadata == {"by": "me", "steps": "3"}
        assert found.file_bytes == checkpoint_trees.size_on_disk(path)
        kernel = found.leaves["params/dense.0/kernel"]
        assert (kernel.shape, kernel.dtype) == ((3, 4), BFLOAT16)
        laws.assert_identical(kernel[1:3], np.ones((2, 4), BFLOAT16))


def test_items_and_texts_of_orbax(tmp_path: Path, orbax: Any):
    with orbax.CheckpointManager(tmp_path / "run") as manager:
        items = {
            "state": orbax.args.PyTreeSave({"w": np.ones(2), "by": "me", "e": []}),
            "ema": orbax.args.StandardSave({"w": np.zeros(3, np.int8)}),
            "notes": orbax.args.JsonSave({"a": 1}),
        }
        manager.save(5, args=orbax.args.Composite(**items))
    step = tmp_path / "run" / "5"
    found = _read(step)
    assert found["state"]["by"] == "me" and found["state"]["e"] == []
    laws.assert_identical(found["state"]["w"], np.ones(2))
    laws.assert_identical(found["ema"], {"w": np.zeros(3, np.int8)})
    laws.assert_identical(_read(step / "ema"), {"w": np.zeros(3, np.int8)})
    with pytest.raises(checkpoints.CheckpointError, match=r"such as .*run/5$"):
        checkpoints.open(tmp_path / "run")


def test_orbax_reads_what_we_write(
    tmp_path: Path, orbax: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(orbax_writing, "_CHUNK", 100)
    monkeypatch.setattr(orbax_writing, "_BATCH", 300)
    rng = np.random.default_rng(0)
    tree = {
        "params": {
            "stacked": rng.normal(size=(7, 5, 3)).astype(np.float32),
            "a/b": np.arange(50, dtype=np.int64),
            "layers": [np.ones((2, 2), BFLOAT16), np.zeros((0, 3))],
        },
        "none": None, "empty": {}, "step": np.int32(3), "flag": np.bool_(True),
        "c": np.ones(2, np.complex64), "f8": np.ones(3, ml_dtypes.float8_e5m2),
    }  # fmt: skip
    path = tmp_path / "ours"
    checkpoints.write(path, tree, metadata={"by": "me"}, format="orbax")
    with orbax.StandardCheckpointer() as loader:
        laws.assert_identical(jax.tree.map(np.asarray, loader.restore(path)), tree)
        described = loader.metadata(path)
        assert described.custom_metadata == {"by": "me"}
        laws.assert_identical(
            jax.tree.map(
                lambda own: np.zeros(own.shape, own.dtype), described.item_metadata.tree
            ),
            jax.tree.map(np.zeros_like, tree),
        )
    from orbax.checkpoint.experimental import v1

    laws.assert_identical(jax.tree.map(np.asarray, v1.load(path)), tree)
    checkpoints.write(path, {"w": np.ones(2)}, format="orbax")  # in its place
    with orbax.StandardCheckpointer() as loader:
        laws.assert_identical(loader.restore(path), {"w": np.ones(2)})


def test_what_orbax_wrote_is_replaced_but_nothing_else(tmp_path: Path, orbax: Any):
    path = tmp_path / "state"
    with orbax.StandardCheckpointer() as saver:
        saver.save(path, {"w": np.ones(2)})
    checkpoints.write(path, {"w": np.zeros(3)}, format="orbax")
    laws.assert_identical(_read(path), {"w": np.zeros(3)})
    (path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"'notes\.txt'.* would be lost"):
        checkpoints.write(path, {"w": np.zeros(4)}, format="orbax")
    assert (path / "notes.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["state"]
    with pytest.raises(NotADirectoryError):
        checkpoints.write(path / "notes.txt", {"w": np.zeros(4)}, format="orbax")


def test_without_the_library_one_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoints.write(tmp_path / "m", {"w": np.ones(2)}, format="orbax")
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    needs = r'need TensorStore: pip install "deepcomp-jax\[checkpoints\]"'
    with pytest.raises(checkpoints.CheckpointError, match=needs):
        checkpoints.open(tmp_path / "m")
    with pytest.raises(checkpoints.CheckpointError, match=needs):
        checkpoints.write(tmp_path / "n", {"w": np.ones(2)}, format="orbax")
    assert os.listdir(tmp_path) == ["m"]
