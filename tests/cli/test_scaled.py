"""Every verb on a file of which a leaf has scales of rows and columns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import checkpoints
from deepcomp_jax._types import Compressed, DenseLeaf, Scales, SharedLeaf
from tests.support import laws


@pytest.fixture
def network() -> Compressed:
    """Two equal leaves with scales, one of the same labels without, and another."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, (40, 60), np.uint8)
    exponents = (rng.integers(-9, 9, (1, n), np.int8) for n in (40, 60))
    scaled = SharedLeaf(labels, 0, scales=Scales(0, 1, *exponents))
    leaves = scaled, scaled._replace(scales=None), scaled, DenseLeaf(np.arange(9))
    book = np.float32([-1, -0.5, 0.25, 0.5, 1])
    return Compressed({"a": 0, "b": 1, "c": 2, "d": 3}, leaves, (book,))


@pytest.fixture
def file(network: Compressed, tmp_path: Path) -> Path:
    """The network as a file."""
    dc.save(tmp_path / "m.dcz", network)
    return tmp_path / "m.dcz"


def read(path: Path) -> dict[str, np.ndarray]:
    """The leaves of a file of any format."""
    with checkpoints.open(path) as opened:
        return {name: np.asarray(leaf) for name, leaf in opened.leaves.items()}


@pytest.mark.spec("A1", "A2")
def test_inspect_and_report(dcz: Any, file: Path):
    account = dc.report(file)
    assert sum(account.total) == 8 * file.stat().st_size
    by_name = {tensor.name: tensor for tensor in account.tensors}
    assert by_name["a"].parts.scales > 8 * 30
    assert by_name["b"].parts.scales == by_name["c"].parts.scales == 0
    for option in ([], ["--parts"]):
        found = json.loads(dcz("inspect", file, "--json", *option).out)
        for row in found["tensors"]:
            expected = by_name[row["name"]].bits
            assert row["bits"] == expected == sum(row["parts"].values())
            assert row["parts"].get("scales", 0) == by_name[row["name"]].parts.scales
        shown = dcz("inspect", file, *option)
        assert ("scales" in shown.out, shown.err) == (bool(option), "")
    assert dcz("verify", file).status == 0


def test_decompress_and_extract(
    dcz: Any, network: Compressed, file: Path, tmp_path: Path
):
    values: dict[str, np.ndarray] = dc.decompress(network)
    assert dcz("decompress", file, "-o", tmp_path / "m.npz").status == 0
    laws.assert_identical(read(tmp_path / "m.npz"), values)
    for name in ("some.npz", "some.dcz"):
        assert dcz("extract", file, "a|b", "-o", tmp_path / name).status == 0
        some = {"a": values["a"], "b": values["b"]}
        laws.assert_identical(read(tmp_path / name), some)
    with dc.open(file) as opened, dc.open(tmp_path / "some.dcz") as some:
        for name in "ab":
            assert some[name].coding == opened[name].coding
            assert some[name].entry.size == opened[name].entry.size
            assert some[name].entry.layout == opened[name].entry.layout
    assert dcz("extract", file, "c", "-o", tmp_path / "copy.dcz").status == 0
    laws.assert_identical(read(tmp_path / "copy.dcz"), {"c": values["c"]})
    with dc.open(tmp_path / "copy.dcz") as copy:
        assert copy["c"].entry.layout.scales == (0, 1)
    said = dcz("extract", file, "c", "-o", tmp_path / "n.dcz", "--max-bytes", 20_000)
    assert said.status == 1 and "while it is read, above max_bytes=20000" in said.err
    assert dcz("diff", file, tmp_path / "m.npz").status == 0
    assert dcz("bench", file).status == 0


def test_slices_of_an_open_file(network: Compressed, file: Path):
    values = dc.decompress(network)
    with dc.open(file) as opened:
        for name in "abc":
            laws.assert_identical(opened[name][7:19], values[name][7:19])
            laws.assert_identical(np.asarray(opened[name]), values[name])


def test_a_set_of_files(network: Compressed, file: Path, tmp_path: Path):
    """Which is written from values: those of the scaled leaves are the same."""
    with dc.open(file) as opened:
        dc.write(tmp_path / "set.dcz", dict(opened), [], files=2)
    laws.assert_identical(dc.load(tmp_path / "set.dcz"), dc.decompress(network))
