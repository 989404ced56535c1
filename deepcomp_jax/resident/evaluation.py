"""Functions of coded leaves, which are decoded where a jaxpr reads them.

XLA may compute what depends on no input whenever it likes, all weights at once for
example, and its barriers are gone before it orders the work of a CPU. So the lanes of a
leaf begin in their states plus a zero that is computed from the result of the equation
that read a leaf before: there is one leaf at a time.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import jaxprs
from deepcomp_jax.resident.leaves import CodedLeaf, PlainLeaf, ResidentLeaf

_LOOKUPS = frozenset({"gather", "dynamic_slice"})


@dataclasses.dataclass(frozen=True)
class _Later:
    """Values that are not there yet.

    Attributes:
        leaf: What they are decoded from.
        then: Equations of one operand that follow, such as a transposition.
    """

    leaf: CodedLeaf
    then: tuple[Any, ...] = ()

    @property
    def only_converted(self) -> bool:
        """Whether each value depends on the one at its own place alone."""
        return all(eqn.primitive.name == "convert_element_type" for eqn in self.then)


def decoding(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose first argument may hold leaves that are coded.

    Args:
        fn: Takes a pytree of parameters, and other arguments that are arrays or pytrees
            of such. It is traced, not changed.

    Returns:
        A function that takes, in place of arrays, any number of `ResidentLeaf`. To be
        compiled with the leaves as arguments, not closed over.

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
        leaves, structure = jax.tree.flatten(params, is_leaf=_is_resident)
        operands = [_operand(leaf) for leaf in leaves]
        shapes = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if _is_coded(leaf) else operand
            for leaf, operand in zip(leaves, operands, strict=True)
        ]
        flat, arguments = jax.tree.flatten((args, kwargs))

        def plain(weights: list[Any], flat: list[Any]) -> Any:
            args, kwargs = jax.tree.unflatten(arguments, flat)
            return fn(jax.tree.unflatten(structure, weights), *args, **kwargs)

        traced, out = jax.make_jaxpr(plain, return_shape=True)(shapes, flat)
        results = _evaluate(jaxprs.opened(traced), [*operands, *flat])
        return jax.tree.unflatten(jax.tree.structure(out), results)

    return run


def _is_resident(node: Any) -> bool:
    return isinstance(node, ResidentLeaf)


def _is_coded(node: Any) -> bool:
    return isinstance(node, CodedLeaf)


def _operand(leaf: Any) -> Any:
    """What stands for a leaf in a walk."""
    if isinstance(leaf, CodedLeaf):
        return _Later(leaf)
    return leaf.decode() if isinstance(leaf, PlainLeaf) else leaf


# ---- walking ------------------------------------------------------------------------


class _Order:
    """What was computed last from a leaf, which the next leaf has to wait for."""

    def __init__(self) -> None:
        self.last: list[Any] = []


def _evaluate(body: jaxprs.Body, operands: Sequence[Any]) -> list[Any]:
    """The results of a jaxpr, of whose operands some are `_Later`."""
    order = _Order()
    results = _walk(body, operands, order)
    return [_ready(own, order) for own in results]


def _walk(body: jaxprs.Body, operands: Sequence[Any], order: _Order) -> list[Any]:
    def rule(position: int, eqn: Any, values: list[Any]) -> list[Any]:
        del position
        if not any(isinstance(value, _Later) for value in values):
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
        results = jaxprs.bind(eqn, _decoded(values, order))
        order.last = results[:1]
        return results

    return jaxprs.walk(body, operands, rule, lambda value: value)


def _decoded(values: Sequence[Any], order: _Order) -> list[Any]:
    """Operands of an equation, with those decoded that are not there yet."""
    if not any(isinstance(value, _Later) for value in values):
        return list(values)
    nought = _nought(order.last)
    return [
        _finish(dataclasses.replace(own, leaf=own.leaf.after(nought)))
        if isinstance(own, _Later)
        else own
        for own in values
    ]


def _nought(values: Sequence[Any]) -> jax.Array:
    """A zero, uint32, that XLA cannot have before it has some arrays."""
    found = jnp.zeros((), jnp.uint32)
    for own in values:
        if isinstance(own, jax.Array) and own.size and _is_number(own.dtype):
            found += _nought_of(jax.lax.stop_gradient(own))
    return found


def _is_number(dtype: np.dtype) -> bool:
    return jnp.issubdtype(dtype, jnp.number) or dtype == jnp.bool_


@jax.custom_batching.custom_vmap
def _nought_of(array: jax.Array) -> jax.Array:
    # No number is NaN and equal to itself, but no pass of XLA knows that.
    first = jnp.real(array[(0,) * array.ndim]).astype(jnp.float32)
    return ((first != first) & (first == first)).astype(jnp.uint32)


@_nought_of.def_vmap
def _(size: int, batched: list[bool], array: jax.Array) -> tuple[jax.Array, bool]:
    # One for all examples: otherwise each would decode the leaf for itself.
    del size, batched
    return _nought_of(array), False


def _finish(later: _Later) -> jax.Array:
    values = later.leaf.decode()
    for eqn in later.then:
        (values,) = jaxprs.bind(eqn, [values])
    return values


def _scanned(eqn: Any, values: list[Any], order: _Order) -> list[Any] | None:
    """A scan over leaves, with a layer of each decoded at a time.

    What is the same in every step, or carried, is decoded once, before the loop; but
    for stacks and tables of which the steps look up some indices.
    """
    scan = jaxprs.scan(eqn)
    if scan is None:
        return None
    first = scan.constants + scan.carries
    ready = [
        own if _is_table(scan, number) else _ready(own, order)
        for number, own in enumerate(values[:first])
    ]
    stacks = [_ready(own, order) if _is_odd(own) else own for own in values[first:]]
    xs = [own.leaf.layers() if isinstance(own, _Later) else own for own in stacks]

    def body(carries: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
        own = [_sliced(*pair) for pair in zip(stacks, slices, strict=True)]
        results = _evaluate(scan.body, [*ready[: scan.constants], *carries, *own])
        return results[: scan.carries], results[scan.carries :]

    carries, stacked = jax.lax.scan(
        body, ready[scan.constants :], xs, scan.length, scan.reverse
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
    return isinstance(stack, _Later) and not stack.only_converted


def _ready(value: Any, order: _Order) -> Any:
    return _decoded([value], order)[0]


def _sliced(stack: Any, layer: Any) -> Any:
    """What stands in the body of a scan for a slice of a stack."""
    if not isinstance(stack, _Later):
        return layer
    if isinstance(layer, CodedLeaf):
        return dataclasses.replace(stack, leaf=layer)
    values = layer.decode()
    for eqn in stack.then:
        (values,) = jaxprs.bind(eqn, [values])
    return values


# ---- lookups ------------------------------------------------------------------------


def _looked_up(eqn: Any, values: list[Any], order: _Order) -> list[Any] | None:
    """Rows of a leaf that an equation selects by the first axis, still coded.

    Returns:
        The result; None if the equation does something else, or reads so many rows that
        all of them are decoded sooner.
    """
    later = values[0]
    if not isinstance(later, _Later) or not later.only_converted:
        return None
    others = values[1:]
    if not later.leaf.has_rows or any(isinstance(own, _Later) for own in others):
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
    params: dict[str, Any], later: _Later, indices: jax.Array, order: _Order
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
    found = _ready(_Later(inner, later.then), order)
    if fills:
        fill = params["fill_value"]
        inside = (rows >= 0) & (rows < leaf.shape[0])
        inside = inside.reshape(*inside.shape, *[1] * (leaf.ndim - 1))
        found = jnp.where(inside, found, np.nan if fill is None else fill)
    return [found]


def _cut(params: dict[str, Any], later: _Later, start: jax.Array) -> list[Any] | None:
    count, *rest = params["slice_sizes"]
    length, *inner = later.leaf.shape
    if rest != inner or count >= length:
        return None
    first = jnp.clip(start, 0, length - count)
    rows = first + jnp.arange(count)
    return [_Later(later.leaf.at(rows), later.then)]


def _cut_here(params: dict[str, Any], later: _Later) -> list[Any] | None:
    (first, *lows), (end, *highs) = params["start_indices"], params["limit_indices"]
    inner = list(later.leaf.shape[1:])
    if any(lows) or highs != inner or end - first >= later.leaf.shape[0]:
        return None
    if any(step != 1 for step in params["strides"] or ()):
        return None
    return [_Later(later.leaf.at(np.arange(first, end)), later.then)]
