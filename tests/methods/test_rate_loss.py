"""The rate as a differentiable function."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import Rule, account, rate, rate_loss, share
from deepcomp_jax.format import container

STEP = {"w": jnp.float32(0.25)}


def structured(seed: int) -> dict[str, jax.Array]:
    """Multiples of a quarter, in rows and columns of very different density."""
    rng = np.random.default_rng(seed)
    density = rng.choice([0.01, 0.3], (200, 1)) * rng.choice([0.1, 1.0], (1, 150))
    signs = rng.choice([-0.25, 0.25], density.shape)
    return {"w": jnp.array(signs * (rng.random(density.shape) < density), "f4")}


@pytest.mark.spec("Q9")
def test_prices_follow_rows_and_columns():
    kept = jnp.zeros((20, 30)).at[0, :6].set(1.0).at[1, :2].set(-1.0)
    price = np.asarray(rate_loss.position_bits({"w": kept}, STEP)["w"])
    assert (price >= 0).all()
    assert (np.diff(price[:3, 9]) > 0).all()
    assert (np.diff(price[9, [0, 2, 6]]) > 0).all()
    assert (price[2:] == price[2]).all()


@pytest.mark.spec("Q9")
def test_one_density_has_one_price():
    params = {"w": jnp.zeros(1023).at[:128].set(1.0)}
    price = np.asarray(rate_loss.position_bits(params, STEP)["w"])
    assert np.unique(price).size == 1
    assert price[0] == pytest.approx(np.log2((1 - 0.125) / 0.125), rel=0.01)


@pytest.mark.spec("Q10", "Q11")
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 2.0))
def test_more_weight_is_never_cheaper(seed: int, width: float):
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0.0, 1e-30, 1e-3, 0.1, 1.0, 1e6], (3, 4)).astype("f4")
    params = {"w": jnp.array(sizes * rng.choice([-1, 1], (3, 4)))}
    prices = rate_loss.position_bits(params, STEP)

    def bits(params: dict[str, jax.Array]) -> jax.Array:
        return rate_loss.expected_bits(params, STEP, prices, width=width)

    slope = np.asarray(jax.grad(bits)(params)["w"])
    assert np.isfinite(slope).all()
    assert (slope * np.sign(np.asarray(params["w"])) >= 0).all()
    assert (slope[sizes == 0] == 0).all()
    assert bits(jax.tree.map(jnp.zeros_like, params)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_bits_are_near_to_those_of_a_file(seed: int):
    """Prices are those of one more weight: on average each costs 1.44 bits more."""
    params = structured(seed)
    shared = share.share(params, [Rule("w", share=rate.grid(0.25))])
    file = container.dumps(dc.pack(shared))
    spent = 8 * account.to_dict(account.account(file))["file_bytes"]
    prices = rate_loss.position_bits(params, STEP)
    found = float(rate_loss.expected_bits(params, STEP, prices, width=1e-6))
    kept = int(jnp.count_nonzero(params["w"]))
    assert found == pytest.approx(spent, rel=0.25), (found + 1.44 * kept, kept)


def test_trained_against_it_whole_rows_become_zero():
    """Of equal weights those that stand alone go first."""
    weights = np.full((20, 20), 0.0, np.float32)
    weights[:5, :5] = 0.3
    weights[np.arange(10, 20), np.arange(10, 20)] = 0.3
    start, params = jnp.array(weights), {"w": jnp.array(weights)}

    @jax.jit
    def step(params: dict[str, jax.Array]) -> dict[str, jax.Array]:
        def loss(params: dict[str, jax.Array]) -> jax.Array:
            prices = rate_loss.position_bits(params, STEP)
            bits = rate_loss.expected_bits(params, STEP, prices, width=0.5)
            return jnp.sum((params["w"] - start) ** 2) + 0.03 * bits

        slope = jax.grad(loss)(params)["w"]
        return {"w": params["w"] - 0.01 * slope}

    for _ in range(300):
        params = step(params)
    kept = np.abs(np.asarray(params["w"])) > 0.125
    assert kept[:5, :5].all()
    assert not kept[10:].any()


@pytest.mark.spec("Q12")
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 10))
def test_rounding_has_a_derivative(seed: int, step: float):
    weights = jnp.array(np.random.default_rng(seed).normal(size=30), "f4")
    params, steps = {"w": weights}, {"w": jnp.float32(step)}
    found = rate_loss.fake_quant(params, steps)["w"]
    assert (found == steps["w"] * jnp.round(weights / steps["w"])).all()
    slope = jax.grad(lambda p: (3 * rate_loss.fake_quant(p, steps)["w"]).sum())(params)
    assert (slope["w"] == 3).all()


@pytest.mark.spec("Q13")
def test_steps():
    params = {"kernel": jnp.array([[3.0, -4.0], [0.0, 0.0]]), "bias": jnp.ones(3)}
    found = rate_loss.step_sizes(params, 2.0, of_vectors=0.1)
    assert found["kernel"] == 5.0
    assert found["bias"] == np.float16(0.1)
    odd = {
        "zero": jnp.zeros((2, 2)),
        "tiny": jnp.full((2, 2), 3e-7),
        "": jnp.ones((0, 2)),
    }
    found = rate_loss.step_sizes(odd, 2.0, of_vectors=0.1)
    assert found["zero"] == found[""] == np.float16(0.1)
    assert found["tiny"] == pytest.approx(6e-7, rel=1e-3)


@pytest.mark.spec("Q15")
@given(st.integers(0, 2**32 - 1))
def test_a_network_on_its_grids(seed: int):
    rng = np.random.default_rng(seed)
    params = {
        "a": jnp.array(rng.normal(size=(5, 6)), "f4"),
        "b": jnp.array(rng.normal(size=4), "f4"),
    }
    steps = rate_loss.step_sizes(params, 1.0, of_vectors=0.3)
    found = rate_loss.shared_weights(params, steps)
    expected = rate_loss.fake_quant(params, steps)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, share.lookup(found), expected))


@pytest.mark.spec("Q12", "Q15")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_one_weight_thousands_of_steps_away(dtype: Any):
    params = {"b": jnp.array([0.15, -0.35, 80.0], dtype)}
    steps = rate_loss.step_sizes(params, 1.0, of_vectors=0.05)
    expected = rate_loss.fake_quant(params, steps)["b"]
    found = share.lookup(rate_loss.shared_weights(params, steps))["b"]
    assert found.dtype == expected.dtype == dtype
    assert jnp.array_equal(found, expected)
    assert np.asarray(found, float) == pytest.approx([0.15, -0.35, 80], rel=0.01)


@pytest.mark.spec("Q14")
def test_a_learning_rate_in_steps():
    params = {"a": jnp.ones(3), "b": jnp.ones((2, 2), jnp.bfloat16)}
    grads = {"a": jnp.array([1.0, -2.0, 0.0]), "b": jnp.full((2, 2), 5, jnp.bfloat16)}
    steps = {"a": jnp.float32(0.5), "b": jnp.float32(4.0)}
    adam = optax.adam(0.1)
    scaled = rate_loss.scale_by_step_size(adam, steps)
    alone, state = adam.update(grads, adam.init(params), params)
    found, states = scaled.update(grads, scaled.init(params), params)
    np.testing.assert_array_equal(found["a"], 0.5 * alone["a"])
    np.testing.assert_array_equal(found["b"], 4 * alone["b"])
    assert found["b"].dtype == jnp.bfloat16
    assert jax.tree.all(jax.tree.map(jnp.array_equal, states[0], state))
