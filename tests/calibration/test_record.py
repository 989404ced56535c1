"""Statistics are saved, and loaded from files that nobody trusts."""

import io
import json
import zipfile

import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax.checkpoints import CheckpointError
from tests.support import sums

R = sums.random(4)


@pytest.fixture(scope="module")
def found():
    def fn(p, ids):
        return p["a/b"]["e"][ids] @ p["w"] @ p["w"].T @ p["a/b"]["e"].T

    params = {"a/b": {"e": R(7, 4)}, "w": R(4, 3), "ü": R(2)}
    return dc.calibrate(fn, params, [np.array([[1, 2], [5, 6]])])


def test_what_is_loaded_is_what_was_saved(found, tmp_path):
    found.save(tmp_path / "c.npz")
    again = dc.calibration.load(tmp_path / "c.npz")
    assert again.notes == found.notes == ("ü: not used: no output depends on it",)
    assert again.examples == found.examples == 2
    assert list(again.leaves) == list(found.leaves)
    for name, uses in found.leaves.items():
        for a, b in zip(again.leaves[name], uses, strict=True):
            assert a[:4] == b[:4] and a.count == b.count
            np.testing.assert_array_equal(a.input_moments, b.input_moments)
            np.testing.assert_array_equal(a.output_moments, b.output_moments)
            assert a.input_moments.dtype == np.float32
    assert again.sensitivity.keys() == found.sensitivity.keys()
    for name, value in found.sensitivity.items():
        np.testing.assert_array_equal(again.sensitivity[name], value)
        assert again.sensitivity[name].dtype == np.float64


def test_memory_is_bounded_before_anything_is_read(found, tmp_path):
    found.save(tmp_path / "c.npz")
    with pytest.raises(
        CheckpointError, match="takes [0-9]+ bytes, above max_bytes=300"
    ):
        dc.calibration.load(tmp_path / "c.npz", max_bytes=300)


def test_a_header_that_promises_more_than_is_there(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    )
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("index.npy", header.getvalue())
    with pytest.raises(CheckpointError):
        dc.calibration.load(tmp_path / "c.npz")


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "c.npz", index=np.array([{"a": 1}], object))
    with pytest.raises(CheckpointError, match="pickled objects"):
        dc.calibration.load(tmp_path / "c.npz")


def test_other_files(tmp_path):
    (tmp_path / "c.npz").write_bytes(b"not a zip")
    with pytest.raises(CheckpointError, match="no .npz file"):
        dc.calibration.load(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", w=np.eye(2))
    with pytest.raises(CheckpointError, match="make it with Calibration.save"):
        dc.calibration.load(tmp_path / "d.npz")
    with pytest.raises(FileNotFoundError):
        dc.calibration.load(tmp_path / "e.npz")


def saved(found, path):
    found.save(path)
    with np.load(path) as archive:
        return dict(archive)


def index_of(arrays):
    return json.loads(arrays["index"].tobytes())


def written(path, arrays, index):
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    np.savez(path, **{**arrays, "index": np.frombuffer(text, np.uint8)})
    return path


INDICES = {
    "no JSON": lambda index: b"{",
    "no dictionary": lambda index: [1],
    "no leaves": lambda index: index.pop("leaves"),
    "deep": lambda index: b"[" * 200_000,
    "another version": lambda index: index.update(version=2),
    "a kind": lambda index: index["leaves"]["w"][0].update(kind="magic"),
    "an axis twice": lambda index: index["leaves"]["w"][0].update(inputs=[1]),
    "an axis below": lambda index: index["leaves"]["w"][0].update(inputs=[-1]),
    "many axes": lambda index: index["leaves"]["w"][0].update(inputs=[*range(99)]),
    "axes of text": lambda index: index["leaves"]["w"][0].update(inputs="01"),
    "a batch": lambda index: index["leaves"]["w"][0].update(batch=[0], inputs=[]),
    "a count": lambda index: index["leaves"]["w"][0].update(count=1.5),
    "a negative count": lambda index: index["leaves"]["w"][0].update(count=-1),
    "a boolean": lambda index: index.update(examples=True),
    "a use": lambda index: index["leaves"]["w"].append({}),
    "uses": lambda index: index["leaves"].update(w=3),
    "notes": lambda index: index.update(notes=[3]),
    "a name": lambda index: index.update(sensitivity=[["w"], "x", "y"]),
    "sensitivities": lambda index: index["sensitivity"].append("more"),
}


@pytest.mark.parametrize("name", INDICES)
def test_a_list_of_leaves_that_is_wrong(found, tmp_path, name):
    arrays = saved(found, tmp_path / "c.npz")
    index = index_of(arrays)
    changed = INDICES[name](index)
    text = changed if isinstance(changed, (bytes, list)) else index
    path = written(tmp_path / "d.npz", arrays, text)
    with pytest.raises(CheckpointError, match="holds no statistics"):
        dc.calibration.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update({"inputs/1/0": np.eye(4)}),
        lambda a: a.update({"inputs/1/0": np.full((4, 4), np.nan, np.float32)}),
        lambda a: a.update({"inputs/1/0": np.ones((4, 5), np.float32)}),
        lambda a: a.update({"outputs/1/0": np.ones((2, 4, 4), np.float32)}),
        lambda a: a.update({"outputs/1/0": np.float32(1)}),
        lambda a: a.pop("outputs/1/0"),
        lambda a: a.update({"sensitivity/0": np.float64("inf")}),
    ],
)
def test_arrays_that_are_wrong(found, tmp_path, change):
    arrays = saved(found, tmp_path / "c.npz")
    index = index_of(arrays)
    assert list(index["leaves"]) == ["a/b/e", "w"]
    change(arrays)
    path = written(tmp_path / "d.npz", arrays, index)
    with pytest.raises(CheckpointError, match="holds no statistics"):
        dc.calibration.load(path)
