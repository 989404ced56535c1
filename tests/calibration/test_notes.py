"""What cannot be followed is said, by leaf, primitive and reason."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import deepcomp_jax as dc
from tests.support import sums

R = sums.random(3)
X = R(5, 3)
W = {"w": R(3, 4)}
ZERO = (
    "sensitivity 0 in these batches: outputs depend on it, but only behind "
    "stop_gradient or rounding, in a branch that was not taken, or through units that "
    "were off or saturated; it is rounded as coarsely as the leaf that counts least"
)


def normed(w):
    return w / jnp.sqrt((w**2).sum(axis=0, keepdims=True))


LOST = {
    "normalized": (lambda p, x: x @ normed(p["w"]), "div, then dot_general with data"),
    "masked": (
        lambda p, x: x @ (p["w"] * np.tri(3, 4, dtype=np.float32)),
        "mul, then dot_general with data",
    ),
    "rounded": (
        lambda p, x: x @ (p["w"] + jnp.round(p["w"])) @ jnp.round(p["w"]).T,
        "round, then dot_general with data",
    ),
    "cut across": (
        lambda p, x: x.reshape(-1)[:4] @ p["w"].reshape(4, 3),
        "reshape, then dot_general with data",
    ),
    "contracted in part": (
        lambda p, x: x.reshape(-1)[:6] @ p["w"].reshape(6, 2),
        "dot_general of another form",
    ),
    "blocks by a traced index": (
        lambda p, x: lax.fori_loop(
            0, 2, lambda i, y: y + x @ lax.dynamic_slice(p["w"], (0, i), (3, 2)),
            jnp.zeros((5, 2)),
        ),
        "dynamic_slice, then dot_general with data",
    ),
    "solved": (
        lambda p, x: lax.linalg.triangular_solve(
            p["w"][:, :3], x, left_side=False, lower=True
        ),
        "triangular_solve with data",
    ),
    "sorted": (lambda p, x: x @ jnp.sort(p["w"]), "sort, then dot_general with data"),
    "chosen out of": (
        lambda p, x: jnp.tanh(p["w"])[(x[:, 0] > 0).astype(int)],
        "tanh, then gather with data",
    ),
    "stacked by a loop": (
        lambda p, x: x @ lax.scan(lambda c, w: (c, 2 * w), 0, p["w"])[1],
        "scan, then dot_general with data",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_lost(name):
    fn, why = LOST[name]
    found = dc.calibrate(fn, W, [X])
    assert f"w: not followed: {why}" in found.notes
    assert found.sensitivity["w"] > 0


def test_what_is_lost_in_one_way_is_followed_in_another():
    found = dc.calibrate(lambda p, x: x @ p["w"] + x @ jnp.tanh(p["w"]), W, [X])
    assert found.notes == ("w: not followed: tanh, then dot_general with data",)
    np.testing.assert_allclose(found.leaves["w"][0].input_moments, X.T @ X, rtol=1e-5)


def test_vectors_and_elementwise_uses_need_no_notes():
    def fn(p, x):
        x = (x + p["b"][None]) / jnp.sqrt(p["s"] ** 2 + 1)[None]
        return x @ (p["s"][:, None] * jnp.ones((3, 2))) + p["positions"][:5]

    params = {"b": R(3), "s": R(3), "positions": R(7, 2)}
    assert dc.calibrate(fn, params, [X]).notes == ()


def test_unused_and_stopped_leaves():
    def fn(p, x):
        return x @ p["w"] + lax.stop_gradient(x @ p["frozen"])

    params = {**W, "frozen": R(3, 4), "idle": R(2, 2), "count": np.arange(3)}
    found = dc.calibrate(fn, params, [X])
    assert found.notes == (
        f"frozen: {ZERO}",
        "idle: not used: no output depends on it",
    )
    assert set(found.sensitivity) == {"w", "frozen", "idle"}
    assert found.leaves.keys() == {"w"}


@pytest.mark.parametrize("again", [lambda f: f, jax.jit, jax.checkpoint])
def test_weights_that_a_function_is_closed_over(again):
    constant = R(3, 500)
    found = dc.calibrate(
        lambda p, x: again(lambda x: x @ p["w"].T @ constant)(x[:, [0, 1, 2, 0]]),
        W, [X],
    )  # fmt: skip
    assert found.notes == ("fn: not followed: float32[3, 500], a constant within it",)


def test_complex_leaves():
    def fn(p, x):
        return jnp.abs(x @ p["c"]) @ p["w"]

    params = {**W, "c": R(3, 3) + 1j * R(3, 3)}
    found = dc.calibrate(fn, params, [X])
    assert found.notes == ("c: not followed: complex64",)
    assert found.sensitivity.keys() == {"w"}


def test_complex_outputs():
    found = dc.calibrate(lambda p, x: jnp.fft.fft(x @ p["w"]), W, [X])
    # Both parts of 4 outputs: the discrete Fourier transform has a norm of 2.
    want = 4 * np.square(X).sum() * 4
    many = [
        dc.calibrate(lambda p, x: jnp.fft.fft(x @ p["w"]), W, [X], seed=i)
        for i in range(30)
    ]
    mean = np.mean([found.sensitivity["w"], *(m.sensitivity["w"] for m in many)])
    np.testing.assert_allclose(mean, want, rtol=0.35)


def test_a_leaf_of_float16_and_an_empty_one():
    def fn(p, x):
        return x.astype(jnp.float16) @ p["w"] + p["none"].sum()

    params = {"w": W["w"].astype(np.float16), "none": np.zeros((0, 3), np.float16)}
    found = dc.calibrate(fn, params, [X])
    assert found.notes == ()
    np.testing.assert_allclose(found.leaves["w"][0].input_moments, X.T @ X, rtol=1e-2)


def test_no_batches():
    with pytest.raises(ValueError, match="there are no batches: give one or more"):
        dc.calibrate(lambda p, x: x @ p["w"], W, [])


def scalars(p, x):
    """A function that takes examples one by one, or many, as it happens."""
    return x @ p["w"]


ZEROS = {
    "stopped": lambda p, x: lax.stop_gradient(x @ p["w"]),
    "rounded": lambda p, x: jnp.round(x @ p["w"]),
    "off": lambda p, x: jax.nn.relu(jnp.abs(x @ p["w"]) * -1 - 1),
    "saturated": lambda p, x: jnp.tanh(x @ p["w"] * 1e4 + 1e6),
    "not taken": lambda p, x: lax.cond(
        x[0, 0] > 9, lambda: x @ p["w"], lambda: x @ jnp.ones((3, 4))
    ),
}


@pytest.mark.parametrize("name", ZEROS)
def test_a_leaf_without_sensitivity_says_why_and_what_becomes_of_it(name):
    params = {**W, "v": R(3, 2)}
    fn = lambda p, x: (ZEROS[name](p, x), x @ p["v"])  # noqa: E731
    found = dc.calibrate(fn, params, [X])
    assert found.notes == (f"w: {ZERO}",)
    floored = dc.calibration.floored(found, params)
    assert floored["w"] == floored["v"] > 0


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, np.float32, np.ones])
def test_one_array_in_place_of_several_is_refused(kind):
    given = kind(X) if kind is not np.ones else np.ones(3)
    what = str(np.shape(given)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(
        ValueError, match=f"batches is one array, of shape {what}: pass"
    ):
        dc.calibrate(scalars, W, given)


@pytest.mark.parametrize("given", [None, 3, "X", {"x": X}, scalars])
def test_what_gives_no_batches_is_refused(given):
    with pytest.raises(ValueError, match=r"batches is \w+: pass a list of batches"):
        dc.calibrate(scalars, W, given)


def test_single_examples_in_place_of_batches_are_noted():
    note = "fn: each number of arrays of one axis counts as an example"
    for given, noted in (
        (list(X), True), ([(X[0], 2.0)], False), ([X], False), ([X, X[0]], True),
    ):  # fmt: skip
        fn = lambda p, x: (x[0] if isinstance(x, tuple) else x) @ p["w"]  # noqa: E731
        notes = dc.calibrate(fn, W, given).notes
        assert [own.startswith(note) for own in notes] == [True] * noted


EMPTY = {
    "an array": X[:0],
    "several": {"x": X[:0], "y": np.zeros(0, np.int32)},
    "of no width": np.zeros((5, 0), np.float32),
    "beside a number": (X[:0], 2.0),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch_is_named(name):
    fn = lambda p, x: jax.tree.leaves(x)[0].sum() * p["w"]  # noqa: E731
    with pytest.raises(ValueError, match="batch 1 is empty, of shape .*leave it out"):
        dc.calibrate(fn, W, [X, EMPTY[name]])


def test_nothing_that_can_be_differentiated():
    with pytest.raises(ValueError, match="fn returns arrays of int32: return what is"):
        dc.calibrate(lambda p, x: (x @ p["w"]).argmax(axis=1), W, [X])


def test_something_else_among_the_leaves():
    params = {**W, "activation": jnp.tanh}
    with pytest.raises(ValueError, match="leaf 'activation' is .*close over all else"):
        dc.calibrate(lambda p, x: x @ p["w"], params, [X])
    with pytest.raises(ValueError, match="an array of a batch is str"):
        dc.calibrate(lambda p, x: x[0] @ p["w"], W, [(X, "en")])


def test_derivatives_that_are_not_finite():
    zero = np.zeros_like(X)
    with pytest.raises(
        ValueError, match="batch 1: derivatives by leaf 'w' are not fin"
    ):
        dc.calibrate(
            lambda p, x: jnp.sqrt(x @ p["w"] * 0 + x[:, :1]), W, [X * 0 + 1, zero]
        )


def network(p, x):
    return jax.nn.relu(x["x"] @ p["a"] + p["b"][None]) @ p["c"] + x["y"]


HOST = lambda p, x: np.asarray(network(p, x)) + 0 * float(p["b"][0])  # noqa: E731


@pytest.mark.parametrize("fn", [network, HOST])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["a", "b", "c", "x", "y"])
def test_what_is_not_finite_is_named(where, value, fn):
    params = {"a": R(3, 4), "b": R(4) + 9, "c": R(4, 2)}
    batch = {"x": R(5, 3), "y": R(5, 2)}
    (params if where in params else batch)[where].flat[1] = value
    what = "NaN" if np.isnan(value) else "infinity"
    name = f"leaf '{where}'" if where in params else rf"batch 0\['{where}'\]"
    try:
        found = dc.calibrate(fn, params, [batch])
    except ValueError as error:
        assert re.match(f"{name} holds {what}, so that", str(error))
    else:  # it did no harm: all is as finite as without it
        assert where == "y" or np.isinf(value)
        assert all(np.isfinite(own).all() for own in found.sensitivity.values())


def test_statistics_are_printed_in_a_line():
    params = {**W, "b": R(4), "idle": R(2)}
    found = dc.calibrate(lambda p, x: x @ p["w"] + p["b"][None], params, [X, X])
    text = "Calibration(3 leaves, 1 of them with uses, 10 examples, 1 notes)"
    assert repr(found) == text


def test_a_mask_of_infinity_does_no_harm():
    params = {**W, "mask": np.array([0, -np.inf, 0, 0], np.float32)}
    fn = lambda p, x: jax.nn.softmax(x @ p["w"] + p["mask"][None])  # noqa: E731
    found = dc.calibrate(fn, params, [X])
    assert np.isfinite(found.sensitivity["w"])


def test_errors_of_the_function_are_its_own():
    with pytest.raises(TypeError, match="dot_general"):
        dc.calibrate(lambda p, x: x @ p["w"].T, W, [X])
