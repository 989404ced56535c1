"""What of a program depends on the data, and what its results depend on.

Both are told of each element. Forwards, an element is *varying* if some data could
change it; a factor that is exactly zero whatever the data stops that, so that no
pattern of layers has to be known. Backwards, an element is *needed* if a result could
depend on it. Values are taken to be finite.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from deepcomp_jax.shrink.arithmetic import array, compute
from deepcomp_jax.shrink.moves import MOVES, move, sources
from deepcomp_jax.shrink.primitives import ELEMENTWISE, mixed
from deepcomp_jax.shrink.products import PRODUCTS, folded, partners, product
from deepcomp_jax.shrink.program import Op, Program, bind


class Facts(NamedTuple):
    """What was found of every value, by its number.

    Attributes:
        values: The values for one example.
        varying: bool, of the same shapes: which elements depend on the data.
    """

    values: list[Any]
    varying: list[np.ndarray]

    def live(self, value: int) -> np.ndarray:
        """bool: which elements are not known to be zero."""
        return self.varying[value] | is_nonzero(self.values[value])

    def fixed(self, value: int) -> Any:
        """The value with zeros where it depends on the data."""
        x = np.asarray(self.values[value])
        return np.where(self.varying[value], np.zeros_like(x), x)


def is_nonzero(x: Any) -> np.ndarray:
    """bool: which elements are not zero; all, of what is not a number."""
    if not jnp.issubdtype(x.dtype, jnp.number) and x.dtype != bool:
        return np.ones(x.shape, bool)
    return np.asarray(x) != 0


def forward(program: Program, params: Sequence[Any], data: Sequence[Any]) -> Facts:
    """Computes all values, and which elements of them depend on the data.

    Args:
        program: The function.
        params: The leaves of the parameters.
        data: The leaves of an example, as varied as those that are to come.
    """
    size = len(program.avals)
    dtypes = [aval.dtype for aval in program.avals]
    facts = Facts([None] * size, [np.zeros(0, bool)] * size)

    def note(value: int, x: Any, varying: np.ndarray) -> None:
        facts.values[value] = x
        if jnp.issubdtype(x.dtype, jnp.inexact):
            varying = varying | ~np.isfinite(np.asarray(x))
        facts.varying[value] = varying

    for value, x in zip(program.leaves, params, strict=True):
        note(value, array(x, dtypes[value]), np.zeros(np.shape(x), bool))
    for value, x in zip(program.data, data, strict=True):
        note(value, array(x, dtypes[value]), np.ones(np.shape(x), bool))
    for value, x in program.constants.items():
        note(value, array(x, dtypes[value]), np.zeros(np.shape(x), bool))
    for op in program.ops:
        results = compute(op, [facts.values[value] for value in op.inputs])
        shapes = [tuple(x.shape) for x in results]
        masks = _varying(op, facts, shapes)
        for value, x, mask in zip(op.outputs, results, masks, strict=True):
            note(value, x, mask)
    return facts


def _varying(
    op: Op, facts: Facts, shapes: Sequence[tuple[int, ...]]
) -> list[np.ndarray]:
    """Which elements of the results depend on the data."""
    masks = [facts.varying[value] for value in op.inputs]
    if not any(mask.any() for mask in masks):
        return [np.zeros(shape, bool) for shape in shapes]
    if op.name in PRODUCTS:
        a, b = op.inputs
        left = product(op, masks[0], facts.live(b))
        return [left | product(op, facts.live(a), masks[1])]
    if op.name == "select_n" and not masks[0].any():
        return [_chosen(facts.values[op.inputs[0]], masks[1:], shapes[0])]
    if op.name in ELEMENTWISE:
        return [_any(masks, shapes[0])]
    if op.name in MOVES:
        return move(op, masks)
    if op.name == "gather":
        return [_gathered(op, facts)]
    if (found := mixed(op)) is not None:
        along, dropped = found
        spread = masks[0].any(axis=along, keepdims=not dropped)
        return [np.array(np.broadcast_to(spread, shapes[0]))]
    return [np.ones(shape, bool) for shape in shapes]


def _any(masks: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape, bool)
    for mask in masks:
        found |= mask
    return found


def _chosen(
    choice: Any, masks: Sequence[np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """The masks of what a known predicate selects."""
    places = np.broadcast_to(np.asarray(choice).astype(int), shape)
    return np.choose(places, [np.broadcast_to(mask, shape) for mask in masks])


def _gathered(op: Op, facts: Facts) -> np.ndarray:
    """A row that depends on the data varies where the rows of its table differ."""
    table, places = op.inputs
    mask = facts.varying[table]
    if facts.varying[places].any():
        x = np.asarray(facts.values[table])
        looked_up = op.params["dimension_numbers"].start_index_map
        first = x[
            tuple(slice(1) if i in looked_up else slice(None) for i in range(x.ndim))
        ]
        differs = np.asarray(x != first).any(axis=tuple(looked_up), keepdims=True)
        mask = mask | differs
    params = {**op.params, "fill_value": 1.0}  # what no row gives may be anything
    flags = mask.astype(np.float32)
    inner = op._replace(params=params)
    return np.asarray(bind(inner, [flags, facts.values[places]])[0]) != 0


# ---- backwards ----------------------------------------------------------------------


def backward(
    program: Program, facts: Facts, removed: Callable[[int], np.ndarray | None]
) -> list[np.ndarray]:
    """Which elements of every value a result could depend on.

    Args:
        program: The function.
        facts: What `forward` found.
        removed: Gives, for a value, which of its elements are cut; None if none are.
    """
    needed = [np.zeros(np.shape(mask), bool) for mask in facts.varying]
    for value in program.outputs:
        needed[value][...] = True
    for op in reversed(program.ops):
        for value in op.outputs:
            gone = removed(value)
            if gone is not None:
                needed[value] &= ~gone
        wanted = [needed[value] for value in op.outputs]
        if not any(mask.any() for mask in wanted):
            continue
        masks = _needed(op, facts, wanted)
        for value, mask in zip(op.inputs, masks, strict=True):
            needed[value] |= mask
    return needed


def _needed(op: Op, facts: Facts, wanted: list[np.ndarray]) -> list[np.ndarray]:
    """Which elements of the operands the wanted elements of the results depend on."""
    shapes = [facts.varying[value].shape for value in op.inputs]
    if op.name in PRODUCTS:
        return _needed_factors(op, facts, wanted[0])
    if op.name in ELEMENTWISE:
        return [folded(wanted[0], shape) for shape in shapes]
    if op.name in MOVES:
        return sources(op, wanted, shapes)
    if shapes and (found := mixed(op)) is not None:
        along, dropped = found
        spread = np.expand_dims(wanted[0], along) if dropped else wanted[0]
        spread = spread.any(axis=along, keepdims=True)
        return [np.array(np.broadcast_to(spread, shapes[0]))]
    return [np.ones(shape, bool) for shape in shapes]


def _needed_factors(op: Op, facts: Facts, wanted: np.ndarray) -> list[np.ndarray]:
    """A factor is needed where the other one may not be zero.

    Where both are zero, one at least must stay zero: the one that depends on no data,
    or both.
    """
    a, b = op.inputs
    found = partners(op, wanted, facts.live(a), facts.live(b))
    alone = [not facts.varying[value].any() for value in (a, b)]
    keepers = (
        [0] if alone == [True, False] else [1] if alone == [False, True] else [0, 1]
    )
    for side in keepers:
        value = (a, b)[side]
        zero = ~facts.live(value)
        if zero.any():
            ones = [np.ones(facts.varying[v].shape, bool) for v in (a, b)]
            found[side] = found[side] | (zero & partners(op, wanted, *ones)[side])
    return found
