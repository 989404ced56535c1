"""Single operations on arrays, in NumPy where that gives the same numbers.

A program is computed here an operation at a time, and JAX would compile nearly each of
them for its shapes. That takes longer than all the rest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from deepcomp_jax.shrink.moves import MOVES, move
from deepcomp_jax.shrink.program import Op, bind

# Each of these has one right result, since it is rounded once or not at all; but that
# XLA may take subnormal numbers for zero, which NumPy does not, so that a unit stays.
_EXACT: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "copy": np.asarray,
    "copy_p": np.asarray,
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "name": np.asarray,
    "ne": np.not_equal,
    "neg": np.negative,
    "square": np.square,
    "stop_gradient": np.asarray,
    "sub": np.subtract,
}
_KINDS = frozenset("biuf")  # of dtypes that NumPy itself computes with


def array(x: Any, dtype: Any) -> Any:
    """An array of JAX as it is, and one of NumPy of anything else."""
    return x if isinstance(x, jax.Array) else np.asarray(x, dtype)


def compute(op: Op, values: Sequence[Any]) -> list[Any]:
    """Computes an operation.

    Args:
        op: The operation.
        values: Its operands, arrays of JAX or NumPy.

    Returns:
        Its results, arrays of either.
    """
    if not values or any(_kind(x.dtype) not in _KINDS for x in values):
        return bind(op, values)
    arrays = [np.asarray(x) for x in values]
    if op.name in MOVES:
        return move(op, arrays)
    if op.name in _EXACT:
        with np.errstate(all="ignore"):
            return [np.asarray(_EXACT[op.name](*arrays))]
    if op.name == "select_n" and len(arrays) == 3:
        return [np.where(arrays[0].astype(bool), arrays[2], arrays[1])]
    if op.name == "convert_element_type":
        dtype = op.params["new_dtype"]
        # JAX says what becomes of numbers that do not fit, and NumPy does not.
        if _kind(dtype) == "f" or arrays[0].dtype == bool and _kind(dtype) in _KINDS:
            with np.errstate(all="ignore"):
                return [arrays[0].astype(dtype)]
    return bind(op, values)


def _kind(dtype: Any) -> str:
    """The letter of NumPy for a kind of dtype; "V" for those that it does not know."""
    return getattr(dtype, "kind", "V")
