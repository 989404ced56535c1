"""Files that lie, are damaged or could run programs give one clear error."""

import io
import json
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import flax.serialization
import msgpack
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from deepcomp_jax import checkpoints
from deepcomp_jax.checkpoints import shards
from tests.support.checkpoint_trees import PATHS

TREE = {"a": np.arange(6.0).reshape(2, 3), "b": {"c": np.ones(4, np.int8)}}


def _refusal(path: Path) -> str:
    """What opening and reading says: one sentence, in which the file is named."""
    with pytest.raises(checkpoints.CheckpointError) as caught:
        _read(path)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said and len(said) < 400
    return said


def _read(path: Path) -> None:
    with checkpoints.open(path) as found:
        for leaf in found.leaves.values():
            np.asarray(leaf)


# ---- safetensors --------------------------------------------------------------------

GOOD = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


def _tensor(**changes: Any) -> dict[str, Any]:
    return {"t": {**GOOD, **changes}}


LYING = {
    "beyond the file": (_tensor(shape=[9], data_offsets=[0, 9]), "9 bytes of values"),
    "before its end": (_tensor(shape=[1], data_offsets=[0, 1]), "1 bytes of values"),
    "not at the start": (_tensor(shape=[1], data_offsets=[1, 2]), "begins at byte 1"),
    "backwards": (_tensor(data_offsets=[2, 0]), "has -2"),
    "overlapping": ({**_tensor(), "u": GOOD}, "begins at byte 0, not at 2"),
    "of another size": (_tensor(shape=[3]), "takes 3 bytes, but has 2"),
    "of a huge shape": (_tensor(shape=[2**40, 2**40]), "bytes, but has 2"),
    "of a shape that overflows": (_tensor(shape=[2**63, 2, 0]), "has shape"),
    "of a negative shape": (_tensor(shape=[-2]), "has shape"),
    "of a shape of floats": (_tensor(shape=[2.0]), "has shape"),
    "of a shape of truths": (_tensor(shape=[True, 2]), "has shape"),
    "of three offsets": (_tensor(data_offsets=[0, 1, 2]), "data_offsets"),
    "of an unknown dtype": (_tensor(dtype="F1"), "dtype 'F1'"),
    "of a dtype below a byte": (_tensor(dtype="F4"), "dtype 'F4'"),
    "of a list as dtype": (_tensor(dtype=["U8"]), "dtype"),
    "without a shape": ({"t": {"dtype": "U8", "data_offsets": [0, 2]}}, "needs"),
    "not a mapping": ({"t": [0, 2]}, "needs"),
    "metadata of numbers": ({"__metadata__": {"a": 1}, **_tensor()}, "__metadata__"),
    "metadata of a list": ({"__metadata__": ["a"], **_tensor()}, "__metadata__"),
    "no mapping at all": ([1], "not a mapping"),
}


@pytest.mark.parametrize("case", LYING)
def test_headers_of_safetensors_that_lie(tmp_path: Path, case: str):
    header, match = LYING[case]
    path = tmp_path / "m.safetensors"
    _put_safetensors(path, json.dumps(header).encode())
    assert re.search(f"is no safetensors file: .*{match}", _refusal(path))
    with pytest.raises(safetensors.SafetensorError):
        safetensors.safe_open(path, "np").__enter__()


def _put_safetensors(path: Path, header: bytes, size: int | None = None) -> None:
    size = len(header) if size is None else size
    path.write_bytes(struct.pack("<Q", size) + header + b"\1\2")


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"{}", 2**64 - 1),
        (b"{}", 200_000_000),
        (b"{}", 5),
        (b"{}", 0),
        (b'{"a":', None),
        (b'{"\xff":1}', None),
        (b"[" * 5000, None),
        (b'{"t":' * 5000, None),
        (b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":1}', None),
    ],
    ids=str,
)
def test_headers_of_safetensors_that_are_none(
    tmp_path: Path, header: bytes, size: int | None
):
    path = tmp_path / "m.safetensors"
    _put_safetensors(path, header, size)
    assert "is no safetensors file: its header" in _refusal(path)


# ---- damage -------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["safetensors", "npz", "msgpack", "dcz"])
def test_every_prefix_of_a_file_is_rejected(tmp_path: Path, format: str):
    path, cut = tmp_path / PATHS[format], tmp_path / f"cut.{format}"
    checkpoints.write(path, TREE)
    data = path.read_bytes()
    for size in range(0, len(data), max(1, len(data) // 150)):
        cut.write_bytes(data[:size])
        with pytest.raises(ValueError):
            _read(cut)


@pytest.mark.parametrize("format", ["safetensors", "npz", "msgpack", "dcz"])
@settings(max_examples=150)
@given(data=st.data())
def test_damaged_files_give_our_error_or_other_values(
    tmp_path_factory: pytest.TempPathFactory, format: str, data: st.DataObject
):
    path = tmp_path_factory.mktemp("damaged") / PATHS[format]
    checkpoints.write(path, TREE)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        _read(path)
    except ValueError as error:
        assert len(str(error)) < 500


def test_a_file_that_is_cut_while_it_is_open_ends_in_an_error(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    checkpoints.write(path, {"w": np.ones(1 << 16)})
    with checkpoints.open(path) as found:
        os.truncate(path, 1000)
        with pytest.raises(checkpoints.CheckpointError, match="the file ends within"):
            np.asarray(found.leaves["w"])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\x81\xa1a" + b"\x91" * 100 + b"\xc0", "nest deeper than 64"),
        (b"\xdf\xff\xff\xff\xff", "ends too early"),
        (b"\xdd\xff\xff\xff\xff\xc0", "ends too early"),
        (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01", "ends too early"),
        (b"\x82\xa1a\xc0\xa1a\xc0", "'a' twice"),
        (b"\x81\xa1a\xc7\x01\x07\x00", "extension 7"),
        (b"\x81\xa1a\xc1", "0xc1 begins nothing"),
        (b"\x81\xa1a\xd4\x02\x90", "a complex number"),
        (b"\x81\xa1a\xd6\x02\x92\xa1x\x01", "a complex number"),
        (b"\x81\xa1a\xd4\x02\xc0", "a complex number"),
        (b"\x81\x90\xc0", "a key is neither"),
        (b"\x81\xa1\xff\xc0", "not UTF-8"),
        (b"\x80\x80", "something follows"),
    ],
    ids=str,
)
def test_files_of_flax_that_are_none(tmp_path: Path, content: bytes, match: str):
    path = tmp_path / "m.msgpack"
    path.write_bytes(content)
    assert re.search(f"is no Flax file: .*{match}", _refusal(path))


@pytest.mark.parametrize(
    "parts",
    [
        ([2], "float32", b"\0" * 7),
        ([-2, -1], "float32", b"\0" * 8),
        ([2**62, 2**62], "float32", b"\0" * 8),
        (["a"], "float32", b"\0" * 4),
        ("x", "float32", b"\0" * 4),
        ([1], "O", b"\0" * 8),
        ([1], "nonsense", b"\0" * 8),
        ([1], 5, b"\0" * 8),
        ([1], "float32"),
    ],
    ids=str,
)
def test_arrays_of_flax_that_are_none(tmp_path: Path, parts: tuple):
    array = msgpack.ExtType(1, msgpack.packb(parts))
    path = tmp_path / "m.msgpack"
    path.write_bytes(msgpack.packb({"w": array}))
    assert "is no Flax file" in _refusal(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": None}, {"chunks": None}, {"chunks": {}}, {"shape": {"0": 5}},
        {"shape": {"0": -6}}, {"shape": {"1": 6}}, {"shape": {"0": np.ones(2)}},
        {"chunks": {"1": np.ones(6)}}, {"chunks": {"0": np.ones((2, 3))}},
        {"chunks": {"0": np.ones(3), "1": np.ones(3, "i8")}}, {"chunks": {"0": 3}},
    ],
    ids=str,
)  # fmt: skip
def test_chunks_of_flax_that_are_none(tmp_path: Path, changes: dict[str, Any]):
    chunked = {
        "__msgpack_chunked_array__": True,
        "shape": {"0": 6},
        "chunks": {"0": np.ones(6)},
    }
    path = tmp_path / "m.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize({"w": chunked}))
    _read(path)
    path.write_bytes(flax.serialization.msgpack_serialize({"w": chunked | changes}))
    assert re.search("is no Flax file: (.*chunks|the shape)", _refusal(path))


def test_archives_whose_headers_lie(tmp_path: Path):
    path = tmp_path / "m.npz"
    for shape, match in (((5,), "another size"), ((2**40, 2**30), "another size")):
        array = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(array, described)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w.npy", array.getvalue() + b"\0" * 8)
        assert match in _refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "'readme.txt' is no array" in _refusal(path)


# ---- sharded, orbax -----------------------------------------------------------------


def test_indices_that_lie(tmp_path: Path):
    folder = tmp_path / "m"
    shards.write(folder, TREE | {"d": np.ones(9)}, {}, 60)
    index = folder / shards.INDEX
    told = json.loads(index.read_text())
    for change, match in (
        ({"a": "../m/model-00001-of-00003.safetensors"}, "no file beside it"),
        ({"a": "/etc/passwd"}, "no file beside it"),
        ({"a": 3}, "no file beside it"),
        ({"gone": told["weight_map"]["a"]}, "no file holds 'gone'"),
    ):
        index.write_text(json.dumps({"weight_map": told["weight_map"] | change}))
        with pytest.raises(checkpoints.CheckpointError, match=match):
            checkpoints.open(folder)
    for text in ("", "[]", '{"weight_map": 3}', '{"weight_map": {"a": []}}'):
        index.write_text(text)
        with pytest.raises(checkpoints.CheckpointError, match="is no index"):
            checkpoints.open(folder)
    index.write_text(json.dumps(told))
    first, *_, last = sorted(folder.glob("*.safetensors"))
    kept = last.read_bytes()
    last.write_bytes(first.read_bytes())
    with pytest.raises(checkpoints.CheckpointError, match="two files hold"):
        checkpoints.open(folder)
    last.unlink()
    with pytest.raises(FileNotFoundError):
        checkpoints.open(folder)
    last.write_bytes(kept)
    _read(folder)


def test_damaged_folders_of_orbax(tmp_path: Path):
    path = tmp_path / "m"
    checkpoints.write(path, TREE, format="orbax")
    metadata = path / "_METADATA"
    text = metadata.read_text()
    for damaged in ("", "[]", "{}", text[:50], text.replace('"key"', '"kex"')):
        metadata.write_text(damaged)
        assert "is damaged" in _refusal(path)
    metadata.write_text(text.replace('"a"', '"other"'))
    with pytest.raises(checkpoints.CheckpointError, match="'other' cannot be read"):
        checkpoints.open(path)
    metadata.unlink()
    assert "has no _METADATA" in _refusal(path)


@settings(max_examples=150)
@given(data=st.data())
def test_metadata_of_orbax_of_any_form_give_our_error_or_other_trees(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    path = tmp_path_factory.mktemp("orbax") / "m"
    checkpoints.write(path, TREE | {"n": None, "l": [np.ones(2)]}, format="orbax")
    file = path / data.draw(st.sampled_from(["_METADATA", "_CHECKPOINT_METADATA"]))
    content = json.loads(file.read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        _change(content, data)
    file.write_text(json.dumps(content))
    try:
        _read(path)
    except checkpoints.CheckpointError as error:
        assert len(str(error)) < 500


def _change(node: Any, data: st.DataObject) -> None:
    """Puts something else at some place of JSON, or takes it out."""
    while True:
        places = list(node) if isinstance(node, dict) else range(len(node))
        if not places:
            return
        place = data.draw(st.sampled_from(places))
        inner = node[place]
        if not isinstance(inner, dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        node = inner
    others = [None, 1, True, "a", "b", "Dict", "string", "..", [], {}, [1], {"a": "b"}]
    if isinstance(node, dict) and data.draw(st.booleans()):
        del node[place]
    else:
        node[place] = data.draw(st.sampled_from(others))


def test_paths_of_orbax_do_not_lead_out_of_the_folder(tmp_path: Path):
    for name in ("m", "other"):
        checkpoints.write(tmp_path / name, {"a": np.ones(2)}, format="orbax")
    (tmp_path / "m" / "manifest.ocdbt").unlink()
    metadata = tmp_path / "m" / "_METADATA"
    metadata.write_text(metadata.read_text().replace('"key": "a"', '"key": "../other"'))
    assert "leads out of its folder" in _refusal(tmp_path / "m")


# ---- what is not read ---------------------------------------------------------------


def _torch_like(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


@pytest.mark.parametrize("ending", [".pt", ".ckpt", ".bin", ".npz", ".safetensors"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "torch"])
def test_pickles_are_refused_whatever_they_are_called(
    tmp_path: Path, ending: str, protocol: Any
):
    path = tmp_path / f"m{ending}"
    if protocol == "torch":
        _torch_like(path)
    else:
        path.write_bytes(pickle.dumps({"w": np.ones(3)}, protocol))
    said = _refusal(path)
    assert re.search("is a pickle, which can run any program .* safetensors", said)


def test_pickled_objects_in_archives_are_refused(tmp_path: Path):
    np.savez(tmp_path / "m.npz", w=np.array([{}], object))
    assert "'w' holds pickled objects" in _refusal(tmp_path / "m.npz")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("m.gguf", b"GGUF\3\0\0\0", "is a GGUF file"),
        ("m.safetensors", b"GGUF\3\0\0\0", "is a GGUF file"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        ("m.pt", b"old format", "is a pickle"),
        ("m.txt", b"hello", "has none of the formats"),
        ("m", b"", "has none of the formats"),
        ("m.safetensors", b"", "its header cannot have 0 bytes"),
        ("m.npz", b"hello", "is no .npz file"),
    ],
)
def test_what_is_not_read_says_so(
    tmp_path: Path, name: str, content: bytes, match: str
):
    (tmp_path / name).write_bytes(content)
    assert match in _refusal(tmp_path / name)


def test_folders_that_are_no_checkpoint(tmp_path: Path):
    assert "of no checkpoint" in _refusal(tmp_path)
    checkpoints.write(tmp_path / "m.safetensors", TREE)
    assert re.search(r"such as .*m\.safetensors$", _refusal(tmp_path))
    with pytest.raises(FileNotFoundError):
        checkpoints.open(tmp_path / "none.npz")


# ---- killed, full -------------------------------------------------------------------


@pytest.mark.parametrize("format", sorted(PATHS))
def test_what_killed_writers_leave_is_removed_by_the_next(tmp_path: Path, format: str):
    path = tmp_path / PATHS[format]
    checkpoints.write(path, {"w": np.ones(3)}, format=format)
    code = (
        "import os, signal, sys, numpy as np\n"
        "from deepcomp_jax import checkpoints\n"
        "class Deadly:\n"
        "    shape, dtype, size = (3,), np.dtype('f4'), 3\n"
        "    def __array__(self, dtype=None, copy=None):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "tree = {'a': np.ones(1000), 'b': Deadly()}\n"
        "checkpoints.write(sys.argv[1], tree, format=sys.argv[2])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path, format], check=False)
    assert killed.returncode == -signal.SIGKILL
    drafts = [name for name in os.listdir(tmp_path) if name != path.name]
    assert all(name.endswith(".draft") for name in drafts)
    assert drafts or format == "dcz"  # whose bodies are in a file without a name
    _read(path)
    checkpoints.write(path, {"w": np.zeros(3)}, format=format)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("format", ["safetensors", "npz", "msgpack", "dcz"])
def test_devices_are_not_replaced(format: str):
    with pytest.raises(OSError, match="not a regular file"):
        checkpoints.write("/dev/full", TREE, format=format)
