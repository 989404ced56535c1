"""What is known about an array of a jaxpr before it is computed."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from deepcomp_jax.calibration.views import Piece

# What treats every element alike. A leaf here is a bias, a scale, a mask or a gate.
_ELEMENTWISE = """
    add sub mul div max min neg sign abs exp exp2 log log1p expm1 tanh logistic sin cos
    tan asin acos atan atan2 sinh cosh sqrt rsqrt cbrt square pow integer_pow erf erfc
    erf_inv floor ceil round rem clamp select_n eq ne lt le gt ge and or not xor
    is_finite nextafter add_any real imag complex conj concatenate stack pad
    dynamic_update_slice broadcast_in_dim reshape squeeze transpose slice rev tile split
    unstack scatter gather
"""
# What gives the values that it takes, in another type, or on another device.
_SAME = """
    convert_element_type copy copy_p reduce_precision stop_gradient name
    sharding_constraint device_put optimization_barrier mesh_cast reshard pvary pcast
    layout_constraint
"""
# Indices are still indices of the same table after these.
_OF_INTEGERS = """
    add sub clamp select_n max min broadcast_in_dim reshape squeeze transpose slice
    dynamic_slice rev tile split concatenate stack unstack gather
"""
SAME = frozenset(_SAME.split())
ELEMENTWISE = SAME | frozenset(_ELEMENTWISE.split())
_OF_TABLES = SAME | frozenset(_OF_INTEGERS.split())
_FOLDED: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": lambda a, b: a / b if b else None,
    "neg": operator.neg,
    "lt": operator.lt,
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else None,
    "rsqrt": lambda a: 1 / math.sqrt(a) if a > 0 else None,
    "select_n": lambda which, *cases: cases[int(which)],
    "broadcast_in_dim": lambda a: a,
    "convert_element_type": lambda a: a,
}


class Value(NamedTuple):
    """What is known about an array before it is computed.

    Attributes:
        data: Whether it depends on the batch.
        leaves: The leaves that it depends on, a bit for each.
        pieces: The boxes of it that are views of leaves.
        lost: Leaves that it is made from in another way, each with the primitive after
            which it is no view any more.
        tables: The arrays of the batch whose integers it holds.
        number: The value of all elements, if they are equal and known.
    """

    data: bool = False
    leaves: int = 0
    pieces: tuple[Piece, ...] = ()
    lost: frozenset[tuple[int, str]] = frozenset()
    tables: frozenset[int] = frozenset()
    number: float | None = None


def constant(value: Any) -> Value:
    """What is known about a number in an equation, or an array beside it."""
    if np.ndim(value) or not jnp.issubdtype(jnp.result_type(value), jnp.number):
        return Value()
    number = complex(value)
    return Value(number=None if number.imag else number.real)


def joined(a: Value, b: Value, where: str) -> Value:
    """What is known about an array that is one of two."""
    if a == b:
        return a
    lost = a.lost | b.lost
    if a.pieces != b.pieces:
        lost |= {(piece.view.leaf, where) for piece in (*a.pieces, *b.pieces)}
    return Value(
        a.data or b.data,
        a.leaves | b.leaves,
        a.pieces if a.pieces == b.pieces else (),
        lost,
        a.tables | b.tables,
        a.number if a.number == b.number else None,
    )


def without_views(value: Value, where: str) -> Value:
    """The same array, made from its leaves in a way that is not followed."""
    lost = value.lost | {(piece.view.leaf, where) for piece in value.pieces}
    return value._replace(pieces=(), lost=lost)


def tables(name: str, variable: Any, operands: Sequence[Value]) -> frozenset[int]:
    """The arrays of the batch whose integers a result of an equation holds."""
    integers = jnp.issubdtype(getattr(variable.aval, "dtype", bool), jnp.integer)
    if not integers or name not in _OF_TABLES:
        return frozenset()
    found = frozenset[int]().union(*(operand.tables for operand in operands))
    shifted = name in ("add", "sub") and sum(o.data for o in operands) > 1
    return frozenset() if shifted else found


def number(name: str, variable: Any, operands: Sequence[Value]) -> float | None:
    """The value of all elements of a result, if it is known."""
    numbers = [operand.number for operand in operands]
    if name not in _FOLDED or None in numbers or not numbers:
        return None
    found = _FOLDED[name](*numbers)
    # Division of integers, and their conversion, cut what is behind the point.
    integer = jnp.issubdtype(variable.aval.dtype, jnp.integer)
    return int(found) if integer and found is not None else found
