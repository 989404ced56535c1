"""Methods, files and rows of the benchmark, on a network of two layers."""

import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.post_training import (
    __main__ as command,
)
from experiments.post_training import (
    ablation,
    archive,
    baselines,
    curves,
    methods,
    networks,
    peers,
    quantizers,
    results,
)
from experiments.post_training.baselines import Coded
from experiments.post_training.methods import NO_DATA, Method
from experiments.post_training.networks import Metric, Network
from experiments.post_training.results import DENSE, Row
from tests.support import legible

RNG = np.random.default_rng(0)
ERROR = Metric("error", False)


@pytest.fixture(autouse=True)
def _zlib_for_zstandard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the tests has no Zstandard."""
    library = SimpleNamespace(
        ZstdCompressor=lambda level: SimpleNamespace(
            compress=lambda data: zlib.compress(data, min(level, 9))
        ),
        ZstdDecompressor=lambda: SimpleNamespace(decompress=zlib.decompress),
    )
    monkeypatch.setattr(archive, "zstandard", lambda: library)


def _forward(params: Any, batch: Any, see: networks.See) -> jax.Array:
    x = params["embedding.weight"][batch]
    see("out.kernel", lambda: x)
    return x @ params["out.kernel"] + params["out.bias"]


def _network() -> Network:
    """A table and a product, whose error is that of its outputs."""
    params = {
        "embedding.weight": RNG.normal(size=(40, 96)).astype(np.float32),
        "out.kernel": RNG.normal(size=(96, 50)).astype(np.float32),
        "out.bias": RNG.normal(size=50).astype(np.float32),
    }
    fn, inputs = networks.functions(_forward)
    ids = np.arange(40)
    right = fn(params, ids)

    def quality(decoded: Any) -> dict[str, float]:
        return {"error": float(jnp.square(fn(decoded, ids) - right).mean())}

    layouts = {"embedding.weight": (0, 1), "out.kernel": (1, 0)}
    batches = {
        "real": lambda: [np.arange(30), np.arange(30, 40)],
        "random": lambda: [np.arange(40)[::-1]],
    }
    return Network("tiny", params, fn, inputs, layouts, batches, (ERROR,), quality)


# ---- quantizers ---------------------------------------------------------------------


def test_integers_have_the_scale_of_the_largest_in_their_group():
    matrix = np.array([[7, -3.4, 1, 0.5, -14, 0, 5]], np.float32)
    levels = quantizers.integers(4)
    found = quantizers.nearest(matrix, levels, 4)
    np.testing.assert_array_equal(found.scales, [[1, 2]])
    # Of two levels that are as near, the lower one.
    np.testing.assert_array_equal(found.labels, [[7, -3, 1, 0, -7, 0, 2]])
    back = quantizers.dequantize(found, levels)
    np.testing.assert_array_equal(back, [[7, -3, 1, 0, -14, 0, 4]])


def test_nf4_keeps_its_own_levels():
    matrix = (3 * quantizers.NF4)[None]
    found = quantizers.nearest(matrix, quantizers.NF4, 16)
    np.testing.assert_array_equal(found.labels[0], np.arange(16) - 7)
    np.testing.assert_array_equal(quantizers.dequantize(found, quantizers.NF4), matrix)


def test_searched_scales_have_less_error():
    matrix = RNG.standard_t(3, (30, 64)).astype(np.float32)
    levels = quantizers.integers(3)
    errors = [
        np.square(
            quantizers.dequantize(
                quantizers.nearest(matrix, levels, 64, search=search), levels
            )
            - matrix
        ).sum()
        for search in (False, True)
    ]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("group", [16, 200])
def test_gptq_of_inputs_that_are_alone_rounds_to_the_nearest(group: int):
    matrix = RNG.normal(size=(20, 200)).astype(np.float32)
    levels = quantizers.integers(3)
    found = quantizers.gptq(matrix, np.eye(200), levels, group)
    right = quantizers.nearest(matrix, levels, group, search=True)
    np.testing.assert_array_equal(found.scales, right.scales)
    np.testing.assert_array_equal(found.labels, right.labels)


@pytest.mark.parametrize("group", [64, 200])
def test_gptq_makes_up_for_errors(group: int):
    """Inputs that go together: their outputs' error falls to a half or less."""
    mixed = RNG.normal(size=(500, 40)) @ RNG.normal(size=(40, 200))
    gram = mixed.T @ mixed / 500
    matrix = RNG.normal(size=(20, 200)).astype(np.float32)
    levels = quantizers.integers(3)

    def error(found: quantizers.Quantized) -> float:
        off = quantizers.dequantize(found, levels) - matrix
        return float(np.trace(off @ gram @ off.T))

    plain = error(quantizers.nearest(matrix, levels, group, search=True))
    assert error(quantizers.gptq(matrix, gram, levels, group)) < 0.5 * plain


def test_rows_and_inputs_of_zeros_stay_zero():
    matrix = RNG.normal(size=(3, 8)).astype(np.float32)
    matrix[1] = 0
    gram = np.diag([1.0, 1, 0, 1, 1, 1, 1, 1])
    levels = quantizers.integers(4)
    for found in (
        quantizers.nearest(matrix, levels, 4),
        quantizers.gptq(matrix, gram, levels, 8),
    ):
        back = quantizers.dequantize(found, levels)
        assert not back[1].any() and np.isfinite(back).all()


# ---- files --------------------------------------------------------------------------


def test_files_give_their_arrays_back():
    sines = np.sin(np.arange(64)[:, None] * np.arange(6)).astype(np.float32)
    arrays = {
        "as it is": np.repeat(RNG.integers(-7, 8, (50, 1), np.int8), 40, 1),
        "turned": np.repeat(RNG.integers(-7, 8, (1, 40), np.int8), 50, 0),
        "cube": np.arange(24, dtype=np.int32).reshape(2, 3, 4),
        "half": sines.astype(np.float16), "vector": sines[0], "empty": sines[:0],
    }  # fmt: skip
    found = archive.read(archive.write(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_file_decodes_to_its_labels_and_scales():
    net = _network()
    (found,) = baselines.rounded(net, ["4 bits"], 64)
    levels = quantizers.integers(4)
    kernel = quantizers.nearest(net.params["out.kernel"].T.copy(), levels, 64)
    right = quantizers.dequantize(kernel, levels).T
    np.testing.assert_array_equal(found.params["out.kernel"], right)
    half = net.params["out.bias"].astype(np.float16)
    np.testing.assert_array_equal(found.params["out.bias"], half)
    assert found.params["out.bias"].dtype == np.float32
    # Between four and eight bits for each weight, scales, half precision, names.
    weights = 40 * 96 + 96 * 50
    assert weights * 3.5 / 8 < found.file_bytes < weights * 4.5 / 8 + 800


def test_what_half_precision_cannot_hold_is_an_error():
    net = _network()
    net.params["out.bias"][3] = 1e6
    with pytest.raises(ValueError, match="out.bias has values that half precision"):
        next(baselines.rounded(net, ["4 bits"], None))


# ---- methods ------------------------------------------------------------------------


@pytest.mark.parametrize("name", methods.methods(None))
def test_more_bytes_are_better_by_every_method(name: str):
    method = methods.methods(None)[name]
    net = _network()
    # With less than a bit for a weight hardly any are left of so few.
    settings = [own for own in method.settings if not own.startswith("0.")]
    for data in method.data:
        found = list(method.points(net, data, settings))
        assert [own.setting for own in found] == settings
        sizes = [own.file_bytes for own in found]
        errors = [net.quality(own.params)["error"] for own in found]
        assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)
        for own in found:
            assert {n: x.shape for n, x in own.params.items()} == {
                n: x.shape for n, x in net.params.items()
            }


def test_ours_keeps_within_its_bytes():
    net = _network()
    for own in methods.searched(net, NO_DATA, ["3 bits", "5 bits"]):
        most = float(own.setting.split()[0]) * net.values() / 8
        assert 0.95 * most < own.file_bytes <= most


PEER = """
import sys, numpy as np
setting, source, target, decoded, *tables = sys.argv[1:]
arrays = dict(np.load(source))
assert [arrays[name].shape for name in tables] == [(40, 96)]
found = {name: array.astype(np.float16) for name, array in arrays.items()}
open(target, "wb").write(b"".join(array.tobytes() for array in found.values()))
np.savez(decoded, **found)
"""


@pytest.mark.parametrize("name", ablation.methods())
def test_each_part_can_be_left_out(name: str):
    net = _network()
    method = ablation.methods()[name]
    sizes = [
        (methods.bytes_of(own.setting, net), own.file_bytes)
        for own in method.points(net, "real+random", ["4 bits", "6 bits"])
    ]
    assert all(size <= most for most, size in sizes) and sizes[0][1] < sizes[1][1]


def test_a_peer_gets_matrices_and_gives_them_back(tmp_path: Path):
    net, script = _network(), tmp_path / "peer.py"
    script.write_text(PEER)
    python = Path(sys.executable)
    (found,) = peers.coded(net, ["half"], python=python, script=str(script))
    assert found.file_bytes == 2 * net.values() and found.setting == "half"
    for name, leaf in net.params.items():
        np.testing.assert_array_equal(found.params[name], leaf.astype(np.float16))


def test_peers_are_tried_where_they_are():
    without = methods.methods(None)
    assert methods.methods(Path("python")).keys() - without == set(methods.PEERS)


# ---- rows ---------------------------------------------------------------------------


def _points(net: Network, data: str, settings: Sequence[str]) -> Iterator[Coded]:
    for setting in settings:
        if setting == "fails":
            raise RuntimeError("killed")
        scale = float(setting)
        params = {name: scale * leaf for name, leaf in net.params.items()}
        yield Coded(setting, int(100 * scale), params)


def test_a_run_that_was_ended_goes_on(tmp_path: Path):
    loads: list[str] = []

    def load() -> Network:
        loads.append("loaded")
        return _network()

    def measure(*settings: str) -> list[Row]:
        tried = {"scaled": Method(("real",), settings, _points)}
        command.measure(load, "tiny", tried, tmp_path)
        return results.read(tmp_path / "results.json")

    with pytest.raises(RuntimeError, match="killed"):
        measure("0.5", "fails")
    rows = measure("0.5", "1.0")
    assert [(r.network, r.method, r.data, r.bytes, r.metric) for r in rows] == [
        ("tiny", DENSE, "none", 4 * (40 * 96 + 96 * 50 + 50), "error"),
        ("tiny", "scaled: 0.5", "real", 50, "error"),
        ("tiny", "scaled: 1.0", "real", 100, "error"),
    ]
    assert [row.value == 0 for row in rows] == [True, False, True]
    assert measure("1.0", "0.5") == rows
    assert len(loads) == 2
    fields = set(json.loads((tmp_path / "results.json").read_text())[0])
    assert fields == {
        "network", "method", "data", "bytes", "metric", "value", "cpu_seconds"
    }  # fmt: skip


ROWS = [
    Row("a", DENSE, "none", 4000, "cos", 1.0, 0.0),
    Row("a", "int: 8 bits", "none", 1000, "cos", 0.999, 2.0),
    Row("a", "int: 8 bits", "none", 1000, "rho", 0.99, 2.0),
    Row("a", "int: 4 bits", "none", 500, "cos", 0.9, 1.0),
    Row("a", "deepcomp_jax: 2 bits", "real", 250, "cos", 0.97, 1.0),
    Row("b", DENSE, "none", 4000, "error %", 5.0, 0.0),
    Row("b", "int: 4 bits", "none", 700, "error %", 6.0, 1.5),
]


def test_the_table_has_a_line_for_each_file():
    metrics = {
        "a": Metric("cos", True, (0.99, 0.9)),
        "b": Metric("error %", False, (0.3,), above_dense=True),
    }
    # Of int, the loss falls from .1 to .001 while bytes double: .01 is half way.
    assert list(results.lines(ROWS, metrics))[1:] == [
        "",
        "a",
        "method        setting  data  bytes    cos   rho  CPU s",
        "deepcomp_jax  2 bits   real    250   0.97          1.0",
        "float32       none     none  4,000      1          0.0",
        "int           4 bits   none    500    0.9          1.0",
        "int           8 bits   none  1,000  0.999  0.99    2.0",
        "",
        "bytes at cos, between files",
        "method        data  0.99  0.9",
        "deepcomp_jax  real     -  250",
        "int           none   707  500",
        "",
        "b",
        "method   setting  data  bytes  error %  CPU s",
        "float32  none     none  4,000        5    0.0",
        "int      4 bits   none    700        6    1.5",
        "",
        "bytes at error %, between files",
        "method  data  5.3",
        "int     none    -",
    ]


def test_figures_show_what_is_lost():
    lost = curves.draw(ROWS, "a", Metric("cos", True)).axes[0]
    assert lost.get_ylabel() == "1 - cos" and lost.get_yscale() == "log"
    lines = {str(own.get_label()): own for own in lost.lines}
    assert set(lines) == {"deepcomp_jax (real data)", "int"}
    np.testing.assert_allclose(lines["int"].get_xdata(), [0.5, 1.0])
    np.testing.assert_allclose(lines["int"].get_ydata(), [0.1, 0.001])
    errors = curves.draw(ROWS, "b", Metric("error %", False)).axes[0]
    assert errors.get_ylabel() == "error %"
    assert [own.get_label() for own in errors.lines] == ["int", "float32: 5.00 %"]


def test_figures_of_all_methods_can_be_read(monkeypatch: pytest.MonkeyPatch):
    rows = [
        Row("a", f"{name}: {setting}", data, 1000 * i, "cos", 1 - 0.5**i, 1.0)
        for name, method in methods.methods(Path("python")).items()
        for data in method.data
        for i, setting in enumerate(method.settings, 1)
    ]
    legible.assert_legible(curves.draw(rows, "a", Metric("cos", True)), monkeypatch)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--methods", "magic"), "'magic' is no method: there are"),
        (("--networks", "silero"), "need --wheels"),
    ],
)
def test_a_wrong_command_says_why(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit):
        command.main(["--work-dir", str(tmp_path), "--output", str(tmp_path), *words])
    assert message in capsys.readouterr().err
