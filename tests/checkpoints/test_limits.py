"""The memory that a leaf may take: files that stand for far more than they are."""

import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import checkpoints
from deepcomp_jax.checkpoints import msgpack_writing
from tests.support.checkpoint_trees import PATHS

MOST = 10_000_000


# ---- bombs --------------------------------------------------------------------------


def _npz(path: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("small.npy", "w") as member:
            np.lib.format.write_array(member, np.ones(3))
        with archive.open("huge.npy", "w") as member:
            described = {
                "descr": "|i1",
                "fortran_order": True,
                "shape": (1 << 10, 1 << 20),
            }
            np.lib.format.write_array_header_1_0(member, described)
            for _ in range(1 << 6):
                member.write(bytes(1 << 24))


def _dcz(path: Path) -> None:
    """Eighty megabytes of one value in a hundred bytes."""
    dc.write(path, {"small": np.ones(3), "huge": np.full((10, 1 << 20), 0.5)}, [])


def _orbax(path: Path) -> None:
    """A terabyte of a value that stands for chunks that are not there."""
    checkpoints.write(
        path, {"small": np.ones(3), "huge": np.ones((4, 4))}, format="orbax"
    )
    _without_database(path)
    described = json.loads((path / "huge" / ".zarray").read_text())
    described |= {"shape": [1 << 20, 1 << 20], "chunks": [1, 1 << 16], "fill_value": 0}
    (path / "huge" / ".zarray").write_text(json.dumps(described))
    for chunk in (path / "huge").glob("[0-9]*"):
        chunk.unlink()


def _without_database(path: Path) -> None:
    """Makes plain files of the arrays of a folder."""
    with checkpoints.open(path) as found:
        arrays = {name: np.asarray(leaf) for name, leaf in found.leaves.items()}
    (path / "manifest.ocdbt").unlink()
    for name, values in arrays.items():
        (path / name).mkdir()
        described = {
            "zarr_format": 2, "shape": values.shape, "chunks": values.shape,
            "dtype": values.dtype.str, "compressor": None, "fill_value": None,
            "order": "C", "filters": None,
        }  # fmt: skip
        (path / name / ".zarray").write_text(json.dumps(described))
        chunk = ".".join("0" for _ in values.shape)
        (path / name / chunk).write_bytes(values.tobytes())


BOMBS: dict[str, Callable[[Path], None]] = {"npz": _npz, "dcz": _dcz, "orbax": _orbax}


@pytest.mark.parametrize("format", BOMBS)
def test_a_small_file_does_not_become_a_huge_array(tmp_path: Path, format: str):
    path = tmp_path / PATHS[format]
    BOMBS[format](path)
    tracemalloc.start()
    try:
        with checkpoints.open(path, max_bytes=MOST) as found:
            assert np.asarray(found.leaves["small"]).tolist() == [1, 1, 1]
            for ask in (np.asarray, lambda leaf: leaf[:]):
                with pytest.raises(checkpoints.CheckpointError) as caught:
                    ask(found.leaves["huge"])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert said.startswith(f"{path}: leaf 'huge' takes ") and "allow more" in said
    assert f"above max_bytes={MOST}" in said
    assert most < MOST


def test_the_limit_is_four_gibibytes_unless_another_is_given(tmp_path: Path):
    path = tmp_path / "m"
    _orbax(path)
    with checkpoints.open(path) as found:
        with pytest.raises(checkpoints.CheckpointError, match=f"max_bytes={1 << 32}"):
            np.asarray(found.leaves["huge"])
        assert not found.leaves["huge"][5:7, :3].any()


def test_a_header_that_unpacks_to_gigabytes_is_not_read(tmp_path: Path):
    path = tmp_path / "m.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w.npy", "w") as member,
    ):
        member.write(b"\x93NUMPY\2\0" + (1 << 28).to_bytes(4, "little"))
        for _ in range(1 << 4):
            member.write(b" " * (1 << 24))
    tracemalloc.start()
    try:
        with pytest.raises(checkpoints.CheckpointError, match="is no .npz file"):
            checkpoints.open(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MOST


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_numpy_does_not_write_are_refused(
    tmp_path: Path, compression: int
):
    with zipfile.ZipFile(tmp_path / "m.npz", "w", compression) as archive:
        archive.writestr("w.npy", b"")
    with pytest.raises(checkpoints.CheckpointError, match="'w' is compressed as NumPy"):
        checkpoints.open(tmp_path / "m.npz")


# ---- the bound ----------------------------------------------------------------------

# What a leaf takes, in multiples of its values: Orbax has the chunks beside them, and
# decoding a .dcz file takes 8 bytes for each value of the largest part.
TIMES = {name: 1 for name in PATHS} | {"orbax": 2, "dcz": 3}
CHUNK = 256 + 16  # bytes for each chunk of Orbax, and its place


@pytest.mark.parametrize("format", sorted(PATHS))
def test_a_leaf_is_read_if_it_fits(tmp_path: Path, format: str):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 50)).astype(np.float32)
    path = tmp_path / PATHS[format]
    checkpoints.write(path, {"w": values}, format=format)
    needed = TIMES[format] * values.nbytes + (CHUNK if format == "orbax" else 0)
    with checkpoints.open(path, max_bytes=needed) as found:
        assert np.asarray(found.leaves["w"]).tobytes() == values.tobytes()
    with checkpoints.open(path, max_bytes=needed - 1) as found:
        with pytest.raises(checkpoints.CheckpointError, match=f"takes {needed} bytes"):
            np.asarray(found.leaves["w"])
        assert found.leaves["w"][3:5].tobytes() == values[3:5].tobytes()


@pytest.mark.parametrize(
    ("values", "times"),
    [(np.ones((4, 5)).T, (1, 1)), (np.ones((5, 4), ">f8"), (2, 2 / 5))],
    ids=["by columns", "in foreign byte order"],
)
def test_arrays_that_numpy_stores_in_another_order(
    tmp_path: Path, values: np.ndarray, times: tuple[float, float]
):
    path = tmp_path / "m.npz"
    np.savez(path, w=values)
    for ask, factor in zip((np.asarray, lambda leaf: leaf[2]), times, strict=True):
        needed = round(factor * values.nbytes)
        with checkpoints.open(path, max_bytes=needed) as found:
            ask(found.leaves["w"])
        with (
            checkpoints.open(path, max_bytes=needed - 1) as found,
            pytest.raises(checkpoints.CheckpointError, match=f"takes {needed} bytes"),
        ):
            ask(found.leaves["w"])


def test_arrays_in_chunks_take_a_chunk_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(msgpack_writing, "MAX_CHUNK", 80)
    values = np.arange(50.0)
    path = tmp_path / "m.msgpack"
    checkpoints.write(path, {"w": values})
    assert len(msgpack.unpackb(path.read_bytes(), strict_map_key=False)["w"]) == 3
    with checkpoints.open(path, max_bytes=480) as found:
        assert np.asarray(found.leaves["w"]).tolist() == values.tolist()
    with (
        checkpoints.open(path, max_bytes=479) as found,
        pytest.raises(checkpoints.CheckpointError, match="takes 480 bytes"),
    ):
        np.asarray(found.leaves["w"])


@pytest.mark.parametrize(
    ("rows", "chunks"), [(slice(0, 1), 1), (slice(3, 5), 2), (slice(0, 8), 2)]
)
def test_slices_of_orbax_take_the_chunks_that_they_are_in(
    tmp_path: Path, rows: slice, chunks: int
):
    path = tmp_path / "m"
    checkpoints.write(path, {"w": np.ones((8, 2))}, format="orbax")
    _without_database(path)
    described = json.loads((path / "w" / ".zarray").read_text())
    described |= {"chunks": [4, 1000], "fill_value": 0}
    (path / "w" / ".zarray").write_text(json.dumps(described))
    (path / "w" / "0.0").unlink()
    needed = (rows.stop - rows.start) * 2 * 8 + chunks * (4 * 1000 * 8 + CHUNK)
    with checkpoints.open(path, max_bytes=needed) as found:
        assert not found.leaves["w"][rows].any()
    with (
        checkpoints.open(path, max_bytes=needed - 1) as found,
        pytest.raises(checkpoints.CheckpointError, match=f"takes {needed} bytes"),
    ):
        found.leaves["w"][rows]
