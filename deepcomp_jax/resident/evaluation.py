"""Functions of coded leaves, which are decoded where a jaxpr reads them.

XLA may compute what depends on no input whenever it likes, all weights at once for
example. So what a leaf is decoded from is tied, by `jax.lax.optimization_barrier`, to
the other operands of the equation that reads it, and to the result of the equation
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
        found = _looked_up(eqn, values) or _scanned(eqn, values, order)
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
    arrays = {n: own for n, own in enumerate(values) if isinstance(own, jax.Array)}
    coded = {n: own.leaf for n, own in enumerate(values) if isinstance(own, _Later)}
    tied = jax.lax.optimization_barrier((coded, arrays, order.last))
    found = list(values)
    for number, array in tied[1].items():
        found[number] = array
    for number, leaf in tied[0].items():
        found[number] = _finish(dataclasses.replace(values[number], leaf=leaf))
    return found


def _finish(later: _Later) -> jax.Array:
    values = later.leaf.decode()
    for eqn in later.then:
        (values,) = jaxprs.bind(eqn, [values])
    return values


def _scanned(eqn: Any, values: list[Any], order: _Order) -> list[Any] | None:
    """A scan over leaves, with a layer of each decoded at a time.

    What is the same in every step, or carried, is decoded once, before the loop.
    """
    scan = jaxprs.scan(eqn)
    if scan is None:
        return None
    first = scan.constants + scan.carries
    ready = _decoded(values[:first], order)
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


def _looked_up(eqn: Any, values: list[Any]) -> list[Any] | None:
    """Rows of a leaf that an equation selects by the first axis, still coded.

    Returns:
        The result; None if the equation does something else, or reads so many rows that
        all of them are decoded sooner.
    """
    later = values[0]
    if not isinstance(later, _Later) or not later.only_converted:
        return None
    find = {"gather": _gathered, "dynamic_slice": _cut, "slice": _cut_here}
    finder = find.get(eqn.primitive.name)
    if finder is None or not later.leaf.has_rows:
        return None
    if any(isinstance(value, _Later) for value in values[1:]):
        return None
    return finder(eqn.params, later, values[1:])


def _gathered(
    params: dict[str, Any], later: _Later, others: list[Any]
) -> list[Any] | None:
    leaf, numbers = later.leaf, params["dimension_numbers"]
    (indices,) = others
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
    found = _finish(_Later(leaf.at(jnp.clip(rows, 0, leaf.shape[0] - 1)), later.then))
    if fills:
        fill = params["fill_value"]
        inside = (rows >= 0) & (rows < leaf.shape[0])
        inside = inside.reshape(*inside.shape, *[1] * (leaf.ndim - 1))
        found = jnp.where(inside, found, np.nan if fill is None else fill)
    return [found]


def _cut(params: dict[str, Any], later: _Later, others: list[Any]) -> list[Any] | None:
    count, *rest = params["slice_sizes"]
    length, *inner = later.leaf.shape
    if rest != inner or count >= length:
        return None
    first = jnp.clip(others[0], 0, length - count)
    rows = first + jnp.arange(count)
    return [_Later(later.leaf.at(rows), later.then)]


def _cut_here(
    params: dict[str, Any], later: _Later, others: list[Any]
) -> list[Any] | None:
    del others
    (first, *lows), (end, *highs) = params["start_indices"], params["limit_indices"]
    inner = list(later.leaf.shape[1:])
    if any(lows) or highs != inner or end - first >= later.leaf.shape[0]:
        return None
    if any(step != 1 for step in params["strides"] or ()):
        return None
    return [_Later(later.leaf.at(np.arange(first, end)), later.then)]
