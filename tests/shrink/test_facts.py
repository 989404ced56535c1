"""What depends on the data, and what results depend on, beside what JAX computes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deepcomp_jax.shrink import facts, moves, products
from deepcomp_jax.shrink.program import Op, bind, trace

MOVES: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": lambda x: lax.broadcast_in_dim(x, (2, 3, 5, 4), (1, 3)),
    "concatenate": lambda x: lax.concatenate([x, x, 2 * x], 1),
    "expand_dims": lambda x: lax.expand_dims(x, (0, 2)),
    "pad": lambda x: lax.pad(x, 7.0, ((1, 2, 3), (0, 1, 0))),
    "negative pad": lambda x: lax.pad(x, 7.0, ((-1, 2, 1), (1, -2, 0))),
    "reshape": lambda x: lax.reshape(x, (2, 6)),
    "rev": lambda x: lax.rev(x, (1,)),
    "slice": lambda x: lax.slice(x, (0, 1), (3, 4), (2, 1)),
    "split": lambda x: lax.split(x, (1, 3), 1),
    "squeeze": lambda x: lax.squeeze(lax.expand_dims(x, (1,)), (1,)),
    "stack": lambda x: jnp.stack([x, 3 * x], 1),
    "transpose": lambda x: lax.transpose(x, (1, 0)),
    "unstack": lambda x: jnp.unstack(x, axis=1),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_are_those_of_jax(name: str):
    x = jnp.arange(1.0, 13.0).reshape(3, 4)
    program = trace(lambda _, x: MOVES[name](x), (), x)
    moved = [op for op in program.ops if op.name in moves.MOVES]
    assert moved
    values: dict[int, Any] = {**program.constants, program.data[0]: x}
    for op in program.ops:
        inputs = [values[value] for value in op.inputs]
        results = bind(op, inputs)
        values.update(zip(op.outputs, results, strict=True))
        if op not in moved:
            continue
        arrays = [np.asarray(own) for own in inputs]
        for ours, theirs in zip(moves.move(op, arrays), results, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        _check_sources(op, arrays, results)


def _check_sources(op: Op, inputs: list[np.ndarray], results: list[Any]) -> None:
    """The sources of every third element are where their derivative is not zero."""
    wanted = [np.arange(own.size).reshape(own.shape) % 3 == 0 for own in results]
    _, back = jax.vjp(lambda *own: bind(op, own), *map(jnp.asarray, inputs))
    expected = back([jnp.asarray(mask, jnp.float32) for mask in wanted])
    found = moves.sources(op, wanted, [own.shape for own in inputs])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs != 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shapes", "fn"),
    [
        (((2, 3), (2, 3)), lambda a, b: a * b),
        (((2, 3, 4), (5, 4, 2)), lambda a, b: jnp.einsum("bij,kjb->bik", a, b)),
        (((3, 4), (4,)), lambda a, b: a @ b),
        (((2, 3, 4), (3, 4)), lambda a, b: jnp.einsum("bij,ij->b", a, b)),
        (
            ((2, 4, 5, 3), (3, 2, 3, 4)),
            lambda a, b: lax.conv_general_dilated(
                a, b, (2, 1), ((1, 0), (0, 1)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ),
        ),
    ],
)  # fmt: skip
def test_products_of_flags(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], fn: Callable[..., Any], seed: int
):
    random = np.random.default_rng(seed)
    a, b = (random.random(shape) < 0.4 for shape in shapes)
    program = trace(lambda _, own: fn(*own), (), (1.0 * a, 1.0 * b))
    (place,) = [i for i, op in enumerate(program.ops) if op.name in products.PRODUCTS]
    op = program.ops[place]
    # Operands may be transposed first, so flags are made for what the product reads.
    a, b = (random.random(program.avals[value].shape) < 0.4 for value in op.inputs)
    x, y = (jnp.asarray(own, jnp.float32) for own in (a, b))
    result, back = jax.vjp(lambda x, y: bind(op, [x, y])[0], x, y)
    np.testing.assert_array_equal(products.product(op, a, b), result > 0)
    wanted = random.random(result.shape) < 0.5
    found = products.partners(op, wanted, a, b)
    for ours, theirs in zip(found, back(jnp.asarray(wanted, jnp.float32)), strict=True):
        np.testing.assert_array_equal(ours, theirs > 0)


def network(params: Any, x: jax.Array) -> jax.Array:
    """Products, sums, minima, choices and moves, with many zeros."""
    h = jnp.where(params["choice"], x @ params["w"], params["c"])
    h = jnp.concatenate([h * params["s"], lax.rev(h, (1,))], 1).reshape(3, 2, 5)
    h = jnp.max(h, axis=1) - jnp.cumsum(jnp.abs(h[:, 0]), axis=0)
    return jnp.tanh(h @ params["v"]) @ params["u"]


def made(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"w": (4, 5), "c": (3, 5), "s": (3, 5), "v": (5, 4), "u": (4, 2)}
    params = {
        name: (random.standard_normal(shape) * (random.random(shape) < 0.35))
        for name, shape in shapes.items()
    }
    params = {name: leaf.astype(np.float32) for name, leaf in params.items()}
    params["w"][:, random.random(5) < 0.5] = 0
    params["choice"] = random.random((3, 5)) < 0.5
    return params, random.standard_normal((3, 4)).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_what_does_not_vary_is_the_same_for_other_data(seed: int):
    params, x = made(seed)
    program = trace(network, params, x)
    leaves = jax.tree.leaves(params)
    first = facts.forward(program, leaves, [x])
    assert not all(mask.all() for mask in first.varying if mask.size)
    for other in range(3):
        again = facts.forward(program, leaves, [made(10 + other)[1]])
        for a, b, varying in zip(
            first.values, again.values, first.varying, strict=True
        ):
            same = np.asarray(a == b)
            assert (same | varying).all()


@pytest.mark.parametrize("seed", range(6))
def test_what_is_not_needed_may_be_anything(seed: int):
    """Each value in turn is replaced where it is not needed."""
    params, x = made(seed)
    program = trace(network, params, x)
    found = facts.forward(program, jax.tree.leaves(params), [x])
    needed = facts.backward(program, found, lambda value: None)
    wanted = found.values[program.outputs[0]]
    spared = 0
    for start, op in enumerate(program.ops):
        (value,) = op.outputs
        floating = jnp.issubdtype(found.values[value].dtype, jnp.floating)
        if needed[value].all() or not floating:
            continue
        values = dict(enumerate(found.values))
        noise = 5.0 + jnp.arange(values[value].size).reshape(values[value].shape)
        values[value] = jnp.where(needed[value], values[value], noise)
        spared += 1
        for later in program.ops[start + 1 :]:
            results = bind(later, [values[own] for own in later.inputs])
            values.update(zip(later.outputs, results, strict=True))
        np.testing.assert_allclose(values[program.outputs[0]], wanted, rtol=1e-5)
    assert spared


def test_zeros_that_spare_each_other_are_kept():
    """Of two zeros that are multiplied one at least must stay zero."""

    def fn(params: Any, x: jax.Array) -> jax.Array:
        return (x * params["a"]) * (x * params["b"])

    params = {"a": np.array([0.0, 1, 0]), "b": np.array([0.0, 0, 2])}
    params = {name: leaf.astype(np.float32) for name, leaf in params.items()}
    x = np.ones(3, np.float32)
    program = trace(fn, params, x)
    found = facts.forward(program, jax.tree.leaves(params), [x])
    needed = facts.backward(program, found, lambda value: None)
    a, b = program.ops[-1].inputs
    assert (needed[a] | needed[b]).all()
    assert needed[a].tolist() == [True, False, True]
    assert needed[b].tolist() == [True, True, False]


def test_rows_of_a_table_that_are_alike_do_not_vary():
    table = np.array([[1.0, 2, 0], [1, 3, 0], [1, 2, 0]], np.float32)
    tokens = jnp.array([[0, 1], [2, 0]])
    program = trace(lambda table, tokens: table[tokens], table, tokens)
    found = facts.forward(program, [table], [tokens])
    varying = found.varying[program.outputs[0]]
    assert varying.shape == (2, 2, 3)
    assert varying.any(axis=(0, 1)).tolist() == [False, True, False]
