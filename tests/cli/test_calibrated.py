"""compress --calibration: the statistics of a network, and what they are worth."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import checkpoints
from deepcomp_jax.cli.progress import Meter
from tests.support import laws

METADATA = {"note": "ä" * 100}


def layers(params: Any, x: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(x @ params["a.weight"] + params["a.bias"][None])
    return hidden @ params["b.weight"]


def network() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.normal(size=(40, 90)).astype(np.float32) / 6,
        "a.bias": rng.normal(size=90).astype(np.float32),
        "b.weight": rng.normal(size=(90, 30)).astype(np.float32) / 9,
    }


def inputs(seed: int) -> np.ndarray:
    basis = np.random.default_rng(9).normal(size=(5, 40))
    return np.random.default_rng(seed).normal(size=(100, 5)) @ basis


class Given(NamedTuple):
    """A checkpoint and its statistics on disk."""

    model: Path
    calibration: Path


@pytest.fixture
def given(tmp_path: Path) -> Given:
    model, calibration = tmp_path / "m.safetensors", tmp_path / "calibration.npz"
    ids = {"ids": np.arange(9), "wide": np.linspace(0, 1, 20)}
    checkpoints.write(model, network() | ids, metadata=METADATA)
    dc.calibrate(layers, network(), [inputs(1)]).save(calibration)
    return Given(model, calibration)


def failed(said: Any, status: int, match: str) -> None:
    assert (said.status, said.out) == (status, ""), said
    assert said.err.startswith("dcz: ") and said.err.count("\n") == 1, said.err
    assert re.search(match, said.err), said.err


def error(params: dict[str, np.ndarray]) -> float:
    x = jnp.asarray(inputs(2), jnp.float32)
    changed = layers({k: jnp.asarray(v) for k, v in params.items()}, x)
    return float(jnp.square(changed - layers(network(), x)).mean())


@pytest.mark.parametrize("asked", [("--bytes", "4kB"), ("--bits-per-weight", "5")])
def test_outputs_change_less_than_without(
    dcz: Callable[..., Any], given: Given, asked: tuple[str, str]
):
    values = sum(leaf.size for leaf in network().values()) + 29
    limit = 4000 if asked[0] == "--bytes" else 5 * values // 8
    errors = {}
    for name, more in (("with", ["--calibration", given.calibration]), ("without", [])):
        said = dcz("compress", given.model, *asked, *more, "-f")
        assert (said.status, said.err) == (0, "")
        output = given.model.with_suffix(".dcz")
        assert 0.97 * limit < output.stat().st_size <= limit
        with dc.open(output) as file:
            assert file.metadata == METADATA | {"dcz.origin": "safetensors"}
            errors[name] = error(file.load(only="weight|bias"))
    assert errors["with"] < 0.5 * errors["without"]
    assert dcz("verify", given.model.with_suffix(".dcz")).status == 0


def test_keep_only_and_skip(dcz: Callable[..., Any], given: Given):
    output = given.model.with_suffix(".dcz")
    call = "compress", given.model, "--calibration", given.calibration, "--bytes"
    assert dcz(*call, "14kB", "--keep", "^b|bias").status == 0
    found = dc.load(output)
    assert found.keys() == network().keys() | {"ids", "wide"}
    for name in ("a.bias", "b.weight"):
        laws.assert_identical(found[name], network()[name])
    assert (found["a.weight"] != network()["a.weight"]).any()
    assert dcz(*call, "2kB", "--only", "^a", "-f").status == 0
    assert dc.load(output).keys() == {"a.weight", "a.bias"}
    assert dcz(*call, "2kB", "--skip", "^a", "-f").status == 0
    assert dc.load(output).keys() == {"b.weight", "ids", "wide"}


@pytest.mark.filterwarnings("always")
def test_all_are_kept(dcz: Callable[..., Any], given: Given):
    call = "compress", given.model, "--calibration", given.calibration, "--keep", ""
    said = dcz(*call, "--bytes", "30kB")
    assert said.status == 0 and "no leaf that is quantized" in said.err
    found = dc.load(given.model.with_suffix(".dcz"), only="^[ab]")
    laws.assert_identical(found, network())
    said = dcz(*call, "--bytes", "9kB", "-f")
    assert said.status == 2 and "above the 9000 that were asked for" in said.err


def test_a_nested_checkpoint(dcz: Callable[..., Any], tmp_path: Path):
    """Names are paths, as of all pytrees."""
    tree = {"params": [{"kernel": network()["a.weight"]}, network()["a.bias"]]}

    def fn(tree: Any, x: jax.Array) -> jax.Array:
        return x @ tree["params"][0]["kernel"] + tree["params"][1][None]

    checkpoints.write(tmp_path / "m.msgpack", tree)
    dc.calibrate(fn, tree, [inputs(1)]).save(tmp_path / "c.npz")
    call = "compress", tmp_path / "m.msgpack", "--bytes", "2kB"
    assert dcz(*call, "--calibration", tmp_path / "c.npz").status == 0
    assert 1900 < (tmp_path / "m.dcz").stat().st_size <= 2000


@pytest.mark.parametrize(
    "more",
    [[], ["--lossless"], ["--max-relative-error", "0.1"], ["--rules", "r.toml"]],
    ids=str,
)
def test_it_goes_with_a_size(dcz: Callable[..., Any], given: Given, more: list[str]):
    said = dcz("compress", given.model, "--calibration", given.calibration, *more)
    failed(said, 2, "--calibration goes with --bytes or --bits-per-weight: give one")


def test_statistics_that_do_not_fit(
    dcz: Callable[..., Any], given: Given, tmp_path: Path
):
    call = "compress", given.model, "--bytes", "4kB", "--calibration"
    failed(dcz(*call, tmp_path / "none.npz"), 1, "none.npz: No such file")
    failed(dcz(*call, given.model), 1, "m.safetensors")
    failed(dcz(*call, given.calibration, "-o", given.calibration, "-f"), 2, "the input")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    failed(dcz(*call, tmp_path / "other.npz"), 1, "holds no statistics of a network")
    failed(
        dcz(*call, given.calibration, "--max-bytes", "10kB"), 1, "above max_bytes=10000"
    )
    other = tmp_path / "c.npz"
    renamed = {"w" + name: leaf for name, leaf in network().items()}

    def fn(params: Any, x: jax.Array) -> jax.Array:
        return layers({name[1:]: leaf for name, leaf in params.items()}, x)

    dc.calibrate(fn, renamed, [inputs(1)]).save(other)
    failed(dcz(*call, other), 2, "another network: it has wa.bias.*checkpoint ids")
    first = {name: leaf for name, leaf in network().items() if name < "b"}
    dc.calibrate(lambda p, x: x @ p["a.weight"], first, [inputs(1)]).save(other)
    failed(dcz(*call, other), 2, "has no b.weight: calibrate them too, or .* --keep")
    assert dcz(*call[:3], "14kB", call[-1], other, "--keep", "^b").status == 0
    turned = network() | {"a.weight": network()["a.weight"].T}
    checkpoints.write(given.model, turned)
    failed(dcz(*call, given.calibration, "-f"), 1, "leaf 'a.weight' of another shape")


def test_a_size_that_cannot_be(dcz: Callable[..., Any], given: Given):
    call = "compress", given.model, "--calibration", given.calibration, "--bytes"
    for size in ("200", "450"):  # less than metadata, and than the rest
        said = dcz(*call, size)
        failed(said, 2, rf"takes about \d+ bytes at the least, above the {size}")
    least = int(re.findall(r"about (\d+)", said.err)[0])
    assert dcz(*call, str(least)).status == 0


def test_progress_begins_anew_with_each_file(
    dcz: Callable[..., Any], given: Given, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    asked = "--bytes", "4kB", "--calibration", given.calibration, "-f"
    said = dcz("compress", given.model, *asked)
    assert said.status == 0
    shown = said.err.split("\r")
    assert any(re.match(r"compress: tensor 3 of 3, \d+\.\d kB, 0 s", s) for s in shown)
    assert any(
        re.match(r"compress: tensor 5 of 5, .* -> 3\.\d kB, 0", s) for s in shown
    )
    assert said.err.endswith(" \r")
    assert dcz("compress", given.model, *asked, "-q").err == ""


def test_the_time_that_is_left_is_that_of_what_is_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    clock = iter([0.0, 10.0, 20.0, 100.0, 101.0, 102.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    meter = Meter("compress", on=True)
    for done in (1, 2, 1, 2, 3):
        meter(done, 4, 0, 0)
    left = re.findall(r"(\d+) s left", capsys.readouterr().err)
    assert left == ["30", "20", "0", "1", "1"]
