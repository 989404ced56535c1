"""Sums of single products put together into those of whole leaves, on the host."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax.calibration import products
from deepcomp_jax.calibration.products import Key, Roles
from deepcomp_jax.calibration.views import BROADCAST, Factors


class Use(NamedTuple):
    """How a leaf is multiplied with data, and the sums over all that it meets.

    Letters in shapes: `B` the sizes of the axes in `batch`, `n` and `m` the products of
    those in `inputs` and `outputs`.

    Attributes:
        kind: "product" for matrix products and convolutions, "table" where rows are
            looked up by integers.
        batch: Axes of the leaf along which there are separate products: experts, heads,
            layers of a stack that a loop goes over. For a grouped convolution its
            output axis is one of them, since outputs of different groups have
            different inputs.
        inputs: Axes that are contracted, in the order of the leaf; those that are
            looked up in a table. For kernels of convolutions the window's axes too.
        outputs: All other axes, in the order of the leaf.
        input_moments: `sum x x^T` over all inputs x, float32 `[*B, n, n]` in C order of
            the axes, or the diagonals `[*B, n]` if n is large. Always the latter for a
            table, the number of times that each row is looked up. Where parts of an
            axis meet different inputs, these are blocks on the diagonal.
        output_moments: `sum g g^T` over the derivatives g of what comes out, float32
            `[*B, m, m]`, or the diagonals `[*B, m]`.
        count: The number of inputs x, or of look-ups, in each product of the batch; the
            largest if they differ. Parts of a leaf that are used apart all count.
    """

    kind: str
    batch: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_moments: np.ndarray
    output_moments: np.ndarray
    count: int  # type: ignore[reportIncompatibleMethodOverride]


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def add(total: dict[Key, Arrays], sums: dict[Key, Any]) -> None:
    """Adds the sums of one batch to those of all, in double precision.

    Those of the batch are taken out of their dictionary, so that their memory is free
    before the next batch.
    """
    while sums:
        key, arrays = sums.popitem()
        if key in total:
            for whole, part in zip(total[key], arrays, strict=True):
                whole += np.asarray(part)
        else:
            a, g, count = (np.array(array, np.float64) for array in arrays)
            total[key] = a, g, count


def uses(
    total: Mapping[Key, Arrays], shape: Sequence[int], max_gram: int
) -> tuple[Use, ...]:
    """The uses of one leaf.

    Args:
        total: The sums of all products with it.
        shape: Its shape.
        max_gram: Of more inputs or outputs only the diagonals have been summed.
    """
    groups: dict[tuple[str, tuple[int, ...], tuple[int, ...]], list[Key]] = {}
    for key in total:
        roles = _roles(key, shape)
        groups.setdefault((key.kind, roles.batch, roles.inputs), []).append(key)
    return tuple(
        _use(keys, total, shape, max_gram) for _, keys in sorted(groups.items())
    )


def _roles(key: Key, shape: Sequence[int]) -> Roles:
    found = products.roles(key, shape)
    assert found is not None, "analysis leaves out what has no roles"
    return found


def _use(
    keys: Sequence[Key],
    total: Mapping[Key, Arrays],
    shape: Sequence[int],
    max_gram: int,
) -> Use:
    batch, inputs, outputs, _ = _roles(keys[0], shape)
    lengths = [[shape[a] for a in axes] for axes in (batch, inputs, outputs)]
    n, m = math.prod(lengths[1]), math.prod(lengths[2])
    found = [_roles(key, shape) for key in keys]
    known = [
        products.diagonals(key.kind, roles, shape, max_gram)
        for key, roles in zip(keys, found, strict=True)
    ]
    # Of one output the diagonal is all that there is.
    diagonal = [any(d[0] for d in known), m > 1 and any(d[1] for d in known)]
    a = np.zeros([*lengths[0], n] if diagonal[0] else [*lengths[0], n, n])
    g = np.zeros([*lengths[0], m] if diagonal[1] else [*lengths[0], m, m])
    counts = np.zeros(lengths[0])
    for key, roles in zip(keys, found, strict=True):
        for place in _places(key, roles, total[key], shape):
            where, inside, outside, xs, gs, count = place
            _add_block(a[where], inside, xs)
            _add_block(g[where], outside, gs)
            counts[where] += count
    return Use(
        keys[0].kind, batch, inputs, outputs,
        a.astype(np.float32), g.astype(np.float32), round(float(counts.max())),
    )  # fmt: skip


def _add_block(whole: np.ndarray, index: np.ndarray, block: np.ndarray) -> None:
    """Adds the moments of some values to those of all; either may be diagonals."""
    if whole.ndim == 2:
        whole[np.ix_(index, index)] += block
    else:
        whole[index] += block if block.ndim == 1 else np.diagonal(block)


def _places(
    key: Key, roles: Roles, arrays: Arrays, shape: Sequence[int]
) -> Iterator[tuple[Any, ...]]:
    """Each product of a batch: where its sums belong in those of the leaf.

    Yields:
        The index along the batch axes, those of the inputs and of the outputs in C
        order of the leaf, the two sums, and the count.
    """
    steps = [step.factors for step in (*key.scans, *key.steps)]
    looped = tuple(itertools.chain.from_iterable(steps))
    a, g, counts = (_without_broadcast(array, steps) for array in arrays)
    outer = tuple(f for f in looped if f.axis != BROADCAST) + key.batch
    moving = products.count(outer)
    a, g = (x.reshape(moving, *x.shape[2:]) for x in (a, g))
    counts = np.repeat(counts, moving // counts.size)
    places = _indices(outer, key.offset)
    inner, left = (_indices(f, (0,) * len(shape)) for f in (key.inputs, key.outputs))
    for position in range(moving):
        at = places[:, position]
        inputs = _flat(at[:, None] + inner, roles.inputs, shape)
        apart = at[:, None] + left
        # Of an axis that is batch in part each index is a product of its own.
        groups = _flat(apart, roles.spread, shape)
        for group in np.unique(groups):
            own = groups == group
            where = tuple(apart[axis][own][0] for axis in roles.batch)
            outputs = _flat(apart[:, own], roles.outputs, shape)
            gs = g[position][..., own] if roles.spread else g[position]
            yield where, inputs, outputs, a[position], gs, counts[position]


def _without_broadcast(array: np.ndarray, steps: Sequence[Factors]) -> np.ndarray:
    """Sums with the axes of loops joined to one, after those that repeat are added."""
    factors = [factor for step in steps for factor in step]
    rest = array.shape[len(steps) :]
    array = array.reshape([f.size for f in factors] + list(rest))
    same = tuple(i for i, f in enumerate(factors) if f.axis == BROADCAST)
    return array.sum(axis=same).reshape(-1, *rest)


def _indices(factors: Factors, offset: Sequence[int]) -> np.ndarray:
    """The indices that factors reach along all axes of a leaf, `[axis, position]`."""
    left = np.arange(products.count(factors))
    places = np.repeat(np.array(offset, np.int64)[:, None], left.size, axis=1)
    for factor in reversed(factors):
        left, steps = np.divmod(left, factor.size)
        places[factor.axis] += steps * factor.stride
    return places


def _flat(places: np.ndarray, axes: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Indices along some axes as one index in C order."""
    flat = np.zeros(places.shape[1], np.int64)
    for axis in axes:
        flat = flat * shape[axis] + places[axis]
    return flat
