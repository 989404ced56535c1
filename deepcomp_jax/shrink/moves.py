"""Operations that put elements elsewhere and change none, on flags and numbers.

They run in NumPy: an array that is moved once would be compiled for in JAX.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from deepcomp_jax.shrink.program import Op

Arrays: TypeAlias = Sequence[np.ndarray]


def move(op: Op, arrays: Arrays) -> list[np.ndarray]:
    """Computes an operation of `MOVES`.

    Args:
        op: The operation.
        arrays: Its operands, of any dtype that all of them share.
    """
    return _MOVES[op.name](op.params, arrays)


def sources(
    op: Op, wanted: Arrays, shapes: Sequence[tuple[int, ...]]
) -> list[np.ndarray]:
    """Where wanted elements of the results of a move come from.

    Args:
        op: The operation.
        wanted: bool of the shapes of the results.
        shapes: Those of the operands.

    Returns:
        bool of these shapes.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    starts = np.cumsum([0, *sizes])
    numbers = [
        np.arange(start, start + size).reshape(shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=False)
    ]
    found = np.zeros(starts[-1], bool)
    for moved, mask in zip(move(op, numbers), wanted, strict=True):
        found[moved[mask]] = True
    parts = np.split(found, starts[1:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _broadcast(params: dict[str, Any], arrays: Arrays) -> list[np.ndarray]:
    shape = [1] * len(params["shape"])
    for axis, size in zip(params["broadcast_dimensions"], arrays[0].shape, strict=True):
        shape[axis] = size
    return [np.broadcast_to(arrays[0].reshape(shape), params["shape"])]


def _pad(params: dict[str, Any], arrays: Arrays) -> list[np.ndarray]:
    array, value = arrays
    config = [tuple(int(n) for n in own) for own in params["padding_config"]]
    for axis, (_, _, inner) in enumerate(config):
        if inner and array.shape[axis] > 1:
            shape = list(array.shape)
            shape[axis] = (shape[axis] - 1) * (inner + 1) + 1
            spread = np.full(shape, value, array.dtype)
            np.moveaxis(spread, axis, 0)[:: inner + 1] = np.moveaxis(array, axis, 0)
            array = spread
    ends = [(max(low, 0), max(high, 0)) for low, high, _ in config]
    array = np.pad(array, ends, constant_values=value)
    inside = [
        slice(max(-low, 0), size - max(-high, 0))
        for size, (low, high, _) in zip(array.shape, config, strict=True)
    ]
    return [array[tuple(inside)]]


def _slice(params: dict[str, Any], arrays: Arrays) -> list[np.ndarray]:
    starts, ends = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(starts)
    return [arrays[0][tuple(map(slice, starts, ends, steps))]]


def _split(params: dict[str, Any], arrays: Arrays) -> list[np.ndarray]:
    places = np.cumsum(params["sizes"])[:-1]
    return np.split(arrays[0], places, params["axis"])


def _unstack(params: dict[str, Any], arrays: Arrays) -> list[np.ndarray]:
    return list(np.moveaxis(arrays[0], params["axis"], 0))


_MOVES: dict[str, Callable[[dict[str, Any], Arrays], list[np.ndarray]]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda params, arrays: [np.concatenate(arrays, params["dimension"])],
    "expand_dims": lambda params, arrays: [
        np.expand_dims(arrays[0], params["dimensions"])
    ],
    "pad": _pad,
    "reshape": lambda params, arrays: [arrays[0].reshape(params["new_sizes"])],
    "rev": lambda params, arrays: [np.flip(arrays[0], params["dimensions"])],
    "slice": _slice,
    "split": _split,
    "squeeze": lambda params, arrays: [np.squeeze(arrays[0], params["dimensions"])],
    "stack": lambda params, arrays: [np.stack(arrays, params["axis"])],
    "transpose": lambda params, arrays: [
        np.transpose(arrays[0], params["permutation"])
    ],
    "unstack": _unstack,
}
# These put elements elsewhere, once or several times, and change none.
MOVES = frozenset(_MOVES)
