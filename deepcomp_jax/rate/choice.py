"""The choice of one label for each weight: nearest, one towards zero, or zero.

The same arithmetic runs in NumPy, for small leaves and as the oracle, and compiled, for
large ones: elementwise, in float32, in one order. A compiler may round a product and a
sum at once, so that labels whose costs are equal to a millionth may differ.

Large leaves are cut into parts, and these are filled up to one of a few sizes: how many
programs are compiled does not depend on how many shapes there are. Labels are counted
between programs, since to count in one is several times slower.
"""

from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import Leaf, group_prices, label_prices
from deepcomp_jax.share.labels import find
from deepcomp_jax.streams.counting import bincount

COMPILED = 1 << 18  # values of a leaf from which programs pay
_PARTS = (1 << 18, 1 << 20, 1 << 22)  # values that a program works on
_BLOCK = 1 << 14  # values together: what is computed of them fits a cache
_ROUNDS = 3
_IN_GROUPS = 3  # more rounds, where rows and columns are not equally dense
_MOST_GROUPS = 1 << 6
_ROW, _EVERY = 64, 8  # but for the last round, of large leaves a row of eight is enough


class Weights(NamedTuple):
    """Weights in a unit in which they are of about 1.

    Attributes:
        values: float32[n].
        costs: How much the squared error of each counts, float32[n] or one for all.
        near: Label of the entry that each is nearest to, uint[n]; 0 for a zero.
        group: Whose prices each has, uint8[n] or one for all.
    """

    values: NDArray[np.float32]
    costs: NDArray[np.float32]
    near: NDArray[np.unsignedinteger]
    group: NDArray[np.uint8]

    def part(self, where: Any) -> "Weights":
        """Some of them."""
        return jax.tree.map(lambda own: own[where] if own.ndim else own, self)


class Tables(NamedTuple):
    """What there is to choose from, by the label of the nearest entry.

    Attributes:
        near: That entry, float32[labels].
        inner: The next entry towards zero, float32[labels].
        inner_label: Its label, uint[labels].
        near_price: What the nearest entry costs in each group, in the unit of the
            distortion, float32[groups, labels]; the first column is that of zero.
        inner_price: What the next one towards zero costs, in the same way.
    """

    near: NDArray[np.float32]
    inner: NDArray[np.float32]
    inner_label: NDArray[np.unsignedinteger]
    near_price: NDArray[np.float32]
    inner_price: NDArray[np.float32]


Chosen = NDArray[np.unsignedinteger]


def labels(
    weights: Weights, entries: NDArray[np.float32], bit: float, leaf: Leaf
) -> Chosen:
    """The labels that make distortion and rate least, uint[n].

    Args:
        weights: Of a leaf, all of them, in one group.
        entries: What labels stand for, zero first, then ascending or not; of the unit
            of the weights.
        bit: What a bit costs, in the unit of the distortion.
        leaf: The leaf.
    """
    few = weights
    if weights.values.size >= COMPILED:  # enough to know how often labels occur
        few = jax.tree.map(_rows_of_some, weights)
    free = tables(entries, np.zeros((1, entries.size)))
    if not bit:
        return choose(weights, free)
    found = choose(few, free)
    for last in (False,) * (_ROUNDS - 1) + (True,):
        prices = bit * label_prices(bincount(found, entries.size))
        found = choose(weights if last else few, tables(entries, prices[None]))
    for _ in range(_IN_GROUPS):
        priced = group_prices(found, leaf)
        if priced is None:
            break
        grouped = weights._replace(group=priced.group)
        found = choose(grouped, tables(entries, bit * priced.bits))
    return found


def _rows_of_some(array: np.ndarray) -> np.ndarray:
    """A row of eight, but for the last ones."""
    if not array.ndim:
        return array
    whole = array.size // (_EVERY * _ROW) * _EVERY * _ROW
    return array[:whole].reshape(-1, _EVERY, _ROW)[:, 0].ravel()


def nearest(weights: np.ndarray, codebook: np.ndarray) -> Chosen:
    """The label of the entry that each weight is nearest to, uint[n]; 0 for a zero.

    Args:
        weights: Of any shape.
        codebook: Of their dtype, ascending or not.
    """
    ascending, order = np.unique(codebook, return_index=True)
    found = find(weights.ravel(), ascending)
    if (order == np.arange(codebook.size)).all():
        return found
    return np.append(0, order + 1).astype(found.dtype).take(found)


def tables(entries: NDArray[np.float32], prices: NDArray[np.floating]) -> Tables:
    """Tables from what labels stand for and cost, float[groups, labels]."""
    count, dtype = entries.size, np.min_scalar_type(entries.size - 1)
    order = np.argsort(entries[1:], kind="stable") + 1
    signs = np.sign(entries[order])
    inner = np.zeros(count, dtype)
    # Where the next one is beyond zero, or there is none, that is zero itself.
    at = np.arange(order.size) - signs.astype(np.intp)
    inside = (at >= 0) & (at < order.size)
    beside = at.clip(0, max(order.size - 1, 0))
    same = inside & (signs[beside] == signs) if order.size else inside
    inner[order[same]] = order[beside[same]]
    single = prices.astype(np.float32)
    return Tables(entries, entries[inner], inner, single, single[:, inner])


def choose(weights: Weights, tables: Tables) -> Chosen:
    """The cheapest label of each weight, uint[n]; zero where two are as cheap."""
    is_small = weights.values.size < COMPILED // _EVERY
    return (in_numpy if is_small else in_programs)(weights, tables)


def in_numpy(weights: Weights, tables: Tables) -> Chosen:
    """What `choose` does, without a program."""
    parts = [
        _choose(np, weights.part(slice(at, at + _BLOCK)), tables)
        for at in range(0, weights.values.size, _BLOCK)
    ]
    return np.concatenate(parts)


def in_programs(weights: Weights, tables: Tables) -> Chosen:
    """What `choose` does, compiled."""
    count = 1 << 8 if tables.near.size <= 1 << 8 else 1 << 11
    groups = _MOST_GROUPS if weights.group.ndim else 1
    padded = jax.tree.map(partial(_filled, shape=(groups, count)), tables)
    found = np.empty(weights.values.size, tables.inner_label.dtype)
    for first in range(0, found.size, _PARTS[-1]):
        part = weights.part(slice(first, first + _PARTS[-1]))
        size = next(own for own in _PARTS if own >= part.values.size)
        full = jax.tree.map(partial(_filled, shape=(size,)), part)
        chosen = np.asarray(_compiled(full, padded))
        found[first : first + _PARTS[-1]] = chosen[: part.values.size]
    return found


def _filled(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """With zeros after it along each of its axes, which are the last of a shape."""
    full = shape[len(shape) - array.ndim :]
    if full == array.shape:
        return array
    filled = np.zeros(full, array.dtype)
    filled[tuple(map(slice, array.shape))] = array
    return filled


@jax.jit
def _compiled(weights: Weights, tables: Tables) -> jax.Array:
    named = weights._asdict().items()
    rows = {name: own.reshape(-1, _BLOCK) for name, own in named if own.ndim}

    def block(part: dict[str, Any]) -> Any:
        return _choose(jnp, weights._replace(**part), tables)

    return jax.lax.map(block, rows).ravel()


def _choose(xp: ModuleType, weights: Weights, tables: Tables) -> Any:
    """One order of float32 operations, in NumPy and in JAX."""
    values, costs, near, group = weights
    first_of = group.astype(np.int32) * tables.near.size
    at = first_of + near  # of prices, in rows
    least = values * values * costs + tables.near_price.ravel().take(first_of)
    error = values - tables.near.take(near)
    first = error * error * costs + tables.near_price.ravel().take(at)
    error = values - tables.inner.take(near)
    second = error * error * costs + tables.inner_price.ravel().take(at)
    label = xp.where(second < first, tables.inner_label.take(near), near)
    return xp.where(xp.minimum(first, second) < least, label, xp.zeros_like(label))
