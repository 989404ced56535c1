"""Sums through loops, branches and calls are those of the same network written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import deepcomp_jax as dc
from tests.support import sums
from tests.support.sums import plain, seen_dense

R = sums.random(1)
X = R(5, 3)
LAYERS = {"w": jnp.asarray(0.5 * R(4, 3, 3)), "b": jnp.asarray(R(4, 3))}


def layers(p, x, see):
    """Four layers of a stack, one by one."""
    for i in range(4):
        x = jnp.tanh(seen_dense("w", see, x, p["w"][i], (i,)) + p["b"][i][None])
    return x


def layer(x, p):
    return jnp.tanh(x @ p["w"] + p["b"][None]), None


STACKS = {
    "scan": lambda p, x: lax.scan(layer, x, p)[0],
    "unrolled scan": lambda p, x: lax.scan(layer, x, p, unroll=2)[0],
    "scan of checkpoints": lambda p, x: lax.scan(jax.checkpoint(layer), x, p)[0],
    "jit": jax.jit(lambda p, x: lax.scan(jax.jit(layer), x, p)[0]),
    "index": lambda p, x: lax.fori_loop(
        0, 4, lambda i, x: layer(x, jax.tree.map(lambda leaf: leaf[i], p))[0], x
    ),
    "checkpointed index": lambda p, x: lax.fori_loop(
        0, 4, jax.checkpoint(lambda i, x: layer(x, {k: p[k][i] for k in p})[0]), x
    ),
    "loop of Python": lambda p, x: layers(p, x, lambda key, x, y: y),
    "two by two": lambda p, x: lax.scan(
        lambda x, q: lax.scan(layer, x, q),
        x,
        jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), p),
    )[0],
    "scan within an index": lambda p, x: lax.fori_loop(
        0,
        2,
        lambda i, x: lax.scan(
            layer, x, {k: p[k].reshape(2, 2, *p[k].shape[1:])[i] for k in p}
        )[0],
        x,
    ),
}


@pytest.mark.parametrize("name", STACKS)
def test_each_layer_of_a_stack_has_its_own(monkeypatch, name):
    found = sums.check(monkeypatch, STACKS[name], layers, LAYERS, X)
    assert found.notes == ()
    assert found.leaves["w"][0][:4] == ("product", (0,), (1,), (2,))
    assert found.sensitivity["w"].shape == (4,)


def test_the_last_layer_first(monkeypatch):
    def fn(p, x):
        return lax.scan(layer, x, p, reverse=True)[0]

    def ref(p, x, see):
        for i in reversed(range(4)):
            x = jnp.tanh(seen_dense("w", see, x, p["w"][i], (i,)) + p["b"][i][None])
        return x

    assert sums.check(monkeypatch, fn, ref, LAYERS, X).notes == ()


def test_a_stack_of_transposed_layers(monkeypatch):
    """The axis of the layers is not the first one of the leaf."""

    def fn(p, x):
        return lax.scan(lambda x, w: (x @ w.T, None), x, jnp.moveaxis(p["w"], 1, 0))[0]

    def ref(p, x, see):
        for i in range(2):
            x = seen_dense("w", see, x, p["w"][:, i].T, (i,))
        return x

    found = sums.check(monkeypatch, fn, ref, {"w": R(3, 2, 3)}, X)
    assert found.leaves["w"][0][1:4] == ((1,), (2,), (0,))


def recurrent(p, xs, see):
    h = jnp.zeros((xs.shape[1], 4))
    for x in xs:
        h = jnp.tanh(seen_dense("w", see, x, p["w"]) + seen_dense("u", see, h, p["u"]))
    return h


@pytest.mark.parametrize("again", [lambda f: f, jax.checkpoint, jax.jit])
def test_weights_that_every_step_uses(monkeypatch, again):
    """The first carry is a constant, and data from then on."""

    def fn(p, xs):
        @again
        def step(h, x):
            return jnp.tanh(x @ p["w"] + h @ p["u"]), None

        return lax.scan(step, jnp.zeros((2, 4)), xs)[0]

    params = {"w": R(3, 4), "u": R(4, 4)}
    assert sums.check(monkeypatch, fn, recurrent, params, R(6, 2, 3)).notes == ()


def test_weights_that_a_loop_carries(monkeypatch):
    def fn(p, xs):
        def step(carry, x):
            h, w, u = carry
            return (jnp.tanh(x @ w + h @ u), w, u), None

        return lax.scan(step, (jnp.zeros((2, 4)), p["w"], p["u"]), xs)[0][0]

    params = {"w": R(3, 4), "u": R(4, 4)}
    assert sums.check(monkeypatch, fn, recurrent, params, R(6, 2, 3)).notes == ()


def test_a_weight_that_a_loop_changes_is_not_followed():
    def fn(p, x):
        def step(carry, _):
            x, w = carry
            return (x @ w, w.T), None

        return lax.scan(step, (x, p["w"]), None, length=3)[0][0]

    found = dc.calibrate(fn, {"w": R(3, 3)}, [X])
    assert found.leaves == {}
    assert found.notes == ("w: not followed: scan, then dot_general with data",)
    assert found.sensitivity["w"] > 0


def test_lstm(monkeypatch):
    def fn(p, xs):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ p["w"] + h @ p["u"], 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        return lax.scan(step, (jnp.zeros((2, 4)),) * 2, xs)[1]

    def ref(p, xs, see):
        h = c = jnp.zeros((2, 4))
        hs = []
        for x in xs:
            y = seen_dense("w", see, x, p["w"]) + seen_dense("u", see, h, p["u"])
            i, f, g, o = jnp.split(y, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            hs.append(h)
        return jnp.stack(hs)

    params = {"w": R(3, 16), "u": R(4, 16)}
    assert sums.check(monkeypatch, fn, ref, params, R(6, 2, 3)).notes == ()


@pytest.mark.parametrize("positive", [True, False])
def test_branches(monkeypatch, positive):
    def fn(p, x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ p["w"], lambda x: x @ p["v"], x)

    def ref(p, x, see):
        name = "w" if positive else "v"
        return seen_dense(name, see, x, p[name])

    x = X.copy()
    x[0, 0] = 1 if positive else -1
    found = sums.check(monkeypatch, fn, ref, {"w": R(3, 4), "v": R(3, 4)}, x)
    other = "v" if positive else "w"
    (note,) = found.notes
    assert note.startswith(f"{other}: sensitivity 0 in these batches: outputs depend")
    assert "in a branch that was not taken" in note


def test_branches_within_a_loop(monkeypatch):
    def fn(p, x):
        def step(x, w):
            even = lambda x: jnp.sin(x @ w)  # noqa: E731
            return lax.cond(x.sum() > 0, even, lambda x: x @ w, x), None

        return lax.scan(step, x, p["w"])[0]

    def ref(p, x, see):
        for i in range(4):
            y = seen_dense("w", see, x, p["w"][i], (i,))
            x = jnp.where(x.sum() > 0, jnp.sin(y), y)
        return x

    assert sums.check(monkeypatch, fn, ref, {"w": LAYERS["w"]}, X).notes == ()


def test_checkpoints_with_a_policy(monkeypatch):
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable

    def ref(p, x, see):
        h = jnp.tanh(seen_dense("w", see, x, p["w"]))
        return seen_dense("v", see, h, p["v"])

    fn = jax.checkpoint(plain(ref), policy=policy)
    params = {"w": R(3, 4), "v": R(4, 2)}
    assert sums.check(monkeypatch, fn, ref, params, X).notes == ()


def test_a_derivative_of_ones_own_is_kept(monkeypatch):
    """What no weight enters is not taken apart."""

    @jax.custom_vjp
    def clipped(x):
        return jnp.round(x)

    clipped.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (3 * g,))

    def ref(p, x, see):
        h = clipped(seen_dense("w", see, x, p["w"]))
        return seen_dense("v", see, jax.nn.relu(h), p["v"])

    params = {"w": R(3, 4), "v": R(4, 2)}
    found = sums.check(monkeypatch, plain(ref), ref, params, X)
    assert found.notes == ()
    assert found.sensitivity["w"] > 0


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_products_within_derivatives_of_ones_own(monkeypatch, kind):
    @(jax.custom_jvp if kind == "jvp" else jax.custom_vjp)
    def dense(x, w):
        return x @ w

    if kind == "jvp":
        dense.defjvp(lambda a, t: (a[0] @ a[1], t[0] @ a[1] + a[0] @ t[1]))
    else:
        dense.defvjp(
            lambda x, w: (x @ w, (x, w)), lambda r, g: (g @ r[1].T, r[0].T @ g)
        )

    def ref(p, x, see):
        return seen_dense("w", see, x, p["w"])

    def fn(p, x):
        return dense(x, p["w"])

    assert sums.check(monkeypatch, fn, ref, {"w": R(3, 4)}, X).notes == ()


def test_loops_that_cannot_be_differentiated_on_the_way():
    """A search over integers has no derivative, and needs none."""

    def fn(p, x):
        steps = lax.while_loop(lambda i: i < (x.sum() > 0) + 3, lambda i: i + 1, 0)
        return (x @ p["w"]) * steps

    found = dc.calibrate(fn, {"w": R(3, 4)}, [X])
    assert found.notes == ()
    np.testing.assert_allclose(found.leaves["w"][0].input_moments, X.T @ X, rtol=1e-5)
