"""The recipe with the rate in the loss, on a tiny setting."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import rate_loss
from experiments import lenet_mnist, protocol
from experiments.study import rate_training
from experiments.study.rate_training import RateLoss, Rest
from experiments.training.train import Seen, TrainState
from tests.experiments.test_lenet import blots
from tests.support.killing import assert_same_outcome, run_killed, timeless_rows
from tests.support.small import ROLES, Small

NETWORK = lenet_mnist.NETWORKS["lenet300"]
TINY = dataclasses.replace(
    NETWORK.presets["small"],
    width=0.1,
    validation=40,
    batch=10,
    augment=False,
    dense_epochs=6,
    dense_rate=1e-2,
    epochs=(8,),
    rates=(0.1,),
    tune_epochs=6,
    tune_rate=0.1,
    grid_step=1.0,
    target_bytes=(2000,),
    bit_price=3e-5,
)


def run(directory: Path, **changes: Any) -> dict[str, Any]:
    """Runs the tiny recipe, or what is left of it; returns what its report holds."""
    config = dataclasses.replace(TINY, **changes)
    model = NETWORK.build(config, 10)
    return protocol.run(config, model, NETWORK.roles, blots(), directory)


def test_phases_and_outputs(finished: Path):
    rows = {row["phase"]: row for row in timeless_rows(finished)}
    assert list(rows) == [
        "dense", "dense-end", "sparsify", "sparsify-end", "grid-start", "grid",
        "grid-end", "test",
    ]  # fmt: skip
    assert rows["grid-end"]["bytes"] == (finished / "model.dcz").stat().st_size
    report = json.loads((finished / "report.json").read_text())
    assert rows["grid-end"]["unique"] == report["unique"]
    assert rows["grid-end"]["nonzero"] == report["nonzero"]
    names = {path.name for path in finished.iterdir()}
    assert {"report.json", "report.txt", "fig4a_fine_tuning_grid.png"} <= names


def test_it_is_small_and_has_learned(finished: Path):
    report = json.loads((finished / "report.json").read_text())
    assert report["test_error"] < 50
    assert report["ratio"] > 25
    wide = NETWORK.build(TINY, 10).init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    shapes = jax.tree.map(jnp.shape, dc.load(finished / "model.dcz"))
    assert shapes == jax.tree.map(jnp.shape, wide)


def test_weights_are_on_grids(finished: Path):
    for layer in dc.load(finished / "model.dcz")["params"].values():
        for leaf in layer.values():
            step = np.abs(leaf[leaf != 0]).min(initial=np.inf)
            np.testing.assert_allclose(leaf / step, np.rint(leaf / step), atol=1e-5)


@pytest.mark.usefixtures("no_figures")
def test_a_network_asked_to_be_smaller_is(finished: Path, tmp_path: Path):
    dear = run(
        tmp_path, target_bytes=(800,), dense_epochs=2, epochs=(6,), tune_epochs=1
    )
    assert dear["file_bytes"] < (finished / "model.dcz").stat().st_size


@pytest.mark.usefixtures("no_figures")
def test_the_size_is_measured_now_and_then(tmp_path: Path):
    run(tmp_path, dense_epochs=1, epochs=(1,), tune_epochs=4, measurements=2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["phase"] == "grid"]
    assert ["bytes" in row for row in rows] == [True, False, True, False]
    prices = [row["bit_price"] for row in rows]
    assert len(set(prices)) == 4  # it changes in between too


@pytest.mark.usefixtures("no_figures")
def test_a_killed_run_ends_with_the_same_file(finished: Path, tmp_path: Path):
    directory = tmp_path / "run"
    run_killed(__name__, directory, ("sparsify.msgpack", "grid.msgpack"))
    run(directory)
    assert_same_outcome(directory, finished)


def test_a_file_for_each_size(finished: Path, tmp_path: Path):
    first = run(tmp_path, target_bytes=(2000, 1500, 1100))
    again = json.loads((finished / "report.json").read_text())
    assert first["file_bytes"] == again["file_bytes"]
    sizes = [first["file_bytes"]]
    for name in ("grid-2", "grid-3"):
        report = json.loads((tmp_path / name / "report.json").read_text())
        sizes.append((tmp_path / name / "model.dcz").stat().st_size)
        assert report["file_bytes"] == sizes[-1]
        assert (tmp_path / name / "fig_training.png").stat().st_size > 0
        assert report["seconds"] > first["seconds"]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.8 * sizes[0]


def test_no_size_is_an_error_before_anything_is_trained():
    with pytest.raises(ValueError, match="target_bytes is empty"):
        dataclasses.replace(TINY, target_bytes=())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target_bytes": (2000, 0)}, "target_bytes=.*: give sizes above 0"),
        ({"target_bytes": (1000, 2000)}, "each smaller than the one before"),
        ({"target_bytes": (1000, 1000)}, "each smaller than the one before"),
        ({"measurements": 0}, "measurements=0: .* give 1 or more"),
        ({"epochs": ()}, "epochs is empty"),
        ({"rates": ()}, "rates is empty"),
    ],
    ids=str,
)
def test_other_settings_that_only_the_end_would_show(
    wrong: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **wrong)


def test_the_sparse_phase_counts_once_however_many_iterations():
    config = dataclasses.replace(
        TINY, dense_epochs=3, iterations=5, epochs=(4,), tune_epochs=2
    )
    assert config.total_epochs() == 9


@pytest.mark.parametrize("other", [{"pruning": "erk"}, {"sharing": "kmeans"}])
def test_prices_and_grids_go_together(other: dict[str, Any]):
    with pytest.raises(ValueError, match="'rate' and 'grid' go together"):
        dataclasses.replace(TINY, **other)


@pytest.mark.usefixtures("no_figures")
def test_a_network_with_batchnorm(tmp_path: Path):
    """Nothing in the recipe is about LeNets: units are optional, statistics folded."""
    config = dataclasses.replace(TINY, dense_epochs=1, epochs=(1,), tune_epochs=1)
    report = protocol.run(config, Small(), ROLES, blots(), tmp_path)
    variables = dc.load(tmp_path / "model.dcz")
    assert report["file_bytes"] == (tmp_path / "model.dcz").stat().st_size
    for norm in variables["batch_stats"].values():
        np.testing.assert_array_equal(norm["mean"], 0)
        np.testing.assert_array_equal(norm["var"], norm["var"][0])
        assert norm["var"][0] > 0


def test_the_loss_is_what_it_says():
    model = NETWORK.build(TINY, 10)
    images = jax.random.normal(jax.random.key(0), (5, 28, 28, 1))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    labels = jnp.arange(5)
    params = variables["params"]
    steps = rate_loss.step_sizes(params, 3.0, of_vectors=0.5)
    prices = rate_loss.position_bits(params, steps)
    logits: Any = jax.jit(model.apply)(variables, images)
    seen = Seen(images, labels, logits, answers=logits)
    rest = Rest({}, steps, prices, jnp.float32(0.5), jnp.float32(0))

    bits = float(rate_loss.expected_bits(params, steps, prices))
    alone = float(jax.jit(RateLoss(1.0))(seen, params, rest))
    assert alone == pytest.approx(0.5 * bits, rel=1e-5)
    free = rest._replace(bit=jnp.float32(0))
    chances = jax.nn.log_softmax(seen.logits)[labels, labels]
    labeled = float(jax.jit(RateLoss(0.0))(seen, params, free))
    assert labeled == pytest.approx(-float(chances.mean()), rel=1e-5)
    apart = jax.jit(RateLoss(1.0))(seen._replace(answers=-logits), params, free)
    assert float(apart) > 0.01


@pytest.mark.parametrize(
    ("size", "change"), [(1000, 1.15), (525, 1.05), (475, 0.95**0.1), (5, 1 / 1.15)]
)
def test_the_price_follows_the_size(size: int, change: float):
    """In the second half of the epochs, when the size shall be 500 bytes."""
    config = dataclasses.replace(TINY, tune_epochs=10, measurements=1)
    params, steps = {"w": jnp.ones(100)}, {"w": jnp.float32(1)}
    each = jnp.float32(size / 100)
    rest = Rest({}, steps, {"w": jnp.zeros(100)}, jnp.float32(2), each)
    state, row = rate_training._adapted(
        config,
        lambda _: pytest.fail("the size is not measured in this epoch"),
        rate_training.Fall(900, to=500),
        TrainState(params, rest, None),
        epoch=7,
    )
    assert row == {"nonzero": 100, "bit_price": pytest.approx(2 * change)}
    assert float(state.rest.bit) == pytest.approx(2 * change)
