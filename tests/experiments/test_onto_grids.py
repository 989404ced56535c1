"""How coarse grids are found, and what rounding onto them leaves alone."""

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import rate_loss, trees
from experiments.study import onto_grids
from experiments.study.stages import Split, Study
from tests.experiments import test_rate_training
from tests.support.killing import assert_same_outcome, run_killed, timeless_rows
from tests.support.small import ROLES

SIZES = (3000, 1500)


def run(directory: Path) -> None:
    """Runs the tiny recipe with a calibration, or what is left of it."""
    test_rate_training.run(
        directory, calibrated=True, target_bytes=SIZES, tune_epochs=2
    )


def test_each_size_begins_on_grids_of_its_own(finished: Path):
    rows = {row["phase"]: row for row in timeless_rows(finished)}
    assert list(rows) == [
        "dense", "dense-end", "sparsify", "sparsify-end",
        "grid-steps", "grid-start", "grid", "grid-end",
        "grid-2-steps", "grid-2-start", "grid-2", "grid-2-end", "test", "grid-2-test",
    ]  # fmt: skip
    # Small weights are zero already when the phase ends.
    assert rows["sparsify-end"]["watch_error"] == rows["sparsify"]["watch_error"]
    coarseness = [rows[f"{name}-steps"]["coarseness"] for name in ("grid", "grid-2")]
    assert coarseness[0] < coarseness[1]
    # What another file took is not a part of what this one did.
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    own = [json.loads(line) for line in lines]
    before = ("dense", "dense-end", "sparsify", "sparsify-end", "test")
    for place, name in ((finished, "grid"), (finished / "grid-2", "grid-2")):
        steps = {
            *before,
            name,
            *(f"{name}-{part}" for part in ("steps", "start", "end")),
        }
        steps.add(f"{name}-test")
        seconds = sum(row["seconds"] for row in own if row["phase"] in steps)
        report = json.loads((place / "report.json").read_text())
        assert report["seconds"] == pytest.approx(seconds, abs=0.06)
    for name, size in zip(("grid", "grid-2"), SIZES, strict=True):
        assert rows[f"{name}-start"]["bytes"] == pytest.approx(1.3 * size, rel=0.05)
        assert rows[f"{name}-start"]["nonzero"] <= rows["sparsify-end"]["nonzero"]


@pytest.mark.usefixtures("no_figures")
def test_a_killed_run_ends_with_the_same_files(finished: Path, tmp_path: Path):
    run_killed(__name__, tmp_path, ("grid-steps.json", "grid-2.msgpack"))
    run(tmp_path)
    assert_same_outcome(tmp_path, finished)
    further = [place / "grid-2/model.dcz" for place in (tmp_path, finished)]
    assert further[0].read_bytes() == further[1].read_bytes()


class Dense(nn.Module):
    """Layers, of which the first and the last have far more of an effect."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(40, name="first")(x.reshape(x.shape[0], -1)))
        x = x + 0.01 * sum(nn.Dense(40, name=name)(x) for name in ("second", "third"))
        return nn.Dense(3, name="last")(x)


def sparse(params: Any = None) -> onto_grids.Sparse:
    """A network half of whose weights are zero, or with these parameters."""
    images = np.random.default_rng(0).integers(0, 256, (256, 5, 5, 1), np.uint8)
    model = Dense()
    if params is None:
        params = model.init(jax.random.key(0), jnp.zeros((1, 5, 5, 1)))["params"]
        params = jax.tree.map(lambda x: jnp.where(x > 0, x, 0), params)
    given: Any = None
    part = Split(jnp.array(images), jnp.zeros(256, jnp.int32))
    study = Study(given, given, model, part, part, ROLES)
    steps = rate_loss.step_sizes(params, 1.0, of_vectors=0.1)
    return onto_grids.sparse(study, params, {}, steps)


def test_what_matters_less_gets_coarser_grids():
    found = sparse()
    before = rate_loss.step_sizes(found.params, 1.0, of_vectors=0.1)
    factor = {
        name: float(own) / float(trees.named_leaves(before)[name])
        for name, own in trees.named_leaves(found.steps).items()
    }
    assert factor["second/kernel"] > 3 * factor["first/kernel"]
    assert factor["first/bias"] == 1


@pytest.mark.parametrize("coarseness", [0.5, 2.0])
def test_kernels_are_multiples_of_their_steps_and_zeros_stay(coarseness: float):
    found = sparse()
    params, steps = found.coarsened(coarseness)
    own, grids = trees.named_leaves(params), trees.named_leaves(steps)
    for name, leaf in trees.named_leaves(found.params).items():
        if leaf.ndim > 1:
            multiples = np.asarray(own[name] / grids[name])
            np.testing.assert_allclose(multiples, np.rint(multiples), atol=1e-3)
            assert not np.any(multiples[np.asarray(leaf) == 0])
            unit = trees.named_leaves(found.steps)[name]
            assert float(grids[name]) == pytest.approx(
                coarseness * float(unit), rel=1e-3
            )
        else:
            np.testing.assert_array_equal(own[name], leaf)


@pytest.mark.parametrize("slope", [0.4, 0.8, 1.3])
@pytest.mark.parametrize("aim", [1_600, 5_000])
def test_the_coarseness_for_a_size_is_found(slope: float, aim: float):
    """Whatever an octave of all steps saves."""
    found = sparse()
    first = float(found.steps["first"]["kernel"])

    def size(own: onto_grids.Coarsened) -> int:
        return round(2000 * (float(own.steps["first"]["kernel"]) / first) ** -slope)

    coarseness = found.coarseness(size, aim)
    assert size(found.coarsened(coarseness)) == pytest.approx(aim, rel=0.03)


@pytest.mark.parametrize("aim", [1, 1_000_000])
def test_a_size_that_no_grids_have(aim: int):
    """The nearest is taken, and it is a network still."""
    found = sparse()

    def size(own: onto_grids.Coarsened) -> int:
        return len(dc.dumps(dc.pack(rate_loss.shared_weights(*own))))

    coarseness = found.coarseness(size, aim)
    params, steps = found.coarsened(coarseness)
    kernels = [own for own in jax.tree.leaves(params) if own.ndim > 1]
    assert all(np.isfinite(own).all() and own.any() for own in kernels)
    first, last = (found.coarsened(2.0**octaves) for octaves in (-6, 0))
    if aim > 1:
        assert size(onto_grids.Coarsened(params, steps)) == size(first)
    else:
        assert size(onto_grids.Coarsened(params, steps)) < size(last)


def test_a_kernel_that_equals_another_gets_grids_as_coarse():
    params = sparse().params
    params["second"]["kernel"] = params["third"]["kernel"] = jnp.zeros((40, 40))
    found = sparse(params)
    grids = found.coarsened(3.0).steps
    for layer in ("first", "second", "third", "last"):
        assert float(grids[layer]["kernel"]) == pytest.approx(
            3 * float(found.steps[layer]["kernel"]), rel=1e-3
        )
