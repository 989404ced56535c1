"""Which elements of two factors meet in a product, from flags alone."""

from typing import Any

import jax
import numpy as np

from deepcomp_jax.shrink.program import Op, bind

PRODUCTS = frozenset({"mul", "dot_general", "conv_general_dilated"})


def product(op: Op, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool: which elements of a result have a term of two flagged elements.

    Args:
        op: The product, one of `PRODUCTS`.
        a: bool, of the shape of its first factor.
        b: bool, of the shape of its second factor.
    """
    if op.name == "mul":
        return a & b
    if op.name == "dot_general":
        left, right = _as_matrices(op, a, b)
        return ((left @ right) > 0).reshape(_dot_shape(op, a.shape, b.shape))
    return np.asarray(_convolve(op, _numbers(a), _numbers(b))) > 0


def partners(
    op: Op, wanted: np.ndarray, a: np.ndarray, b: np.ndarray
) -> list[np.ndarray]:
    """bool: elements of each factor that meet a flagged one in a wanted result.

    Args:
        op: The product.
        wanted: bool, which elements of the result count.
        a: bool, which elements of the first factor count as partners of the second.
        b: The same the other way round.

    Returns:
        For the first factor those that meet a `b`, for the second one those that meet
        an `a`.
    """
    if op.name == "mul":
        return [folded(wanted & b, a.shape), folded(wanted & a, b.shape)]
    if op.name == "dot_general":
        return _dot_partners(op, wanted, a, b)
    if not wanted.any():
        return [np.zeros(a.shape, bool), np.zeros(b.shape, bool)]
    _, back = jax.vjp(lambda x, y: _convolve(op, x, y), _numbers(a), _numbers(b))
    return [np.asarray(x) > 0 for x in back(_numbers(wanted))]


def folded(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Flags of a result, for an operand of this shape that was broadcast to it."""
    inner = np.asarray(mask.any(axis=tuple(range(mask.ndim - len(shape)))))
    along = tuple(i for i, size in enumerate(shape) if size != inner.shape[i])
    return np.asarray(inner.any(axis=along, keepdims=True))


def _numbers(flags: np.ndarray) -> np.ndarray:
    return flags.astype(np.float32)


def _convolve(op: Op, a: Any, b: Any) -> jax.Array:
    params = {**op.params, "preferred_element_type": np.dtype(np.float32)}
    return bind(op._replace(params=params), [a, b])[0]


def _orders(op: Op, a: int, b: int) -> tuple[list[int], list[int], list[int]]:
    """The axes of both factors: batch, free, summed; batch, summed, free."""
    (sums, batches), ranks = op.params["dimension_numbers"], (a, b)
    free = [
        [i for i in range(ranks[side]) if i not in (*sums[side], *batches[side])]
        for side in (0, 1)
    ]
    left = [*batches[0], *free[0], *sums[0]]
    right = [*batches[1], *sums[1], *free[1]]
    return left, right, [len(batches[0]), len(sums[0]), len(free[0])]


def _as_matrices(op: Op, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 `[batch, free, summed]` and `[batch, summed, free]`."""
    left, right, (batches, sums, free) = _orders(op, a.ndim, b.ndim)
    x, y = a.transpose(left), b.transpose(right)
    batch = int(np.prod(x.shape[:batches]))
    rows = int(np.prod(x.shape[batches : batches + free]))
    inner = int(np.prod(y.shape[batches : batches + sums]))
    columns = int(np.prod(y.shape[batches + sums :]))
    return (
        x.reshape(batch, rows, inner).astype(np.float32),
        y.reshape(batch, inner, columns).astype(np.float32),
    )


def _dot_shape(op: Op, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    left, right, (batches, sums, free) = _orders(op, len(a), len(b))
    first = [a[i] for i in left[: batches + free]]
    return (*first, *(b[i] for i in right[batches + sums :]))


def _dot_partners(
    op: Op, wanted: np.ndarray, a: np.ndarray, b: np.ndarray
) -> list[np.ndarray]:
    left, right, _ = _orders(op, a.ndim, b.ndim)
    x, y = _as_matrices(op, a, b)
    result = wanted.reshape(x.shape[0], x.shape[1], y.shape[2]).astype(np.float32)
    first = (result @ y.transpose(0, 2, 1) > 0).reshape([a.shape[i] for i in left])
    second = (x.transpose(0, 2, 1) @ result > 0).reshape([b.shape[i] for i in right])
    return [first.transpose(np.argsort(left)), second.transpose(np.argsort(right))]
