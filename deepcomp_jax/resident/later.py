"""Values that are decoded later, one leaf after the other.

XLA may compute what depends on no input whenever it likes, all weights at once for
example, and its barriers are gone before it orders the work of a CPU. So the lanes of a
leaf begin in their states plus a zero that is computed from the result of the equation
that read a leaf before: there is one leaf at a time.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import jaxprs
from deepcomp_jax.resident.leaves import CodedLeaf


@dataclasses.dataclass(frozen=True)
class Later:
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


class Order:
    """What was computed last from a leaf, which the next leaf has to wait for."""

    def __init__(self) -> None:
        self.last: list[Any] = []


def decoded(values: Sequence[Any], order: Order) -> list[Any]:
    """Operands of an equation, with those decoded that are not there yet."""
    if not any(isinstance(value, Later) for value in values):
        return list(values)
    nought = _nought(order.last)
    return [
        followed(own.leaf.after(nought).decode(), own.then)
        if isinstance(own, Later)
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


def followed(values: jax.Array, equations: Sequence[Any]) -> jax.Array:
    """Values after some equations of one operand."""
    for eqn in equations:
        (values,) = jaxprs.bind(eqn, [values])
    return values


def ready(value: Any, order: Order) -> Any:
    """A value, decoded if it is not there yet."""
    return decoded([value], order)[0]
