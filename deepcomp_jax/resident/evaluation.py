"""Functions of coded leaves, which are decoded where a jaxpr reads them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import jaxprs
from deepcomp_jax.resident import arguments
from deepcomp_jax.resident.later import Later, Order, decoded, followed, ready
from deepcomp_jax.resident.leaf import ResidentLeaf
from deepcomp_jax.resident.leaves import CodedLeaf, PlainLeaf

_LOOKUPS = frozenset({"gather", "dynamic_slice"})


def decoding(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose first argument may hold leaves that are coded.

    Args:
        fn: Takes a pytree of parameters, and other arguments that are arrays or pytrees
            of such. It is traced, not changed. Booleans of Python, strings, functions
            and the like among the other arguments reach it as they are.

    Returns:
        A function that takes, in place of arrays, any number of `ResidentLeaf`. To be
        compiled with the leaves as arguments, not closed over; `jax.jit` wants what is
        no array in `static_argnames`.

    Examples:
        >>> import os, tempfile, jax, numpy as np, deepcomp_jax as dc
        >>> from deepcomp_jax.resident import decoding
        >>> path = os.path.join(tempfile.mkdtemp(), "model.dcz")
        >>> weights = np.random.default_rng(0).standard_normal((64, 96), np.float32)
        >>> size = dc.save(path, dc.compress({"kernel": weights}))
        >>> with dc.open(path) as file:
        ...     resident = file.on_device()
        >>> fn = jax.jit(decoding(lambda params, x: x @ params["kernel"]))
        >>> same = fn(resident.tree(), np.eye(64)) == dc.load(path)["kernel"]
        >>> bool(same.all())
        True
    """

    def run(params: Any, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten(params, is_leaf=is_resident)
        operands = [_operand(leaf) for leaf in leaves]
        shapes = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if _is_coded(leaf) else operand
            for leaf, operand in zip(leaves, operands, strict=True)
        ]
        flat, rest = arguments.split((args, kwargs))

        def plain(weights: list[Any], flat: list[Any]) -> Any:
            args, kwargs = arguments.joined(flat, rest)
            return fn(jax.tree.unflatten(structure, weights), *args, **kwargs)

        traced, out = jax.make_jaxpr(plain, return_shape=True)(shapes, flat)
        results = _evaluate(jaxprs.opened(traced), [*operands, *flat])
        return jax.tree.unflatten(jax.tree.structure(out), results)

    return run


def is_resident(node: Any) -> bool:
    """Whether part of a tree is a leaf on a device."""
    return isinstance(node, ResidentLeaf)


def _is_coded(node: Any) -> bool:
    return isinstance(node, CodedLeaf)


def _operand(leaf: Any) -> Any:
    """What stands for a leaf in a walk."""
    if isinstance(leaf, CodedLeaf):
        return Later(leaf)
    return leaf.decode() if isinstance(leaf, PlainLeaf) else leaf


# ---- walking ------------------------------------------------------------------------


def _evaluate(body: jaxprs.Body, operands: Sequence[Any]) -> list[Any]:
    """The results of a jaxpr, of whose operands some are `Later`."""
    order = Order()
    results = _walk(body, operands, order)
    return [ready(own, order) for own in results]


def _walk(body: jaxprs.Body, operands: Sequence[Any], order: Order) -> list[Any]:
    def rule(position: int, eqn: Any, values: list[Any]) -> list[Any]:
        del position
        if not any(isinstance(value, Later) for value in values):
            return jaxprs.bind(eqn, values)
        inner = jaxprs.called(eqn)
        if inner is not None and eqn.primitive.name not in jaxprs.CUSTOM:
            return _walk(inner, values, order)
        found = _looked_up(eqn, values, order) or _scanned(eqn, values, order)
        if found is not None:
            return found
        if len(values) == 1 and len(eqn.outvars) == 1 and not jaxprs.bodies(eqn):
            (later,) = values
            return [dataclasses.replace(later, then=(*later.then, eqn))]
        results = jaxprs.bind(eqn, decoded(values, order))
        order.last = results[:1]
        return results

    return jaxprs.walk(body, operands, rule, lambda value: value)


def _scanned(eqn: Any, values: list[Any], order: Order) -> list[Any] | None:
    """A scan over leaves, with a layer of each decoded at a time.

    What is the same in every step, or carried, is decoded once, before the loop; but
    for stacks and tables of which the steps look up some indices.
    """
    scan = jaxprs.scan(eqn)
    if scan is None:
        return None
    first = scan.constants + scan.carries
    begin = [
        own if _is_table(scan, number) else ready(own, order)
        for number, own in enumerate(values[:first])
    ]
    stacks = [ready(own, order) if _is_odd(own) else own for own in values[first:]]
    xs = [own.leaf.layers() if isinstance(own, Later) else own for own in stacks]

    def body(carries: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
        own = [_sliced(*pair) for pair in zip(stacks, slices, strict=True)]
        results = _evaluate(scan.body, [*begin[: scan.constants], *carries, *own])
        return results[: scan.carries], results[scan.carries :]

    carries, stacked = jax.lax.scan(
        body, begin[scan.constants :], xs, scan.length, scan.reverse
    )
    return [*carries, *stacked]


def _is_table(scan: jaxprs.Scan, number: int) -> bool:
    """Whether an operand is the same in every step, and only looked up there."""
    if number >= scan.constants:
        return False
    jaxpr = scan.body.jaxpr
    table = jaxpr.invars[number]
    readers = [eqn for eqn in jaxpr.eqns if any(v is table for v in eqn.invars)]
    return all(eqn.primitive.name in _LOOKUPS for eqn in readers)


def _is_odd(stack: Any) -> bool:
    """Whether a stack is not there, and layers of what is there are not its own."""
    return isinstance(stack, Later) and not stack.only_converted


def _sliced(stack: Any, layer: Any) -> Any:
    """What stands in the body of a scan for a slice of a stack."""
    if not isinstance(stack, Later):
        return layer
    if isinstance(layer, CodedLeaf):
        return dataclasses.replace(stack, leaf=layer)
    return followed(layer.decode(), stack.then)


# ---- lookups ------------------------------------------------------------------------


def _looked_up(eqn: Any, values: list[Any], order: Order) -> list[Any] | None:
    """Rows of a leaf that an equation selects by the first axis, still coded.

    Returns:
        The result; None if the equation does something else, or reads so many rows that
        all of them are decoded sooner.
    """
    later = values[0]
    if not isinstance(later, Later) or not later.only_converted:
        return None
    others = values[1:]
    if not later.leaf.has_rows or any(isinstance(own, Later) for own in others):
        return None
    match eqn.primitive.name:
        case "gather":
            return _gathered(eqn.params, later, others[0], order)
        case "dynamic_slice":
            return _cut(eqn.params, later, others[0])
        case "slice":
            return _cut_here(eqn.params, later)
    return None


def _gathered(
    params: dict[str, Any], later: Later, indices: jax.Array, order: Order
) -> list[Any] | None:
    leaf, numbers = later.leaf, params["dimension_numbers"]
    outer = indices.ndim - 1
    simple = (
        tuple(numbers.start_index_map) == tuple(numbers.collapsed_slice_dims) == (0,)
        and not numbers.operand_batching_dims
        and tuple(numbers.offset_dims) == tuple(range(outer, outer + leaf.ndim - 1))
        and tuple(params["slice_sizes"]) == (1, *leaf.shape[1:])
    )
    fills = params["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP
    if not simple or math.prod(indices.shape[:-1]) >= leaf.shape[0]:
        return None
    if fills and not jnp.issubdtype(leaf.dtype, jnp.floating):
        return None
    rows = indices[..., 0]
    inner = leaf.at(jnp.clip(rows, 0, leaf.shape[0] - 1))
    found = ready(Later(inner, later.then), order)
    if fills:
        fill = params["fill_value"]
        inside = (rows >= 0) & (rows < leaf.shape[0])
        inside = inside.reshape(*inside.shape, *[1] * (leaf.ndim - 1))
        found = jnp.where(inside, found, np.nan if fill is None else fill)
    return [found]


def _cut(params: dict[str, Any], later: Later, start: jax.Array) -> list[Any] | None:
    count, *rest = params["slice_sizes"]
    length, *inner = later.leaf.shape
    if rest != inner or count >= length:
        return None
    first = jnp.clip(start, 0, length - count)
    rows = first + jnp.arange(count)
    return [Later(later.leaf.at(rows), later.then)]


def _cut_here(params: dict[str, Any], later: Later) -> list[Any] | None:
    (first, *lows), (end, *highs) = params["start_indices"], params["limit_indices"]
    inner = list(later.leaf.shape[1:])
    if any(lows) or highs != inner or end - first >= later.leaf.shape[0]:
        return None
    if any(step != 1 for step in params["strides"] or ()):
        return None
    return [Later(later.leaf.at(np.arange(first, end)), later.then)]
