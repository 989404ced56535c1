"""The operands of a product in one form, and the sums over them."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from deepcomp_jax.calibration import products
from deepcomp_jax.calibration.products import Tap
from deepcomp_jax.calibration.views import BROADCAST, Factors, size

Sums = tuple[jax.Array, jax.Array, jax.Array]  # of inputs, of gradients, the count


def zeros(tap: Tap) -> Sums:
    """Sums before anything is added; their axes are told by `products.Key`."""
    key = tap.key
    looped = [size(step.factors) for step in (*key.scans, *key.steps)]
    batch, n, m = map(products.count, (key.batch, key.inputs, key.outputs))
    inputs = [n] if tap.diagonal[0] else [n, n]
    outputs = [m] if tap.diagonal[1] else [m, m]
    shapes = ([*looped, batch, *inputs], [*looped, batch, *outputs], looped)
    a, g, count = (jnp.zeros(shape, jnp.float32) for shape in shapes)
    return a, g, count


def measured(tap: Tap, eqn: Any, other: jax.Array, gradient: jax.Array) -> Sums:
    """What one product adds to the sums of its leaf.

    Args:
        tap: Says which part of the weights is the leaf.
        eqn: The product.
        other: Its other operand: the data, or the indices of rows.
        gradient: The derivative of a scalar by its result.

    Returns:
        `sum x x^T` over all inputs x, `sum g g^T` over all gradients g, or their
        diagonals, for each product of a batch, and the number of inputs. For a table
        the first are counts of rows.
    """
    name = eqn.primitive.name
    batch, inputs, outputs = tap.axes
    starts = tap.starts
    gradient = gradient.astype(jnp.float32)
    if name == "gather":
        counts = _counts(tap, eqn, other)
        g = _cut(_looked_up(eqn, gradient), (), (), outputs, starts[2])
        rows, moments = g.shape[1], _moments(g, tap.diagonal[1])
        return counts, tap.scale**2 * moments, jnp.float32(rows)
    other = other.astype(jnp.float32)
    if name == "dot_general":
        x, g = _dot(eqn, tap.operand, other, gradient)
    else:
        x, g = _convolution(eqn, other, gradient)
    x = _cut(x, batch, starts[0], inputs, starts[1])
    g = _cut(g, batch, starts[0], outputs, starts[2])
    a = tap.scale**2 * _moments(x, tap.diagonal[0])
    return a, _moments(g, tap.diagonal[1]), jnp.float32(x.shape[1])


def _moments(x: jax.Array, diagonal: bool) -> jax.Array:
    """Second moments of `[batch, position, value]` for each of the batch."""
    if diagonal:
        return jnp.sum(x * x, axis=1)
    highest = lax.Precision.HIGHEST
    return jnp.einsum(
        "bri,brj->bij", x, x, precision=highest, preferred_element_type=jnp.float32
    )


def _cut(
    x: jax.Array,
    batch: Sequence[Factors],
    batch_starts: Sequence[int],
    values: Sequence[Factors],
    starts: Sequence[int],
) -> jax.Array:
    """The part of an array beside the leaf, as `[batch, position, value]`.

    Where the leaf is broadcast along a batch, these are more positions of one product;
    where it is along values, their sum is what each value of it meets.

    Args:
        x: An array with the axes of the batch, positions, and axes of values.
        batch: The factors of the leaf along the axes of the batch.
        batch_starts: Where it begins along them.
        values: The factors along the axes of values.
        starts: Where it begins along those.
    """
    begin = (*batch_starts, 0, *starts)
    lengths = (*map(size, batch), x.shape[len(batch)], *map(size, values))
    x = lax.slice(x, begin, [b + n for b, n in zip(begin, lengths, strict=True)])
    outer = list(itertools.chain.from_iterable(batch))
    inner = list(itertools.chain.from_iterable(values))
    rows = len(outer)
    x = x.reshape(
        [f.size for f in outer] + [x.shape[len(batch)]] + [f.size for f in inner]
    )
    more = [axis for axis, f in enumerate(outer) if f.axis == BROADCAST]
    same = [rows + 1 + i for i, f in enumerate(inner) if f.axis == BROADCAST]
    kept = [axis for axis in range(rows) if axis not in more]
    x = x.transpose(*kept, *more, *range(rows, x.ndim)).sum(axis=tuple(same))
    n = products.count([f for f in outer if f.axis != BROADCAST])
    m = products.count([f for f in inner if f.axis != BROADCAST])
    return x.reshape(n, -1, m)


def _dot(
    eqn: Any, operand: int, other: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Data and gradients of a `dot_general`, as `[*batch, position, *values]`."""
    batch, contracted, free = products.dot_axes(eqn, 1 - operand)
    _, _, outputs = products.dot_axes(eqn, operand)
    shape = [other.shape[axis] for axis in batch]
    rows = math.prod(other.shape[axis] for axis in free)
    x = other.transpose(*batch, *free, *contracted)
    x = x.reshape(*shape, rows, *(other.shape[axis] for axis in contracted))
    if operand == 0:  # its free axes come first in the result
        first = len(batch) + len(outputs)
        order = [*range(first, gradient.ndim), *range(len(batch), first)]
        gradient = gradient.transpose(*range(len(batch)), *order)
    values = gradient.shape[len(batch) + len(free) :]
    return x, gradient.reshape(*shape, rows, *values)


def _convolution(
    eqn: Any, other: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Patches and gradients of a convolution.

    Returns:
        Patches as `[group, position, *window, channel]` and gradients as
        `[group, position, output]`.
    """
    params = eqn.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    kernel = eqn.invars[1].aval.shape
    window = [kernel[axis] for axis in numbers.rhs_spec[2:]]
    n, channels, *space = numbers.lhs_spec
    x = other.transpose(n, *space, channels)
    no = (0, 0, 0)
    around = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(
            params["padding"], params["lhs_dilation"], strict=True
        )
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [no, *around, no])
    for axis, length in enumerate(window):
        stride, dilation = params["window_strides"][axis], params["rhs_dilation"][axis]
        reach = dilation * (length - 1) + 1
        places = (x.shape[1 + axis] - reach) // stride + 1
        index = (
            stride * jnp.arange(places)[:, None] + dilation * jnp.arange(length)[None]
        )
        x = jnp.take(x, index, axis=1 + axis)
        x = jnp.moveaxis(x, 2 + axis, -2)
    # The axes of the window now follow each other, before that of the channels.
    x = x.reshape(-1, *window, groups, x.shape[-1] // groups)
    n, outputs, *space = numbers.out_spec
    g = gradient.transpose(n, *space, outputs)
    g = g.reshape(-1, groups, g.shape[-1] // groups)
    return jnp.moveaxis(x, -2, 0), jnp.moveaxis(g, 1, 0)


def _looked_up(eqn: Any, gradient: jax.Array) -> jax.Array:
    """Gradients of what a `gather` has looked up, as `[position, *values]`."""
    values = eqn.params["dimension_numbers"].offset_dims
    positions = [axis for axis in range(gradient.ndim) if axis not in values]
    g = gradient.transpose(*positions, *values)
    rows = math.prod(g.shape[: len(positions)])
    return g.reshape(rows, *g.shape[len(positions) :])


def _counts(tap: Tap, eqn: Any, indices: jax.Array) -> jax.Array:
    """How often a `gather` reads each row of the leaf, as `[1, row]`."""
    numbers, shape = eqn.params["dimension_numbers"], eqn.invars[0].aval.shape
    lengths = [size(factors) for factors in tap.axes[1]]
    flat, inside = jnp.zeros((), jnp.int32), jnp.ones((), bool)
    for position, axis in enumerate(numbers.start_index_map):
        index = indices[..., position].astype(jnp.int32)
        if eqn.params["mode"] == lax.GatherScatterMode.CLIP:
            index = jnp.clip(index, 0, shape[axis] - 1)
        index -= tap.starts[1][position]
        inside &= (index >= 0) & (index < lengths[position])
        flat = flat * lengths[position] + index
    rows = math.prod(lengths)
    # What is outside of the table, or of this part of it, is dropped.
    counts = jnp.zeros(rows, jnp.float32)
    counts = counts.at[jnp.where(inside, flat, rows)].add(1, mode="drop")
    counts = counts.reshape(1, *lengths)
    return _cut(counts, (), (), tap.axes[1], (0,) * len(lengths))[:, 0]
