"""Sizes and errors that are asked for, with a calibration."""

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import Rule, budget, share
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf
from deepcomp_jax.budget.looks import Looks
from deepcomp_jax.calibration import Calibration
from tests.support import laws


def layers(params: Any, x: jax.Array) -> jax.Array:
    first, second = params["first"], params["second"]
    hidden = jax.nn.relu(x @ first["kernel"] + first["bias"][None])
    return hidden @ second["kernel"] + second["bias"][None]


class Layers(NamedTuple):
    """The containers of the network that a user may have."""

    first: Any
    second: Any


@functools.cache
def network() -> tuple[Any, Calibration]:
    """Two layers, and inputs of few dimensions that differ in size."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    params = {
        "first": {"kernel": draw(64, 96) / 8, "bias": draw(96) / 10},
        "second": {"kernel": draw(96, 20) / 10, "bias": draw(20) / 10},
    }
    return params, dc.calibrate(layers, params, [inputs(1)])


def inputs(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(0).normal(size=(12, 64)) * np.geomspace(1, 9, 64)
    mixed = rng.normal(size=(300, 12)) @ basis + rng.normal(size=(300, 64))
    return (mixed / 10).astype(np.float32)


def error(params: Any) -> float:
    """Of outputs for inputs that were not calibrated, relative."""
    x = jnp.asarray(inputs(2))
    wanted = layers(network()[0], x)
    changed = layers(jax.tree.map(jnp.asarray, params), x) - wanted
    return float(jnp.square(changed).mean() / jnp.square(wanted).mean())


@pytest.mark.parametrize("size", [2500, 4000, 8000])
def test_a_file_of_the_size_that_is_asked_for(size: int, tmp_path: Path):
    params, found = network()
    point = budget.within_bytes(params, size, calibration=found)
    assert 0.98 * size < point.file_bytes <= size
    assert point.save(tmp_path / "m.dcz") == point.file_bytes
    assert (tmp_path / "m.dcz").stat().st_size == point.file_bytes
    decoded = dc.decompress(point.compressed)
    laws.assert_identical(dc.load(tmp_path / "m.dcz"), decoded)
    without = budget.within_bytes(params, size)
    assert error(decoded) < 0.5 * error(dc.decompress(without.compressed))


def test_the_network_of_a_price():
    params, found = network()
    points = [
        budget.point(params, rd_lambda=price, calibration=found)
        for price in (1e-4, 1e-2)
    ]
    assert points[0].file_bytes > points[1].file_bytes
    errors = [error(dc.decompress(point.compressed)) for point in points]
    assert errors[0] < errors[1]
    for point in points:
        assert len(dc.dumps(point.compressed)) == point.file_bytes


def test_rules_say_which_leaves():
    params, found = network()
    rules = [Rule("first/bias"), Rule("second/kernel")]
    point = budget.within_bytes(params, 24_000, rules, calibration=found)
    decoded = dc.decompress(point.compressed)
    for layer, name in (("first", "kernel"), ("second", "bias")):
        laws.assert_identical(decoded[layer][name], params[layer][name])
    assert (decoded["second"]["kernel"] != params["second"]["kernel"]).any()
    assert (decoded["first"]["bias"] != params["first"]["bias"]).any()
    kinds = [type(leaf) for leaf in point.compressed.leaves]
    assert kinds == [DenseLeaf, DenseLeaf, DenseLeaf, SharedLeaf]


def test_leaves_of_other_types_keep_every_bit():
    params, found = network()
    more = params | {"steps": np.arange(30), "mask": np.arange(9) % 2 == 0}
    more["wide"] = np.linspace(0, 1, 40)
    decoded = dc.decompress(
        budget.within_bytes(more, 4000, calibration=found).compressed
    )
    for name in ("steps", "mask", "wide"):
        laws.assert_identical(decoded[name], more[name])


def test_the_smallest_file_within_an_error():
    params, found = network()
    most = 1e-3
    point = budget.within_error(params, error, most, calibration=found)
    assert error(dc.decompress(point.compressed)) <= most
    smaller = budget.within_bytes(
        params, int(0.93 * point.file_bytes), calibration=found
    )
    assert error(dc.decompress(smaller.compressed)) > most
    without = budget.within_error(params, error, most)
    assert point.file_bytes < 0.9 * without.file_bytes
    with pytest.raises(ValueError, match="at the finest steps, above -1: allow more"):
        budget.within_error(params, error, -1, calibration=found)


@pytest.mark.parametrize(
    ("returned", "kind", "message"),
    [
        (math.nan, ValueError, "the error is NaN at the finest steps: see"),
        (None, TypeError, "must return one number, got None"),
        (np.zeros(3), TypeError, "must return one number"),
    ],
    ids=str,
)
def test_errors_that_are_no_numbers(returned: Any, kind: type, message: str):
    params, _ = network()
    with pytest.raises(kind, match=message):
        budget.within_error(params, lambda _: returned, 1.0)


def test_errors_see_the_containers_of_the_variables():
    params, found = network()

    def checked(decoded: Any) -> float:
        assert isinstance(decoded, Layers)
        return error(decoded._asdict())

    given = Layers(**params)
    for how in ({}, {"calibration": found}):
        assert budget.within_error(given, checked, 1e-2, **how).file_bytes > 0


@pytest.mark.parametrize("wrong", ["calibration.npz", [np.ones(3)], {}], ids=str)
def test_what_is_no_calibration(wrong: Any):
    params, _ = network()
    with pytest.raises(TypeError, match=r"dc\.calibration\.load of a file, got"):
        budget.within_bytes(params, 4000, calibration=wrong)


@pytest.mark.parametrize("search", ["within_bytes", "plan"])
def test_files_that_are_mostly_of_leaves_that_are_kept(search: str):
    rng = np.random.default_rng(0)
    params = {
        "kernel": rng.normal(size=(60, 60)).astype(np.float32),
        "out": rng.normal(size=(20, 20)).astype(np.float32),
    }
    with pytest.warns(UserWarning, match=r"1\d{3} of 2500 .*\(out\)") as caught:
        if search == "plan":
            budget.plan(params, max_bytes=2500)
        else:
            budget.within_bytes(params, 2500)
    assert [one.filename for one in caught] == [__file__]
    if search == "within_bytes":  # whoever gives rules has chosen
        budget.within_bytes(params, 2500, [Rule("kernel")])


def test_a_size_that_cannot_be():
    params, found = network()
    with pytest.raises(ValueError, match="no steps give a file of 50 bytes, the lea"):
        budget.within_bytes(params, 50, calibration=found)


def test_what_does_not_go_together():
    params, found = network()
    importance = jax.tree.map(np.ones_like, params)
    with pytest.raises(ValueError, match="a calibration is an importance: give one of"):
        budget.within_bytes(params, 4000, importance=importance, calibration=found)
    for rule in (
        Rule("kernel", share=share.kmeans(4)),
        Rule("kernel", prune=dc.prune.by_magnitude(0.5)),
        Rule("kernel", coding="packed"),
    ):
        with pytest.raises(
            ValueError, match="'kernel': with a calibration, rules only"
        ):
            budget.within_bytes(params, 4000, [rule], calibration=found)
    more = params | {"wide": np.linspace(0, 1, 40)}
    with pytest.raises(ValueError, match="cannot have scales: wide; only float16"):
        budget.within_bytes(more, 4000, [Rule("kernel|wide")], calibration=found)


def test_a_calibration_of_another_network():
    params, found = network()
    renamed = {"a": params["first"], "second": params["second"]}
    with pytest.raises(ValueError, match=r"does not have a/bias, a/kernel: calibrate"):
        budget.within_bytes(renamed, 4000, calibration=found)
    fewer = {"second": params["second"]}
    with pytest.raises(ValueError, match=r"is of other leaves: 'first/"):
        budget.within_bytes(fewer, 4000, calibration=found)
    wider = jax.tree.map(lambda leaf: np.repeat(leaf, 2, -1), params)
    turned = jax.tree.map(np.transpose, params)
    flat = jax.tree.map(np.ravel, params)
    for other in (wider, turned, flat):
        with pytest.raises(ValueError, match="leaf 'first/kernel' of another shape"):
            budget.within_bytes(other, 4000, calibration=found)


def test_a_network_of_which_nothing_was_followed():
    params = {"bias": np.linspace(0, 1, 50, dtype=np.float32)}
    found = dc.calibrate(lambda p, x: x + p["bias"][None], params, [np.ones((3, 50))])
    with pytest.warns(UserWarning, match="no leaf that is quantized is multiplied"):
        point = budget.within_bytes(params, 210, calibration=found)
    assert point.file_bytes < 200 and point.rd_lambda > 0


@pytest.mark.parametrize("calibrated", [False, True])
def test_with_bytes_to_spare_nothing_is_changed(calibrated: bool):
    params, found = network()
    whole = len(dc.dumps(dc.compress(params, [])))
    sizes = [4000, whole - 1, whole, 10 * whole]
    points = budget.curve(params, sizes, calibration=found if calibrated else None)
    for point, is_whole in zip(points, [False, False, True, True], strict=True):
        assert (point.rd_lambda == 0) == is_whole
        decoded = dc.decompress(point.compressed)
        if is_whole:
            laws.assert_identical(decoded, params)
            assert point.file_bytes == whole == len(point.data)
        else:
            assert error(decoded) > 0


def test_progress_counts_what_is_factored_rounded_and_written():
    params, found = network()
    told: list[tuple[int, ...]] = []
    point = budget.within_bytes(
        params, 4000, calibration=found, progress=lambda *now: told.append(now)
    )
    runs = [told[first : first + 4] for first in range(0, len(told), 4)]
    for run in runs:
        done, leaves, read, written = zip(*run, strict=True)
        assert done == (1, 2, 3, 4) and set(leaves) == {4}
        assert read[-1] == sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        assert list(read) == sorted(read) and list(written) == sorted(written)
    # Statistics are factored once, then each file is rounded and written.
    first, *ends = [run[-1][3] for run in runs]
    assert first == 0 and not any(ends[0::2]) and all(ends[1::2])
    assert len(ends) % 2 == 0 and point.file_bytes > ends[-1] > 0.9 * point.file_bytes
    alone: list[tuple[int, ...]] = []
    budget.within_bytes(params, 4000, progress=lambda *now: alone.append(now))
    assert alone[-1][:2] == (4, 4) and all(written for *_, written in alone[3::4])


def test_files_do_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch):
    params, found = network()
    files = []
    for cores in (1, 3):
        monkeypatch.setattr("os.cpu_count", lambda own=cores: own)
        files.append(budget.within_bytes(params, 4000, calibration=found).data)
    assert files[0] == files[1]


def test_the_files_of_a_curve():
    params, found = network()
    sizes = [3000, 4000, 6000, 8000, 5000]
    points = budget.curve(params, sizes, calibration=found)
    for point, size in zip(points, sizes, strict=True):
        assert 0.98 * size < point.file_bytes <= size


def test_a_known_file_corrects_the_estimate_of_others():
    class Straight:
        """Files of e**(-step) bytes and a quarter more than their estimate."""

        ends, values = (-9.0, -5.0), 100

        def bits(self, log_step: float) -> float:
            return 8 * math.exp(-log_step)

        def stored(self) -> dict[str, float]:
            return {}

        def compressed(self, log_step: float) -> Compressed:
            size = round(1.25 * math.exp(-log_step)) - EMPTY
            return Compressed([0], (DenseLeaf(noise(size)),), ())

    looks = Looks(Straight())
    assert looks.find(1250) == pytest.approx(-math.log(1250), abs=0.01)
    assert looks.file(-math.log(1000)).file_bytes == pytest.approx(1250, abs=5)
    assert looks.find(2500) == pytest.approx(-math.log(2000), abs=0.01)


def noise(size: int) -> np.ndarray:
    """Bytes that no coding makes smaller."""
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


# What a file has beside such a leaf.
EMPTY = len(dc.dumps(Compressed([0], (DenseLeaf(noise(1000)),), ()))) - 1000
