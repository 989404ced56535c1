"""Pruned weights stay zero and shared weights stay tied (chapter R)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import Rule, prune, retrain, share

OPTIMIZERS = {
    "sgd": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(0.1)),
    "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9),
}


@functools.cache
def _step(name: str, masked: bool) -> Callable[..., Any]:
    """A compiled step of an optimizer, one for all examples."""
    optimizer = OPTIMIZERS[name]
    if masked:
        optimizer = retrain.keep_pruned(optimizer, None)

    @jax.jit
    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def _params(seed: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        "kernel": jnp.array(rng.standard_normal((4, 5)), jnp.float32),
        "bias": jnp.array(rng.standard_normal(5), jnp.float32),
    }


def _masks(seed: int) -> dict[str, jax.Array]:
    kernel = np.random.default_rng(seed).random((4, 5)) < 0.5
    return {"kernel": jnp.array(kernel), "bias": jnp.array(True)}


@pytest.mark.spec("R1")
@pytest.mark.parametrize("name", OPTIMIZERS)
@given(st.integers(0, 1000))
def test_masks_never_regrow(name: str, seed: int):
    masks, params = _masks(seed), _params(seed)
    optimizer = retrain.keep_pruned(OPTIMIZERS[name], masks)
    state = optimizer.init(params)
    for step in range(4):
        params, state = _step(name, True)(params, state, _params(seed + step + 1))
        pruned = np.asarray(params["kernel"])[~np.asarray(masks["kernel"])]
        assert not pruned.any()


@pytest.mark.spec("R1", "R3")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_weight_pruned_in_flight_stays_zero(name: str):
    """With gradients masked but moments kept, Adam moved such a weight to -0.08."""
    keep_all = {"kernel": jnp.array(True), "bias": jnp.array(True)}
    optimizer = retrain.keep_pruned(OPTIMIZERS[name], keep_all)
    params = _params(0)
    state = optimizer.init(params)
    for step in range(3):
        updates, state = optimizer.update(_params(step), state, params)
        params = optax.apply_updates(params, updates)
    masks = _masks(1)
    state = retrain.set_masks(optimizer, state, masks)
    params = prune.apply(params, masks)
    gone = ~np.asarray(masks["kernel"])
    moments = [leaf for leaf in jax.tree.leaves(state.inner) if leaf.shape == (4, 5)]
    assert moments
    assert not any(np.asarray(moment)[gone].any() for moment in moments)
    for step in range(3):
        updates, state = optimizer.update(_params(step), state, params)
        params = optax.apply_updates(params, updates)
        assert not np.asarray(params["kernel"])[gone].any()


@pytest.mark.spec("R1")
def test_narrow_gradients_leave_nothing_of_a_pruned_weight():
    masks, params = _masks(0), _params(0)
    grads = jax.tree.map(lambda x: x.astype(jnp.bfloat16), _params(1))
    optimizer = retrain.keep_pruned(optax.sgd(0.1), masks)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    moved = optax.apply_updates(params, updates)
    assert not np.asarray(moved["kernel"])[~np.asarray(masks["kernel"])].any()


def test_a_step_that_consumes_its_state_leaves_the_masks():
    masks, params = _masks(0), _params(0)
    optimizer = retrain.keep_pruned(optax.sgd(0.1), masks)
    step = jax.jit(optimizer.update, donate_argnums=1)
    state = optimizer.init(params)
    for seed in range(2):
        step(_params(seed), state, params)
        state = retrain.set_masks(optimizer, optimizer.init(params), masks)
    assert np.asarray(masks["kernel"]).any()


@pytest.mark.spec("R1", "R3")
def test_an_optimizer_of_nnx():
    model = nnx.Linear(4, 5, rngs=nnx.Rngs(0))
    everything = jax.tree.map(lambda _: jnp.array(True), nnx.state(model, nnx.Param))
    masked = retrain.keep_pruned(optax.adam(0.1), everything)
    optimizer = nnx.Optimizer(model, masked, wrt=nnx.Param)

    @nnx.jit
    def step(model: nnx.Linear, optimizer: Any) -> None:
        grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones((1, 4))) ** 2))(model)
        optimizer.update(model, grads)

    step(model, optimizer)
    params = nnx.state(model, nnx.Param)
    masks = prune.masks(params, [Rule("kernel$", prune=prune.by_magnitude(0.5))])
    nnx.update(model, prune.apply(params, masks))
    optimizer.opt_state = retrain.set_masks(masked, optimizer.opt_state, masks)
    gone = np.asarray(model.kernel[...]) == 0
    assert gone.sum() == 10
    for _ in range(3):
        step(model, optimizer)
        assert (np.asarray(model.kernel[...]) == 0).sum() == 10
        assert not np.asarray(model.kernel[...])[gone].any()


@pytest.mark.spec("R2", "R4")
def test_kept_weights_move_as_under_the_plain_optimizer():
    masks, params, grads = _masks(0), _params(0), _params(1)
    plain = OPTIMIZERS["clipped"]
    masked = prune.apply(grads, masks)
    expected, _ = plain.update(masked, plain.init(params), params)
    optimizer = retrain.keep_pruned(plain, masks)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)

    kept = np.asarray(masks["kernel"])
    for name, where in (("kernel", kept), ("bias", np.ones(5, bool))):
        np.testing.assert_array_equal(
            np.asarray(updates[name])[where], np.asarray(expected[name])[where]
        )


@pytest.mark.spec("R5")
def test_new_masks_do_not_recompile():
    optimizer = retrain.keep_pruned(optax.adam(0.1), _masks(0))
    traces = []

    @jax.jit
    def step(params, state, grads):
        traces.append(1)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = _params(0)
    state = optimizer.init(params)
    for seed in range(3):
        state = retrain.set_masks(optimizer, state, _masks(seed))
        params, state = step(params, state, _params(seed))
    assert len(traces) == 1


@pytest.mark.spec("R6")
def test_parameters_are_needed():
    optimizer = retrain.keep_pruned(optax.sgd(0.1), _masks(0))
    with pytest.raises(ValueError, match=r"update\(updates, state, params\)"):
        optimizer.update(_params(0), optimizer.init(_params(0)))


def _shared(seed: int) -> share.SharedWeights:
    params = prune.apply(_params(seed), _masks(seed))
    return share.share(params, [Rule("kernel", share=share.kmeans(3))])


@pytest.mark.spec("R7")
def test_a_centroid_has_the_sum_of_its_members_gradients():
    shared = _shared(0)
    weights_grad = _params(5)["kernel"]

    def loss(codebooks):
        weights = share.lookup(share.replace_codebooks(shared, codebooks))["kernel"]
        return jnp.sum(weights * weights_grad)

    found = jax.grad(loss)(shared.codebooks)["kernel"]
    labels = np.asarray(shared.labels["kernel"])
    expected = [np.asarray(weights_grad)[labels == j].sum() for j in (1, 2, 3)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@jax.jit
@jax.grad
def _distance_grads(codebooks: Any, shared: share.SharedWeights, target: jax.Array):
    weights = share.lookup(share.replace_codebooks(shared, codebooks))["kernel"]
    return jnp.sum((weights - target) ** 2)


@pytest.mark.spec("R8", "R9")
@pytest.mark.parametrize("name", ["sgd", "adam"])
@given(st.integers(0, 1000))
def test_codebooks_stay_tied(name: str, seed: int):
    shared = _shared(seed)
    codebooks = shared.codebooks
    state = OPTIMIZERS[name].init(codebooks)
    for step in range(3):
        grads = _distance_grads(codebooks, shared, _params(step)["kernel"])
        codebooks, state = _step(name, False)(codebooks, state, grads)
    tuned = share.lookup(share.replace_codebooks(shared, codebooks))
    kernel, labels = np.asarray(tuned["kernel"]), np.asarray(shared.labels["kernel"])
    assert not kernel[labels == 0].any()
    for label in range(1, labels.max() + 1):
        assert len({value.tobytes() for value in kernel[labels == label]}) <= 1


WRAPPED = {
    "in a chain": lambda keep: optax.chain(optax.clip(1.0), keep(optax.adam(0.1))),
    "in a mask": lambda keep: optax.masked(
        keep(optax.adam(0.1)), {"kernel": True, "bias": False}
    ),
    "around a mask": lambda keep: keep(
        optax.masked(optax.adam(0.1), {"kernel": True, "bias": False})
    ),
    "in a partition": lambda keep: optax.partition(
        {"moved": keep(optax.adam(0.1)), "still": optax.set_to_zero()},
        {"kernel": "moved", "bias": "still"},
    ),
    "around a partition": lambda keep: keep(
        optax.partition(
            {"moved": optax.adam(0.1), "still": optax.set_to_zero()},
            {"kernel": "moved", "bias": "still"},
        )
    ),
    "around factored moments": lambda keep: keep(
        optax.adafactor(0.1, min_dim_size_to_factor=2)
    ),
}


@pytest.mark.spec("R1", "R3")
@pytest.mark.parametrize("name", WRAPPED)
def test_beside_other_wrappers(name: str):
    keep_all = {"kernel": jnp.array(True), "bias": jnp.array(True)}
    optimizer = WRAPPED[name](functools.partial(retrain.keep_pruned, masks=keep_all))
    params = _params(0)
    state = optimizer.init(params)
    masks = _masks(1)
    gone = ~np.asarray(masks["kernel"])
    for seed in range(3):
        updates, state = optimizer.update(_params(seed), state, params)
        params = optax.apply_updates(params, updates)
        state = retrain.set_masks(optimizer, state, masks)
        params = prune.apply(params, masks)
        moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (4, 5)]
        assert not any(np.asarray(m)[gone].any() for m in moments if m.dtype != bool)
    updates, _ = optimizer.update(_params(3), state, params)
    moved = np.asarray(optax.apply_updates(params, updates)["kernel"])
    assert not moved[gone].any()
    assert (moved != np.asarray(params["kernel"]))[~gone].any()


def test_an_optimizer_without_masks():
    optimizer = optax.adam(0.1)
    with pytest.raises(ValueError, match="holds no masks: wrap it"):
        retrain.set_masks(optimizer, optimizer.init(_params(0)), _masks(0))


@pytest.mark.spec("R7")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_gradients_of_centroids_in_half_precision(dtype: Any):
    """Added up in bfloat16, they would stop at 256."""
    weights = jnp.array(np.random.default_rng(0).normal(size=(128, 128)), dtype)
    shared = share.share({"w": weights}, [Rule("w", share=share.kmeans(4))])

    def total(codebooks: Any) -> jax.Array:
        found = share.lookup(share.replace_codebooks(shared, codebooks))["w"]
        return found.astype(jnp.float32).sum()

    counts = np.bincount(np.asarray(shared.labels["w"]).ravel(), minlength=5)[1:]
    gradients = jax.grad(total)(shared.codebooks)["w"]
    assert gradients.dtype == dtype
    assert np.asarray(gradients, float) == pytest.approx(counts, rel=2**-8)


def test_masks_of_other_parameters_are_told():
    params = {"w": jnp.ones(3), "b": jnp.ones(2)}
    optimizer = retrain.keep_pruned(
        optax.adam(1.0), jax.tree.map(lambda x: x > 0, params)
    )
    state = optimizer.init(params)
    with pytest.raises(ValueError, match="the state holds 7 arrays, and 5 for"):
        retrain.set_masks(optimizer, state, {"w": params["w"] > 0})
