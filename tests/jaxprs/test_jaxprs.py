"""Jaxprs are read, and evaluated again, whatever they hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deepcomp_jax import jaxprs


def evaluate(body: jaxprs.Body, arguments: list) -> list:
    """Evaluates a jaxpr, going into all calls."""

    def rule(position, eqn, values):
        inner = jaxprs.called(eqn)
        return jaxprs.bind(eqn, values) if inner is None else evaluate(inner, values)

    return jaxprs.walk(body, arguments, rule, lambda value: value)


WEIGHT = np.arange(9, dtype=np.float32).reshape(3, 3) / 10


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (5 * g,))

FUNCTIONS = {
    "jit": lambda x: jax.jit(lambda y: y @ WEIGHT)(x) + 1,
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) @ WEIGHT),
    "custom_jvp": lambda x: jax.nn.relu(x - 0.5),
    "custom_vjp": doubled,
    "scan": lambda x: lax.scan(lambda c, y: (c @ WEIGHT + y, c), x[0], x)[1],
    "cond": lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "while": lambda x: lax.while_loop(lambda y: y.sum() < 9, lambda y: 2 * y, x),
}


def body_of(fn, *arguments) -> jaxprs.Body:
    return jaxprs.opened(jax.make_jaxpr(fn)(*arguments))


def only(body: jaxprs.Body, name: str):
    (eqn,) = [e for _, e in jaxprs.equations(body) if e.primitive.name == name]
    return eqn


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_walk_gives_what_the_function_gives(name: str):
    x = jnp.linspace(0.1, 1, 9).reshape(3, 3)
    (found,) = evaluate(body_of(FUNCTIONS[name], x), [x])
    np.testing.assert_allclose(found, FUNCTIONS[name](x), rtol=1e-6)


def test_binding_keeps_derivatives_of_ones_own():
    body = body_of(doubled, 1.0)

    def again(x):
        rule = lambda position, eqn, values: jaxprs.bind(eqn, values)  # noqa: E731
        return jaxprs.walk(body, [x], rule, lambda value: value)[0]

    assert jax.grad(again)(1.0) == 5


@pytest.mark.parametrize("length", [1, 3])
def test_operands_of_a_scan_by_role(length: int):
    def fn(w, c, xs):
        def step(carry, x):
            a, b = carry
            return (a @ w + x, b + 1), (a.sum(), x + 1)

        return lax.scan(step, (c, 0), xs, reverse=True)

    xs = jnp.ones((length, 3))
    eqn = only(body_of(fn, WEIGHT, xs[0], xs), "scan")
    found = jaxprs.scan(eqn)
    assert found is not None
    assert found[1:] == (1, 2, length, True)
    assert len(found.body.jaxpr.outvars) == 4


def test_parts_of_loops_and_branches():
    x = jnp.ones(3)

    def loop(x, w, limit):
        return lax.while_loop(lambda y: y.sum() < limit, lambda y: y * w, x)

    found = jaxprs.while_loop(only(body_of(loop, x, x, 9.0), "while"))
    assert found is not None
    assert (found.condition_constants, found.body_constants) == (1, 1)
    eqn = only(body_of(FUNCTIONS["cond"], x), "cond")
    names = [b.jaxpr.eqns[0].primitive.name for b in jaxprs.branches(eqn) or ()]
    assert names == ["cos", "sin"]
    others = jaxprs.scan(eqn), jaxprs.while_loop(eqn), jaxprs.called(eqn)
    assert others == (None, None, None)


@pytest.mark.parametrize("name", ["jit", "checkpoint", "scan"])
def test_constants_are_found_at_any_depth(name: str):
    body = body_of(jax.jit(FUNCTIONS[name]), jnp.ones((3, 3)))
    (found,) = jaxprs.constants(body)
    np.testing.assert_array_equal(found, WEIGHT)


def test_numbers_are_no_constants_of_a_network():
    assert jaxprs.constants(body_of(lambda x: 2.5 * x + 1, jnp.ones(3))) == []


def test_paths_tell_equations_apart():
    def inner(x):
        return jnp.sin(x)

    body = body_of(lambda x: jax.jit(inner)(jax.jit(inner)(x)), 1.0)
    paths = [p for p, e in jaxprs.equations(body) if e.primitive.name == "sin"]
    assert paths == [(0, 0, 0), (1, 0, 0)]
