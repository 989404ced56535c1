"""inspect, verify, diff and bench: what is in a file, and whether it is right."""

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import checkpoints
from deepcomp_jax.cli import common
from deepcomp_jax.cli.inspect import Row, _totals
from deepcomp_jax.format import memory_limit
from deepcomp_jax.format.leaf_header import CODINGS
from tests.cli.conftest import METADATA, network
from tests.cli.test_compress import _failed
from tests.support.checkpoint_trees import PATHS, size_on_disk


@pytest.fixture
def file(dcz: Any, model: Path) -> Path:
    """The network as a `.dcz` file."""
    assert dcz("compress", model)[0] == 0
    return model.with_suffix(".dcz")


# ---- inspect ------------------------------------------------------------------------


@pytest.mark.parametrize("format", sorted(PATHS))
def test_inspect_tells_of_every_format_what_is_in_it(
    dcz: Any, tmp_path: Path, format: str
):
    tree = {f"layer{i}": np.ones((3, i), np.int16) for i in range(12)}
    path = tmp_path / PATHS[format]
    checkpoints.write(path, tree, metadata={}, format=format)
    found = json.loads(dcz("inspect", path, "--json").out)
    assert (found["format"], found["metadata"]) == (format, {})
    assert found["file_bytes"] == size_on_disk(path)
    assert found["values"] == 3 * 66
    assert [row["name"] for row in found["tensors"]] == [f"layer{i}" for i in range(12)]
    assert [row["shape"] for row in found["tensors"]] == [[3, i] for i in range(12)]
    assert {row["dtype"] for row in found["tensors"]} == {"int16"}
    said = dcz("inspect", path)
    assert said.out.splitlines()[-1].startswith(f"{size_on_disk(path)} bytes on disk")
    assert said.err == ""


def test_bits_add_up_to_the_file(dcz: Any, file: Path):
    account = dc.report(file)
    by_name = {tensor.name: tensor for tensor in account.tensors}
    for option in ([], ["--parts"]):
        found = json.loads(dcz("inspect", file, "--json", *option).out)
        assert found["metadata"] == METADATA | {"dcz.origin": "safetensors"}
        for row in found["tensors"]:
            tensor = by_name[row["name"]]
            assert row["bits"] == tensor.bits == sum(row["parts"].values())
            assert row["coding"] == tensor.coding
            if option:
                assert row["parts"] == tensor.parts._asdict()
                assert row["ideal"] == tensor.ideal
        taken = sum(row["bits"] for row in found["tensors"])
        assert 8 * found["file_bytes"] == taken + sum(account.front)


def test_inspect_decodes_nothing(dcz: Any, file: Path):
    data = bytearray(file.read_bytes())
    with dc.open(file) as opened:
        for leaf in opened.values():
            for section in leaf.entry.sections:
                if section.checksum_bytes:
                    data[section.offset : section.offset + section.size] = bytes(
                        section.size
                    )
    before = dcz("inspect", file).out
    file.write_bytes(data)
    assert dcz("inspect", file).out == before
    _failed(dcz("inspect", file, "--parts"), 1, "the section is damaged")


def test_inspect_says_what_codings_are(dcz: Any, file: Path):
    lines = dcz("inspect", file).out.splitlines()
    with dc.open(file) as opened:
        known = {leaf.coding for leaf in opened.values()}
    assert {"copy", "planes"} <= known
    for coding in known:
        assert sum(line.startswith(f"{coding}: ") for line in lines) == 1
    told = dcz("inspect", file, "^ids$").out.splitlines()
    assert sum(line.partition(": ")[0] in CODINGS for line in told) == 1
    bare = dcz("inspect", file.with_suffix(".safetensors")).out
    assert not any(f"{coding}: " in bare for coding in known)


@pytest.mark.parametrize("depth", ["0", "-1", "x"])
def test_there_is_no_such_depth(dcz: Any, file: Path, depth: str):
    said = dcz("inspect", file, "--depth", depth)
    assert said.status == 2 and "no whole number above zero" in said.err


def test_options_may_stand_between_the_paths(dcz: Any, file: Path):
    expected = dcz("inspect", file, "layer.1", "--depth", 2)
    assert expected.status == 0 and "layer.1" in expected.out
    assert dcz("inspect", "--depth", 2, file, "layer.1") == expected
    assert dcz("inspect", file, "--depth", 2, "layer.1") == expected


def test_inspect_chooses_by_name(dcz: Any, file: Path):
    said = dcz("inspect", file, r"layer\.\d+\.weight")
    names = [line.split()[0] for line in said.out.splitlines() if "weight" in line]
    assert names == [f"layer.{i}.weight" for i in range(12)]
    _failed(dcz("inspect", file, "nothing"), 2, "matches no tensor: there are")
    assert dcz("inspect", file, "(")[0] == 2
    _failed(dcz("inspect", file.with_suffix(".safetensors"), "--parts"), 2, "is for .d")


@pytest.mark.parametrize(
    ("names", "depth", "expected"),
    [
        (["a/b/c", "a/b/d", "a/e"], None, ["a/b", "a/e"]),
        (["m.layer.1.w", "m.layer.2.w"], None, ["m.layer.1", "m.layer.2"]),
        (["m.layer.1.w", "m.layer.2.w"], 2, ["m.layer"]),
        (["a", "a"], None, ["a"]),
        (["", "b"], None, ["", "b"]),
        ([], None, []),
    ],
)
def test_totals_are_by_the_first_parts_that_differ(
    names: list[str], depth: int | None, expected: list[str]
):
    rows = [Row(name, [2], "int8", None, 2, {"values": 16}) for name in names]
    totals = _totals(rows, depth)
    assert [row.name for row in totals] == expected
    assert sum(row.values for row in totals) == 2 * len(names)
    assert sum(row.bits for row in totals) == 16 * len(names)


@pytest.mark.parametrize("ending", ["png", "svg"])
@pytest.mark.parametrize("option", [[], ["--parts"], ["layer"]])
def test_a_figure_of_where_the_bytes_are(
    dcz: Any, file: Path, ending: str, option: list[str]
):
    figure = file.with_name(f"figure.{ending}")
    assert dcz("inspect", file, *option, "--plot", figure)[0] == 0
    begins = {"png": b"\x89PNG", "svg": b"<?xml"}[ending]
    assert figure.read_bytes()[: len(begins)] == begins
    _failed(dcz("inspect", file, "--plot", figure), 2, "exists")
    assert dcz("inspect", file, "--plot", figure, "-f")[0] == 0
    _failed(dcz("inspect", file, "--plot", file.with_name("x.doc")), 2, "x.doc: Format")
    assert not file.with_name("x.doc").exists()


def test_a_figure_of_many_strange_names(dcz: Any, tmp_path: Path):
    path = tmp_path / "m.safetensors"
    tree = {f"$\\frac{{{i}}}$ {'x' * i}": np.ones(3) for i in range(60)}
    checkpoints.write(path, tree)
    assert dcz("inspect", path, "--plot", tmp_path / "figure.png")[0] == 0


# ---- verify -------------------------------------------------------------------------


def test_verify_finds_every_damage(dcz: Any, file: Path):
    said = dcz("verify", file)
    size = file.stat().st_size
    assert said.status == 0 and said.err == ""
    assert said.out.splitlines()[-1] == f"{file}: {size} bytes on disk"
    data = file.read_bytes()
    for place in range(0, size, size // 40):
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        _failed(dcz("verify", file), 1, "clause C")
    file.write_bytes(data[:-1])
    _failed(dcz("verify", file), 1, "clause C")
    file.write_bytes(data)
    _failed(dcz("verify", file, "--max-bytes", "100"), 1, "max_bytes=100")
    _failed(dcz("verify", file.with_suffix(".safetensors")), 1, "not a .dcz file")
    _failed(dcz("verify", file.with_name("none.dcz")), 1, "No such file")


def test_verify_says_in_json_that_a_file_is_wrong(dcz: Any, file: Path):
    assert json.loads(dcz("verify", file, "--json").out)["right"] is True
    file.write_bytes(file.read_bytes()[:-1])
    said = dcz("verify", file, "--json")
    found = json.loads(said.out)
    assert (said.status, found["right"]) == (1, False) and found["error"]


def test_verify_decodes_all_files_of_a_set(dcz: Any, tmp_path: Path):
    dc.write(tmp_path / "m.dcz", network(), files=3)
    found = json.loads(dcz("inspect", tmp_path / "m.dcz", "--json").out)
    assert {row["name"] for row in found["tensors"]} == network().keys()
    parts = json.loads(dcz("inspect", tmp_path / "m.dcz", "--parts", "--json").out)
    assert [row["name"] for row in parts["tensors"]] == [
        row["name"] for row in found["tensors"]
    ]
    assert parts["file_bytes"] == found["file_bytes"]
    assert dcz("verify", tmp_path / "m.dcz")[0] == 0
    last = tmp_path / "m-00003-of-00003.dcz"
    data = last.read_bytes()
    last.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    _failed(dcz("verify", tmp_path / "m.dcz"), 1, "clause C33")


def test_verify_holds_no_leaf_for_its_copies(dcz: Any, tmp_path: Path):
    rng = np.random.default_rng(0)
    tree = {f"a{i}": rng.integers(0, 99, 1 << 18) for i in range(20)}
    dc.write(tmp_path / "m.dcz", tree | {f"b{n}": x for n, x in tree.items()}, [])
    whole = sum(leaf.nbytes for leaf in tree.values())
    tracemalloc.start()
    try:
        said = dcz("verify", tmp_path / "m.dcz")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said.out.startswith(f"right: 40 tensors, {2 * whole} bytes of values")
    assert most < whole / 2


# ---- memory -------------------------------------------------------------------------

VERBS = {
    "verify": [], "inspect": ["--parts"], "bench": [], "diff": ["{file}"],
    "decompress": ["-o", "out.npz"], "extract": ["huge", "-o", "out.npz"],
    "compress": ["--lossless", "-o", "out.dcz"],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_that_decode_have_a_limit_of_memory(
    dcz: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "m.dcz"
    dc.write(file, {"huge": np.full((1000, 1000), 0.5, np.float32)}, [])
    given = [verb, file, *(own.format(file=file) for own in VERBS[verb])]
    said = dcz(*given, "--max-bytes", "11.9MB")
    _failed(said, 2 if verb == "diff" else 1, "m.dcz: leaf 'huge'.* 12000000 .*allow")
    assert "max_bytes=11900000" in said.err and os.listdir(tmp_path) == ["m.dcz"]
    assert dcz(*given, "--max-bytes", "12MB").status == 0


def test_the_limit_is_that_of_the_library():
    assert common.MAX_BYTES == memory_limit.MAX_BYTES


# ---- diff ---------------------------------------------------------------------------


def test_diff_is_zero_for_the_same_values_in_other_formats(dcz: Any, tmp_path: Path):
    tree = {"a": np.array([1.0, np.nan, -0.0]), "b": np.arange(3), "c": np.ones(2) * 1j}
    for name in ("m.npz", "m.msgpack", "m.dcz"):
        checkpoints.write(tmp_path / name, tree)
        assert dcz("diff", tmp_path / "m.npz", tmp_path / name) == (0, "", "")


@pytest.mark.parametrize(
    ("change", "greatest", "relative", "what"),
    [
        ({"a": np.array([3.0, 4.0])}, None, None, None),
        ({"a": np.array([3.0, 4.5])}, 0.5, 0.1, "values"),
        ({"a": np.array([np.nan, 4.0])}, None, None, "values"),
        ({"a": np.array([3.0, np.inf])}, None, None, "values"),
        ({"a": np.array([3, 4], np.float32)}, 0, 0, "float64 and float32"),
        ({"a": np.array([3.0, 4.0, 5.0])}, None, None, "[2] and [3]"),
        ({"a": np.array([3.0 + 1j, 4.0])}, 1, 0.2, "float64 and complex128"),
        ({"b": np.ones(1)}, None, None, "only in A"),
    ],
    ids=str,
)
def test_diff_tells_what_differs(
    dcz: Any,
    tmp_path: Path,
    change: dict[str, np.ndarray],
    greatest: float | None,
    relative: float | None,
    what: str | None,
):
    checkpoints.write(tmp_path / "a.npz", {"a": np.array([3.0, 4.0])})
    checkpoints.write(tmp_path / "b.npz", change)
    said = dcz("diff", tmp_path / "a.npz", tmp_path / "b.npz", "--json")
    rows = json.loads(said.out)
    assert said.status == int(what is not None) and said.err == ""
    assert len(rows) == (0 if what is None else len(change | {"a": 0}))
    if what is not None:
        assert (rows[0]["name"], rows[0]["what"]) == ("a", what)
        for key, expected in (("greatest", greatest), ("relative", relative)):
            assert rows[0][key] == (expected and pytest.approx(expected))
    text = dcz("diff", tmp_path / "a.npz", tmp_path / "b.npz")
    assert (what or "") in text.out and (text.out == "") == (what is None)
    assert dcz("diff", tmp_path / "a.npz", tmp_path / "b.npz", "-q").out == ""


def test_signs_of_zeros_and_bits_of_nan_are_differences(dcz: Any, tmp_path: Path):
    checkpoints.write(tmp_path / "a.npz", {"a": np.array([0.0, np.nan])})
    for other in (np.array([-0.0, np.nan]), -np.array([-0.0, np.nan])):
        checkpoints.write(tmp_path / "b.npz", {"a": other})
        assert dcz("diff", tmp_path / "a.npz", tmp_path / "b.npz")[0] == 1


def test_diff_of_some_tensors_and_of_files_that_are_none(dcz: Any, file: Path):
    model = file.with_suffix(".safetensors")
    assert dcz("diff", model, file, "--only", "bias|ids") == (0, "", "")
    said = dcz("diff", model, file)
    assert said.status == 1
    names = [line.split()[0] for line in said.out.splitlines() if "layer" in line]
    assert names == [f"layer.{i}.weight" for i in range(12)]
    assert said.out.splitlines()[-1] == f"14 of {len(network())} tensors differ"
    _failed(dcz("diff", model, file, "--only", "none"), 2, "matches no tensor")
    _failed(dcz("diff", model, file.with_name("none.npz")), 2, "No such file")
    file.write_bytes(b"\x89DCZ")
    _failed(dcz("diff", model, file), 2, "clause C")


# ---- bench, and all of them ---------------------------------------------------------


def test_bench_measures_both_ways(dcz: Any, file: Path):
    rows = json.loads(dcz("bench", file, "--json").out)
    assert [row["work"].partition(",")[0] for row in rows] == [
        "decode", "encode", "encode",
    ]  # fmt: skip
    assert all(row["seconds"] > 0 and row["values_per_second"] > 0 for row in rows)
    lines = dcz("bench", file).out.splitlines()
    assert len(lines) == 4 and lines[0].split() == ["seconds", "M", "values/s", "bytes"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a10", "a9", "a1"], ["a1", "a9", "a10"]),
        (["l.10.w", "l.2.w", "l.2.b", "k"], ["k", "l.2.b", "l.2.w", "l.10.w"]),
        (["10", "9", "a", "²"], ["9", "10", "a", "²"]),
    ],
)
def test_names_are_in_natural_order(names: list[str], expected: list[str]):
    assert sorted(names, key=common.natural) == expected


@pytest.mark.parametrize(
    "verb", ["inspect", "compress", "verify", "bench", "decompress"]
)
def test_bad_files_are_told_in_a_sentence(dcz: Any, tmp_path: Path, verb: str):
    for name, content, match in (
        ("m.safetensors", b"\xff" * 20, "m.safetensors"),
        ("m.pt", b"\x80\x02}q\x00.", "m.pt(:| is a pickle)"),
        ("m.dcz", b"\x89DCZ\xff", "m.dcz: .*clause C2"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        output = ["-o", tmp_path / "out.dcz"] if verb == "compress" else []
        _failed(dcz(verb, path, *output), 1, match)
    assert len(os.listdir(tmp_path)) == 3
