"""Products of a leaf with data: which of its axes they contract, and how.

Matrix products, convolutions and look-ups are brought to one form: axes of the weights
are those of a batch, those that are contracted, or those that are left in the result.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from deepcomp_jax.calibration import views
from deepcomp_jax.calibration.views import BROADCAST, Factor, Factors, Piece, Step


class Key(NamedTuple):
    """What two sums must have in common to be one sum.

    Attributes:
        kind: "product" or "table".
        leaf: The position of the leaf.
        offset: For each axis of the leaf the index where all factors begin.
        scans: The loops that go over the leaf; sums have an axis for each.
        steps: Traced indices into the leaf; sums have an axis for each, after those.
        batch: Factors of the leaf along which there are separate products.
        inputs: Factors that are contracted, or looked up.
        outputs: Factors that are left in the result.
    """

    kind: str
    leaf: int
    offset: tuple[int, ...]
    scans: tuple[Step, ...]
    steps: tuple[Step, ...]
    batch: Factors
    inputs: Factors
    outputs: Factors


class Roles(NamedTuple):
    """What the axes of a leaf are in a product, each list in the order of the leaf.

    Attributes:
        batch: Axes along which there are separate products.
        inputs: Axes that are contracted, or looked up.
        outputs: All others.
        spread: Of `batch`, those that are in part outputs, as in a grouped convolution:
            each of their indices is taken for a product of its own.
    """

    batch: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    spread: tuple[int, ...]


class Tap(NamedTuple):
    """A product whose operands are to be summed up.

    Attributes:
        key: The sums that it adds to.
        operand: Which operand the weights are.
        starts: Where the box of the leaf begins along the axes of the weights that are
            the batch, the inputs and the outputs.
        axes: The factors along these axes.
        scale: What the leaf is multiplied by first.
        diagonal: Whether only the diagonals are summed, of inputs and of outputs.
    """

    key: Key
    operand: int
    starts: tuple[tuple[int, ...], ...]
    axes: tuple[tuple[Factors, ...], ...]
    scale: float
    diagonal: tuple[bool, bool]


def roles(key: Key, shape: Sequence[int]) -> Roles | None:
    """What each axis of a leaf is; None if one is contracted in part and in part not.

    Args:
        key: A product with the leaf.
        shape: The shape of the leaf.
    """
    looped = tuple(f for step in (*key.scans, *key.steps) for f in step.factors)
    batch = {factor.axis for factor in (*looped, *key.batch)}
    inputs = {factor.axis for factor in key.inputs}
    outputs = {factor.axis for factor in key.outputs}
    if inputs & outputs - {BROADCAST}:
        return None
    # An axis of which one index is used is that of layers written one by one.
    outputs |= {axis for axis, n in enumerate(shape) if n == 1} - batch - inputs
    batch |= set(range(len(shape))) - inputs - outputs
    axes = range(len(shape))
    return Roles(
        tuple(a for a in axes if a in batch - inputs),
        tuple(a for a in axes if a in inputs),
        tuple(a for a in axes if a in outputs - batch),
        tuple(a for a in axes if a in batch & outputs),
    )


def diagonals(
    kind: str, found: Roles, shape: Sequence[int], max_gram: int
) -> tuple[bool, bool]:
    """Whether only diagonals are kept, of inputs and of outputs."""
    n = math.prod(shape[axis] for axis in found.inputs)
    m = math.prod(shape[axis] for axis in found.outputs)
    spread = math.prod(shape[axis] for axis in found.spread)
    too_many = n > max_gram or spread * n * n > max_gram**2
    return kind == "table" or too_many, m > max_gram or bool(found.spread)


def dot_axes(eqn: Any, operand: int) -> tuple[list[int], list[int], list[int]]:
    """The axes of an operand of a `dot_general`: batch, contracted and free ones."""
    contracted, batch = eqn.params["dimension_numbers"]
    inputs, outer = list(contracted[operand]), list(batch[operand])
    rank = len(eqn.invars[operand].aval.shape)
    return outer, inputs, [a for a in range(rank) if a not in {*inputs, *outer}]


def table_axes(eqn: Any) -> tuple[list[int], list[int]] | None:
    """The axes that a `gather` looks up, in the order of an index, and the others.

    Returns:
        None if it takes more of an axis than one value but not all.
    """
    numbers = eqn.params["dimension_numbers"]
    shape, taken = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
    looked_up = list(numbers.start_index_map)
    others = [axis for axis in range(len(shape)) if axis not in looked_up]
    simple = sorted(looked_up) == list(numbers.collapsed_slice_dims)
    whole = all(taken[axis] == shape[axis] for axis in others)
    batched = getattr(numbers, "operand_batching_dims", ())
    return (looked_up, others) if simple and whole and not batched else None


def of_dot(eqn: Any, operand: int, piece: Piece) -> list[list[tuple[int, Factors]]]:
    """The axes of a piece of the weights in a product: batch, inputs and outputs.

    Returns:
        For each axis where the piece begins and its factors.
    """
    axes = dot_axes(eqn, operand)
    return [[(piece.start[a], piece.view.axes[a]) for a in group] for group in axes]


def of_table(eqn: Any, piece: Piece) -> list[list[tuple[int, Factors]]] | None:
    """The axes of a piece of a table; see `of_dot`."""
    axes = table_axes(eqn)
    if axes is None:
        return None
    groups = ([], *axes)
    return [[(piece.start[a], piece.view.axes[a]) for a in group] for group in groups]


def of_convolution(eqn: Any, piece: Piece) -> list[list[tuple[int, Factors]]] | None:
    """The axes of a piece of a kernel; see `of_dot`.

    Groups are a batch: the axis of the outputs is split into groups and what is in one.
    Inputs are the axes of the window, then that of the channels.
    """
    out, channels, *window = eqn.params["dimension_numbers"].rhs_spec
    groups = eqn.params["feature_group_count"]
    shape = eqn.invars[1].aval.shape
    if eqn.params["batch_group_count"] != 1:
        return None
    inputs = [(piece.start[a], piece.view.axes[a]) for a in (*window, channels)]
    if groups == 1:
        return [[(0, ())], inputs, [(piece.start[out], piece.view.axes[out])]]
    split = views.split_axis(piece.view, out, groups)
    if split is None or not views.is_full(piece, out, shape):
        return None
    return [[(0, split.axes[out])], inputs, [(0, split.axes[out + 1])]]


def tap(
    kind: str,
    operand: int,
    piece: Piece,
    axes: list[list[tuple[int, Factors]]],
    shape: Sequence[int],
    max_gram: int,
) -> Tap | None:
    """The sums for a piece of the weights; None if they cannot be those of a leaf.

    Args:
        kind: "product" or "table".
        operand: Which operand the weights are.
        piece: The part of the leaf.
        axes: Its axes that are the batch, the inputs and the outputs.
        shape: The shape of the leaf.
        max_gram: Of more inputs, or outputs, only the diagonal is summed.
    """
    view = piece.view
    factors = tuple(tuple(f for _, f in group) for group in axes)
    key = Key(
        kind,
        view.leaf,
        view.offset,
        tuple(step for step in view.steps if step.operand == 0),
        tuple(step for step in view.steps if step.operand > 0),
        *(_flat(group) for group in factors),
    )
    found = roles(key, shape)
    if found is None:
        return None
    starts = tuple(tuple(start for start, _ in group) for group in axes)
    diagonal = diagonals(kind, found, shape, max_gram)
    return Tap(key, operand, starts, factors, view.scale, diagonal)


def _flat(axes: Sequence[Factors]) -> Factors:
    """The factors of several axes, without those that do not move in the leaf."""
    return tuple(f for factors in axes for f in factors if f.axis != BROADCAST)


def count(factors: Sequence[Factor]) -> int:
    """The number of values that some factors reach."""
    return math.prod(factor.size for factor in factors)
