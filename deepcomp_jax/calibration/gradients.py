"""One compiled program: a function, and the gradient that sums up what leaves meet."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from deepcomp_jax import jaxprs
from deepcomp_jax.calibration import analysis, emission, products
from deepcomp_jax.calibration.findings import Analysis
from deepcomp_jax.calibration.measures import Sums
from deepcomp_jax.calibration.networks import Flat
from deepcomp_jax.calibration.products import Key
from deepcomp_jax.jaxprs import Body


class Program(NamedTuple):
    """What is computed for batches of one shape.

    Attributes:
        plain: The function itself, compiled if it can be.
        constants: The arrays that it is closed over.
        found: What it does with the leaves; None if it could not be traced.
        run: Takes leaves, arrays of a batch and a random key; returns the sums of the
            products, and the squared gradient of each floating leaf. None if the
            function has no derivative.
        reason: Why there is none.
    """

    plain: Flat
    constants: Sequence[Any]
    found: Analysis | None
    run: Callable[..., tuple[dict[Key, Sums], dict[int, jax.Array]]] | None
    reason: str


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is of a floating type; integers have no derivatives."""
    return jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.floating)


def followed(leaf: Any) -> bool:
    """Whether a leaf has values, and derivatives by them."""
    return is_floating(leaf) and leaf.size > 0


def program(fn: Flat, leaves: list[Any], batch: list[Any], max_gram: int) -> Program:
    """Traces and analyzes a function of leaves and arrays of a batch.

    Raises:
        ValueError: It returns nothing of a floating type.
    """
    try:
        closed = jax.make_jaxpr(fn)(leaves, batch)
    except jax.errors.JAXTypeError as error:  # it computes with something else
        return Program(fn, (), None, None, _first_line(error))
    body = jaxprs.opened(closed)
    types = [v.aval.dtype for v in body.jaxpr.outvars]
    if not any(jnp.issubdtype(dtype, jnp.inexact) for dtype in types):
        raise ValueError(
            f"fn returns arrays of {', '.join(map(str, types)) or 'nothing'}: return "
            "what is computed before it is rounded or chosen, such as logits"
        )
    shapes = [tuple(leaf.shape) for leaf in leaves]
    follow = [followed(leaf) for leaf in leaves]
    integers = [jnp.issubdtype(array.dtype, jnp.integer) for array in batch]
    found = analysis.analyze(body, shapes, follow, integers, max_gram)
    run = _compiled(body, found, [i for i, yes in enumerate(follow) if yes])
    constants = jaxprs.constants(body)
    try:
        key = jax.random.key(0)
        jax.eval_shape(run, leaves, batch, key)
    except (ValueError, TypeError, NotImplementedError) as error:
        return Program(jax.jit(fn), constants, found, None, _first_line(error))
    return Program(jax.jit(fn), constants, found, run, "")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _compiled(body: Body, found: Analysis, weights: Sequence[int]) -> Any:
    """The gradient that sums up; see `Program.run`."""
    stacked = {i: stacked_axes(found, i) for i in weights}

    def run(
        constants: Sequence[Any], leaves: list[Any], batch: list[Any], key: jax.Array
    ) -> tuple[dict[Key, Sums], dict[int, jax.Array]]:
        inner = Body(body.jaxpr, tuple(constants))

        def scalar(sums: dict[Key, Sums], floating: dict[int, Any]) -> jax.Array:
            operands = [floating.get(i, leaf) for i, leaf in enumerate(leaves)]
            outputs = emission.evaluate(inner, [*operands, *batch], found, sums)
            return projected(outputs, key)

        floating = {i: leaves[i] for i in stacked}
        gradient = jax.grad(scalar, (0, 1))
        sums, by_leaf = gradient(emission.dummies(found), floating)
        return sums, {i: squared(g, stacked[i]) for i, g in by_leaf.items()}

    # Constants are operands, or they would be copied into the program.
    return functools.partial(jax.jit(run), body.constants)


def stacked_axes(found: Analysis, leaf: int) -> int:
    """The number of leading axes of a leaf that are the batch of all its products."""
    shape = found.shapes[leaf]
    batches = {
        roles.batch
        for taps in found.taps.values()
        for tap in taps
        if tap.key.leaf == leaf and (roles := products.roles(tap.key, shape))
    }
    if len(batches) != 1:
        return 0
    (batch,) = batches
    return len(batch) if batch == tuple(range(len(batch))) else 0


def projected(outputs: Sequence[Any], key: jax.Array) -> jax.Array:
    """The sum of all floating outputs, each element with a random sign."""
    total = jnp.float32(0)
    for position, output in enumerate(outputs):
        for part, values in enumerate(_real_parts(output)):
            own = jax.random.fold_in(jax.random.fold_in(key, position), part)
            signs = jax.random.rademacher(own, values.shape, jnp.float32)
            total += jnp.sum(values.astype(jnp.float32) * signs)
    return total


def _real_parts(output: Any) -> tuple[Any, ...]:
    """The floating arrays that an output is made of, none if it is integers."""
    dtype = jax.dtypes.result_type(output)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return output.real, output.imag
    return (output,) if jnp.issubdtype(dtype, jnp.floating) else ()


def squared(gradient: jax.Array, stacked: int) -> jax.Array:
    """The sum of squares for each index of the leading axes."""
    axes = tuple(range(stacked, gradient.ndim))
    return jnp.sum(jnp.square(gradient.astype(jnp.float32)), axis=axes)


def tables(fn: Flat, leaves: list[Any], batch: list[Any]) -> dict[int, int]:
    """For arrays of a batch that are indices of rows the number of these rows."""
    found = program(fn, leaves, batch, 1).found
    return {} if found is None else found.tables
