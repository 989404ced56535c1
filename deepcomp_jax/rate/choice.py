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

from deepcomp_jax.codings import label_prices
from deepcomp_jax.share.labels import assign
from deepcomp_jax.streams.counting import bincount

COMPILED = 1 << 18  # values of a leaf from which programs pay
_PARTS = (1 << 18, 1 << 20, 1 << 22)  # values that a program works on
_BLOCK = 1 << 14  # values together: what is computed of them fits a cache
_ROUNDS = 3
_ROW, _EVERY = 64, 8  # but for the last round, of large leaves a row of eight is enough


class Weights(NamedTuple):
    """Weights in a unit in which they are of about 1.

    Attributes:
        values: float32[n].
        costs: How much the squared error of each counts, float32[n] or one for all.
        near: Label of the entry that each is nearest to, uint[n]; 0 for a zero.
    """

    values: NDArray[np.float32]
    costs: NDArray[np.float32]
    near: NDArray[np.unsignedinteger]

    def part(self, where: Any) -> "Weights":
        """Some of them."""
        costs = self.costs[where] if self.costs.ndim else self.costs
        return Weights(self.values[where], costs, self.near[where])


class Tables(NamedTuple):
    """What there is to choose from, by the label of the nearest entry.

    Attributes:
        near: That entry, and below its price; float32[labels].
        near_price: In the unit of the distortion.
        inner: The next entry towards zero, its price, and its label.
        inner_price: In the unit of the distortion.
        inner_label: uint[labels].
    """

    near: NDArray[np.float32]
    near_price: NDArray[np.float32]
    inner: NDArray[np.float32]
    inner_price: NDArray[np.float32]
    inner_label: NDArray[np.unsignedinteger]


Chosen = NDArray[np.unsignedinteger]


def labels(weights: Weights, entries: NDArray[np.float32], bit: float) -> Chosen:
    """The labels that make distortion and rate least, uint[n].

    Args:
        weights: Of a leaf, all of them.
        entries: What labels stand for, zero first, then ascending or not; of the unit
            of the weights.
        bit: What a bit costs, in the unit of the distortion.
    """
    size = weights.values.size
    few = weights
    if size >= COMPILED:  # rows of eight: enough to know how often labels occur
        rows = np.arange(size // _ROW)[::_EVERY, None] * _ROW + np.arange(_ROW)
        few = weights.part(rows.ravel())
    prices, free = np.zeros(entries.size), tables(entries, np.zeros(entries.size))
    if not bit:
        return choose(weights, free, 0.0)
    found = choose(few, free, 0.0)
    for last in (False,) * (_ROUNDS - 1) + (True,):
        prices = bit * label_prices(bincount(found, entries.size))
        own = tables(entries, prices)
        found = choose(weights if last else few, own, float(prices[0]))
    return found


def nearest(weights: np.ndarray, codebook: np.ndarray) -> Chosen:
    """The label of the entry that each weight is nearest to, uint[n]; 0 for a zero.

    Args:
        weights: Of any shape.
        codebook: Of their dtype, ascending or not.
    """
    ascending, order = np.unique(codebook, return_index=True)
    dtype = np.min_scalar_type(codebook.size)
    number = np.append(0, order + 1).astype(dtype)
    flat = weights.ravel()
    if flat.size >= COMPILED:
        found = np.asarray(assign(jax.device_put(flat), ascending))
    else:
        wide = ascending.astype(np.float64)
        middles = wide[:-1] + np.diff(wide) / 2
        found = np.searchsorted(middles, flat.astype(np.float64)) + 1
        found[flat == 0] = 0
    return number[found]


def tables(entries: NDArray[np.float32], prices: NDArray[np.floating]) -> Tables:
    """Tables from what labels stand for and what they cost, float[labels]."""
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
    return Tables(entries, single, entries[inner], single[inner], inner)


def choose(weights: Weights, tables: Tables, zero: float) -> Chosen:
    """The cheapest label of each weight, uint[n]; zero where two are as cheap.

    Args:
        weights: The weights.
        tables: Labels and prices.
        zero: What zero costs.
    """
    is_small = weights.values.size < COMPILED // _EVERY
    return (in_numpy if is_small else in_programs)(weights, tables, zero)


def in_numpy(weights: Weights, tables: Tables, zero: float) -> Chosen:
    """What `choose` does, without a program."""
    parts = [
        _choose(np, weights.part(slice(at, at + _BLOCK)), tables, np.float32(zero))
        for at in range(0, weights.values.size, _BLOCK)
    ]
    return np.concatenate(parts)


def in_programs(weights: Weights, tables: Tables, zero: float) -> Chosen:
    """What `choose` does, compiled."""
    count = 1 << 8 if tables.near.size <= 1 << 8 else 1 << 11
    padded = jax.tree.map(lambda own: np.pad(own, (0, count - own.size)), tables)
    found = np.empty(weights.values.size, tables.inner_label.dtype)
    for first in range(0, found.size, _PARTS[-1]):
        part = weights.part(slice(first, first + _PARTS[-1]))
        size = next(own for own in _PARTS if own >= part.values.size)
        full = jax.tree.map(partial(_filled, size=size), part)
        chosen = np.asarray(_compiled(full, padded, np.float32(zero)))
        found[first : first + _PARTS[-1]] = chosen[: part.values.size]
    return found


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    return np.pad(array, (0, size - array.size)) if array.ndim else array


@jax.jit
def _compiled(weights: Weights, tables: Tables, zero: jax.Array) -> jax.Array:
    def block(part: Weights) -> Any:
        return _choose(jnp, part, tables, zero)

    rows = [own.reshape(-1, _BLOCK) for own in weights if own.ndim]
    if weights.costs.ndim:
        return jax.lax.map(lambda row: block(Weights(*row)), tuple(rows)).ravel()
    return jax.lax.map(
        lambda row: block(Weights(row[0], weights.costs, row[1])), tuple(rows)
    ).ravel()


def _choose(xp: ModuleType, weights: Weights, tables: Tables, zero: Any) -> Any:
    """One order of float32 operations, in NumPy and in JAX."""
    values, costs, near = weights
    least = values * values * costs + zero
    error = values - tables.near[near]
    first = error * error * costs + tables.near_price[near]
    error = values - tables.inner[near]
    second = error * error * costs + tables.inner_price[near]
    label = xp.where(second < first, tables.inner_label[near], near)
    return xp.where(xp.minimum(first, second) < least, label, xp.zeros_like(label))
