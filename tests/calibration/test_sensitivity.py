"""How much outputs matter: random signs, finite differences, and floors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import deepcomp_jax as dc
from tests.support import sums

R = sums.random(5)
X = R(6, 3)
W = {"w": R(3, 4)}


def dense(p, x):
    return jnp.tanh(x @ p["w"])


def squared_jacobian(fn, params, batch, name):
    """The sum over outputs of their squared derivatives by a leaf."""
    jacobian = jax.jacobian(lambda p: fn(p, batch))(params)[name]
    return float(np.sum(np.square(np.asarray(jacobian, np.float64))))


def test_on_average_it_is_the_squared_jacobian():
    want = squared_jacobian(dense, W, X, "w")
    found = [dc.calibrate(dense, W, [X], seed=i).sensitivity["w"] for i in range(60)]
    np.testing.assert_allclose(np.mean(found), want, rtol=0.15)
    assert len({float(value) for value in found}) == 60


def test_signs_are_of_unit_scale_and_differ_between_batches():
    """With one output for each value of a leaf, any signs give its squared norm."""

    def fn(p, x):
        return p["w"] * x

    x = np.float32(2)
    found = dc.calibrate(fn, W, [x] * 3)
    assert found.sensitivity["w"] == 3 * 4 * 12
    assert found.examples == 3
    moments = (
        dc.calibrate(lambda p, x: x @ p["w"], W, [X]).leaves["w"][0].output_moments
    )
    assert np.diagonal(moments).tolist() == [6] * 4
    twice = dc.calibrate(lambda p, x: x @ p["w"], W, [X, X]).leaves["w"][0]
    assert (twice.output_moments != 2 * moments).any()


def test_the_seed_decides():
    a, b, c = (dc.calibrate(dense, W, [X], seed=s).sensitivity["w"] for s in (1, 1, 2))
    assert a == b != c


def search(p, x):
    """A loop of which nobody knows the length has no derivative."""
    return lax.while_loop(lambda y: jnp.sum(y**2) < 1, lambda y: 2 * y, dense(p, x))


def host(p, x):
    return np.tanh(np.asarray(x) @ np.asarray(p["w"]))


def callback(p, x):
    shape = jax.ShapeDtypeStruct((6, 4), jnp.float32)
    return jax.pure_callback(lambda w, x: np.tanh(x @ w), shape, p["w"], x)


@pytest.mark.parametrize("fn", [search, host, callback])
def test_functions_without_derivatives(fn):
    params = {**W, "idle": R(2), "zero": np.zeros(3, np.float32)}
    want = squared_jacobian(dense, W, X, "w")
    found = [dc.calibrate(fn, params, [X], seed=i) for i in range(40)]
    assert found[0].leaves == {}
    assert any(n.startswith("fn: sensitivities by diff") for n in found[0].notes)
    assert any(n.startswith("idle: ") for n in found[0].notes)
    mean = np.mean([f.sensitivity["w"] for f in found])
    np.testing.assert_allclose(mean, want, rtol=0.25)
    assert found[0].sensitivity["idle"] == 0


def test_weights_of_a_loop_without_derivative_are_noted():
    def fn(p, x):
        return lax.while_loop(lambda y: y.sum() > 9, lambda y: y @ p["w"][:, :3], x)

    notes = dc.calibrate(fn, W, [X]).notes
    assert "w: not followed: a product within while" in notes


def test_a_value_that_rounding_leaves_as_it_was_has_no_difference():
    params = {"w": np.full((3, 4), 1e-30, np.float16)}
    found = dc.calibrate(host, params, [X])
    assert found.sensitivity["w"] >= 0


def test_floors():
    def fn(p, x):
        return jnp.einsum("ebd,edh->ebh", x, p["experts"]) @ p["w"]

    params = {"experts": R(3, 2, 4), "w": R(4, 4), "idle": R(5, 2)}
    x = R(3, 6, 2)
    x[1] = 0
    found = dc.calibrate(fn, params, [x])
    assert found.sensitivity["experts"][1] == 0
    assert "idle: not used: no output depends on it" in found.notes
    floored = dc.calibration.floored(found, params)
    each = found.sensitivity["experts"] / 8
    want = np.maximum(each, 0.2 * each.mean())
    np.testing.assert_allclose(floored["experts"], want)
    np.testing.assert_allclose(floored["w"], found.sensitivity["w"] / 16)
    assert floored["idle"] == min(each.mean(), found.sensitivity["w"] / 16)


def test_floors_of_another_network():
    found = dc.calibrate(dense, W, [X])
    with pytest.raises(ValueError, match="the calibration is of other leaves: 'w'"):
        dc.calibration.floored(found, {"v": W["w"]})


def test_floors_where_all_is_zero():
    found = dc.calibrate(lambda p, x: x @ p["w"], W, [0 * X])
    assert dc.calibration.floored(found, W)["w"] == 1


def test_batches_of_several_shapes_are_one_sum():
    fn = lambda p, x: x @ p["w"]  # noqa: E731
    found = dc.calibrate(fn, W, iter([X[:4], X[4:], X[:4]]))
    want = X.T @ X + X[:4].T @ X[:4]
    (use,) = found.leaves["w"]
    np.testing.assert_allclose(use.input_moments, want, rtol=1e-5)
    assert (use.count, found.examples) == (10, 10)


def test_many_batches_lose_no_digits():
    """In float32 the sum of 3000 ones and small numbers would not be exact."""
    x = np.full((1, 3), 1e-2, np.float32)
    batches = [np.ones((1, 3), np.float32) * 1e3, *[x] * 300]
    found = dc.calibrate(lambda p, x: x @ p["w"], W, batches)
    want = 1e6 + 300 * np.float64(np.float32(1e-2)) ** 2
    (use,) = found.leaves["w"]
    np.testing.assert_allclose(use.input_moments, np.full((3, 3), want), rtol=6e-8)
