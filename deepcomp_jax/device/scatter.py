"""From gap symbols to values in their places, on the device.

As in `gaps` and in the grouped coding: a symbol below the cap is a number of units of
zeros, and then a weight; the cap is a filler. Symbols belong to groups, of which each
has its own width of low bits, and begins anew.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings.grouping import Groups, before
from deepcomp_jax.device import rounding
from deepcomp_jax.streams import huffman

GROUPS_SIZE = 64  # arrays by group have this size
MAX_WIDTH = 16  # of low bits: with as many in front of them, they fit 32 bits


class Weights(NamedTuple):
    """Which symbols stand for weights.

    Attributes:
        ends: Where the symbols of each group end, int32[64].
        numbers: How many weights end before or at each symbol, int32[symbols].
        kept: Weights in each group and those before, int32[64].
        last: The last symbol of each group, [64].
        most: The greatest symbol.
        bytes: Sums of the symbols' low and high bytes, uint32[2].
    """

    ends: jax.Array
    numbers: jax.Array
    kept: jax.Array
    last: jax.Array
    most: jax.Array
    bytes: jax.Array


def by_group(numbers: NDArray[np.integer], fill: int = 0) -> NDArray[np.int32]:
    """Numbers of the groups, and `fill` for those that do not exist, int32[64]."""
    whole = np.full(GROUPS_SIZE, fill, np.int32)
    whole[: numbers.size] = numbers
    return whole


@jax.jit
def weights(symbols: jax.Array, ends: jax.Array, cap: int) -> Weights:
    """Finds the weights.

    Args:
        symbols: Gap symbols, uint16[symbols]; those after the last group are ignored.
        ends: Where the symbols of each group end, int32[64].
        cap: The filler.
    """
    there = jnp.arange(symbols.size, dtype=jnp.int32) < ends[-1]
    numbers = jnp.cumsum(there & (symbols < cap), dtype=jnp.int32)
    at = jnp.maximum(ends - 1, 0)
    own = jnp.where(there, symbols, 0).astype(jnp.uint32)
    both = jnp.stack([own & 0xFF, own >> 8])
    kept = jnp.where(ends > 0, numbers[at], 0)
    sums = both.sum(axis=1, dtype=jnp.uint32)
    return Weights(ends, numbers, kept, symbols[at], own.max(), sums)


@jax.jit
def ranks(
    symbols: jax.Array, found: Weights, low: jax.Array, widths: jax.Array, cap: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Adds up gaps.

    Args:
        symbols: Gap symbols, uint16[symbols].
        found: Which of them are weights.
        low: The low bits, as `huffman.windows` has them, uint32[windows].
        widths: Of low bits, int32[64].
        cap: The filler.

    Returns:
        The rank of each weight in its group, int32[symbols]; the rank of the last one
        of each group, int32[64]; and the sums of the low and high bytes of low bits,
        uint32[2].
    """
    group = _group(symbols.size, found.ends)
    width = widths[group]
    kept_before = jnp.roll(found.kept, 1).at[0].set(0)
    sizes = (found.kept - kept_before) * widths
    fields = jnp.cumsum(sizes) - sizes
    number = found.numbers - 1 - kept_before[group]
    field = fields[group] + number * width
    there = jnp.arange(symbols.size, dtype=jnp.int32) < found.ends[-1]
    weight = there & (symbols < cap)
    word = jnp.take(low, field >> 4, mode="clip") << (field & 15).astype(jnp.uint32)
    rest = word >> jnp.minimum(32 - width, 31).astype(jnp.uint32)
    rest = jnp.where(weight & (width > 0), rest, 0)
    zeros = symbols.astype(jnp.uint32) << width.astype(jnp.uint32)
    total = jnp.cumsum(zeros + rest + weight.astype(jnp.uint32), dtype=jnp.uint32)
    upto = jnp.where(found.ends > 0, total[jnp.maximum(found.ends - 1, 0)], 0)
    start = jnp.roll(upto, 1).at[0].set(0)
    both = jnp.stack([rest & 0xFF, rest >> 8]).sum(axis=1, dtype=jnp.uint32)
    own = (total - start[group]).astype(jnp.int32) - 1
    return own, (upto - start).astype(jnp.int32) - 1, both


def _group(size: int, ends: jax.Array) -> jax.Array:
    """The group of each of `size` items in order, int32[size]."""
    items = jnp.arange(size, dtype=jnp.int32)
    group = jnp.searchsorted(ends, items, side="right").astype(jnp.int32)
    return jnp.minimum(group, GROUPS_SIZE - 1)


@functools.partial(jax.jit, static_argnames="size")
def choose(kept: jax.Array, tables: jax.Array, *, size: int) -> jax.Array:
    """The table of each weight's index, uint8[size].

    Args:
        kept: Weights in each group and those before, int32[64].
        tables: Of each group, uint8[64].
        size: Of the result; what follows the last weight has no meaning.
    """
    return tables[_group(size, kept)]


class Matrix(NamedTuple):
    """Where the values of groups are, as in `codings._groups`.

    Attributes:
        before: Values of each group in the rows before each row, int32[64, rows].
        at: Where a row's columns of each group begin in `order`, int32[64, rows].
        order: Columns by class, int32[columns].
    """

    before: jax.Array
    at: jax.Array
    order: jax.Array


def matrix(found: Groups, place: Any) -> Matrix:
    """The tables of groups, on the device."""
    rows = 1 << (found.rows.size - 1).bit_length()
    befores = np.full((GROUPS_SIZE, rows), np.iinfo(np.int32).max, np.int32)
    at = np.zeros((GROUPS_SIZE, rows), np.int32)
    for group in range(found.sizes.size):
        befores[group, : found.rows.size] = before(found, group)
        column = group - found.rows.astype(np.int64)
        column = np.clip(column, 0, found.first.size - 1)
        at[group, : found.rows.size] = found.first[column]
    order = found.order if found.order.size else np.arange(found.columns.size)
    order = order.astype(np.int32)
    return Matrix(*jax.device_put((befores, at, order), place))


@jax.jit
def locate(own: jax.Array, ends: jax.Array, where: Matrix) -> jax.Array:
    """Positions in the flattened leaf, from ranks in groups.

    Args:
        own: Rank of each weight in its group, int32[symbols].
        ends: Where the symbols of each group end, int32[64].
        where: The tables of the groups.
    """
    rows = where.before.shape[1]
    base = _group(own.size, ends) * rows
    befores, at = where.before.reshape(-1), where.at.reshape(-1)

    def halve(index: int, row: jax.Array) -> jax.Array:
        further = row + (rows >> (index + 1))
        fits = jnp.take(befores, base + further, mode="clip") <= own
        return jnp.where(fits, further, row)

    row = jax.lax.fori_loop(0, rows.bit_length() - 1, halve, jnp.zeros_like(own))
    rest = own - jnp.take(befores, base + row, mode="clip")
    column = jnp.take(at, base + row, mode="clip") + rest
    return row * where.order.size + jnp.take(where.order, column, mode="clip")


@functools.partial(jax.jit, static_argnames=("shape", "cap"))
def scatter(
    symbols: jax.Array,
    found: Weights,
    positions: jax.Array,
    values: jax.Array,
    *,
    shape: tuple[int, ...],
    cap: int,
) -> jax.Array:
    """A leaf that holds the values at their positions, and zeros elsewhere.

    Args:
        symbols: Gap symbols, uint16[symbols].
        found: Which of them are weights.
        positions: Of those in the flattened leaf, int32[symbols].
        values: Of the weights in order, [weights or more].
        shape: Of the leaf.
        cap: The filler.
    """
    size = int(np.prod(shape, dtype=np.int64))
    items = jnp.arange(symbols.size, dtype=jnp.int32)
    weight = (items < found.ends[-1]) & (symbols < cap)
    # What is not a weight goes beyond the leaf, each to a place of its own.
    target = jnp.where(weight, positions, size + items)
    own = jnp.take(values, found.numbers - 1, mode="clip")
    flat = jnp.zeros(size, values.dtype)
    flat = flat.at[target].set(own, mode="drop", unique_indices=True)
    return flat.reshape(shape)


@jax.jit
def greatest(items: jax.Array, count: jax.Array) -> jax.Array:
    """The greatest of the first items, [n], or 0."""
    there = jnp.arange(items.size, dtype=jnp.int32) < count
    return jnp.where(there, items, 0).max()


def windows(data: bytes, place: Any) -> jax.Array:
    """The 32 bits after each 16-bit boundary, on the device, uint32[windows]."""
    return rounding.padded(huffman.windows(data), place)
