"""Where the values of each array in a jaxpr come from, by a rule for each primitive.

Rules that are not here mean that a leaf is lost: what comes out is made from it in a
way that this module does not know, and that is said, never guessed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from deepcomp_jax.calibration import values, views
from deepcomp_jax.calibration.values import SAME, Value
from deepcomp_jax.calibration.views import BROADCAST, Factor, Piece, Step
from deepcomp_jax.jaxprs import Path

Pieces = Sequence[Piece | int]  # an integer is a leaf of which no view is left


def applied(path: Path, eqn: Any, operands: Sequence[Value]) -> list[Value]:
    """What is known about the results of an equation that holds no jaxpr."""
    name = eqn.primitive.name
    data = any(operand.data for operand in operands)
    leaves = 0
    for operand in operands:
        leaves |= operand.leaves
    lost = frozenset[tuple[int, str]]().union(*(operand.lost for operand in operands))
    made = _pieces(path, eqn, operands)
    results = []
    for variable, pieces in zip(eqn.outvars, made, strict=True):
        kept = tuple(piece for piece in pieces if isinstance(piece, Piece))
        gone = {(piece, name) for piece in pieces if isinstance(piece, int)}
        tables = values.tables(name, variable, operands)
        number = values.number(name, variable, operands)
        known = Value(data, leaves, kept, lost | gone, tables, number)
        # Of what is computed from data nothing can be lost any more.
        results.append(known._replace(lost=frozenset()) if data else known)
    return results


def _pieces(path: Path, eqn: Any, operands: Sequence[Value]) -> list[Pieces]:
    """For each result of an equation the views of leaves that it holds."""
    name = eqn.primitive.name
    count = len(eqn.outvars)
    if not any(operand.pieces for operand in operands):
        return [()] * count
    if name in SAME:
        if name == "convert_element_type" and not _keeps_values(eqn):
            return [_all_lost(operands)]
        return [operand.pieces for operand in operands[:count]]
    if name == "dynamic_slice":
        return [_dynamic_slice(path, eqn, operands)]
    if name in _OF_ONE:
        return _OF_ONE[name](eqn, operands[0].pieces)
    if name in _OF_MANY and not any(operand.data for operand in operands):
        return [_OF_MANY[name](eqn, operands)]
    return [_all_lost(operands)] * count


def _all_lost(operands: Sequence[Value]) -> list[int]:
    return [piece.view.leaf for operand in operands for piece in operand.pieces]


def _keeps_values(eqn: Any) -> bool:
    return jnp.issubdtype(eqn.params["new_dtype"], jnp.floating)


def _shape(eqn: Any, operand: int = 0) -> tuple[int, ...]:
    return eqn.invars[operand].aval.shape


def _each(
    pieces: Sequence[Piece], change: Callable[[Piece], Piece | None | bool]
) -> list[Piece | int]:
    """Changes each piece; None leaves it out, False says that its leaf is lost."""
    made: list[Piece | int] = []
    for piece in pieces:
        new = change(piece)
        if new is False:
            made.append(piece.view.leaf)
        elif isinstance(new, Piece):
            made.append(new)
    return made


def _transpose(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    order = eqn.params["permutation"]
    return [[views.arranged(piece, order) for piece in pieces]]


def _reshape(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    old, new = _shape(eqn), eqn.outvars[0].aval.shape
    return [_each(pieces, lambda piece: views.reshaped(piece, old, new) or False)]


def _broadcast(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    shape, axes = eqn.outvars[0].aval.shape, eqn.params["broadcast_dimensions"]
    return [[views.broadcast(piece, shape, axes) for piece in pieces]]


def _tile(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    shape, reps = _shape(eqn), eqn.params["reps"]

    def tiled(piece: Piece) -> Piece | bool:
        whole = (views.is_full(piece, a, shape) or n == 1 for a, n in enumerate(reps))
        if not all(whole):
            return False
        axes = tuple(
            factors if n == 1 else (Factor(BROADCAST, n, 1), *factors)
            for n, factors in zip(reps, piece.view.axes, strict=True)
        )
        return piece._replace(view=piece.view._replace(axes=axes))

    return [_each(pieces, tiled)]


def box(
    piece: Piece, starts: Sequence[int], stops: Sequence[int], strides: Sequence[int]
) -> Piece | None | bool:
    """What a slice along all axes leaves of a piece; see `views.sliced`."""
    for axis, bounds in enumerate(zip(starts, stops, strides, strict=True)):
        cut = views.sliced(piece, axis, *bounds)
        if not isinstance(cut, Piece):
            return cut
        piece = cut
    return piece


def _slice(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    starts, stops = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    return [_each(pieces, lambda piece: box(piece, starts, stops, strides))]


def _split(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    axis, begin, made = eqn.params["axis"], 0, []
    for length in map(int, eqn.params["sizes"]):
        cut = [views.sliced(p, axis, begin, begin + length, 1) for p in pieces]
        pairs = dict(zip(pieces, cut, strict=True))
        made.append(_each(pieces, pairs.__getitem__))
        begin += length
    return made


def _unstack(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    axis = eqn.params["axis"]
    others = [a for a in range(len(_shape(eqn))) if a != axis]

    def taken(piece: Piece, position: int) -> Piece | None | bool:
        cut = views.sliced(piece, axis, position, position + 1, 1)
        return views.arranged(cut, others) if isinstance(cut, Piece) else cut

    count = len(eqn.outvars)
    return [_each(pieces, lambda p, i=i: taken(p, i)) for i in range(count)]


def _rev(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    for axis in eqn.params["dimensions"]:
        pieces = [views.reversed_(piece, axis, _shape(eqn)) for piece in pieces]
    return [pieces]


def _neg(eqn: Any, pieces: Sequence[Piece]) -> list[Pieces]:
    return [[views.scaled(piece, -1.0) for piece in pieces]]


_OF_ONE: dict[str, Callable[[Any, Sequence[Piece]], list[Pieces]]] = {
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _reshape,
    "broadcast_in_dim": _broadcast,
    "tile": _tile,
    "slice": _slice,
    "split": _split,
    "unstack": _unstack,
    "rev": _rev,
    "neg": _neg,
}


def _dynamic_slice(path: Path, eqn: Any, operands: Sequence[Value]) -> Pieces:
    """One value of an axis by a traced index, or a slice by known ones."""
    shape, lengths = _shape(eqn), eqn.params["slice_sizes"]

    def taken(piece: Piece) -> Piece | None | bool:
        for axis, length in enumerate(lengths):
            begin = operands[1 + axis].number
            if length == shape[axis]:
                continue
            if begin is not None:
                first = min(max(int(begin), 0), shape[axis] - length)
                cut = views.sliced(piece, axis, first, first + length, 1)
            elif length == 1 and views.is_full(piece, axis, shape):
                step = Step(path, 1 + axis, piece.view.axes[axis])
                cut = _stepped(piece, axis, step)
            else:
                return False
            if not isinstance(cut, Piece):
                return cut
            piece = cut
        return piece

    return _each(operands[0].pieces, taken)


def _stepped(piece: Piece, axis: int, step: Step) -> Piece:
    """A piece of which one value along an axis is taken, at each step another."""
    axes = list(piece.view.axes)
    axes[axis] = ()
    steps = piece.view.steps
    if any(factor.axis != BROADCAST for factor in step.factors):
        steps = (*steps, step)
    return piece._replace(view=piece.view._replace(axes=tuple(axes), steps=steps))


def scanned(value: Value, path: Path, length: int) -> Value:
    """A slice of what a `scan` at a path goes over."""
    pieces, lost = [], value.lost
    for piece in value.pieces:
        if views.size(piece.view.axes[0]) == length:
            taken = _stepped(piece, 0, Step(path, 0, piece.view.axes[0]))
            pieces.append(views.arranged(taken, range(1, len(piece.start))))
        else:
            lost |= {(piece.view.leaf, "scan")}
    return value._replace(pieces=tuple(pieces), lost=lost, number=None)


def _concatenate(eqn: Any, operands: Sequence[Value]) -> Pieces:
    axis, begin, made = eqn.params["dimension"], 0, []
    for position, operand in enumerate(operands):
        made += [views.moved(piece, axis, begin) for piece in operand.pieces]
        begin += _shape(eqn, position)[axis]
    return made


def _stack(eqn: Any, operands: Sequence[Value]) -> Pieces:
    axis, made = eqn.params["axis"], []
    for position, operand in enumerate(operands):
        order: list[int | None] = list(range(len(_shape(eqn, position))))
        order.insert(axis, None)
        for piece in operand.pieces:
            made.append(views.moved(views.arranged(piece, order), axis, position))
    return made


def _times(eqn: Any, operands: Sequence[Value]) -> Pieces:
    a, b = operands
    inverse = eqn.primitive.name == "div"
    if a.pieces and b.number and not b.pieces:
        scale = 1 / b.number if inverse else b.number
        return [views.scaled(piece, scale) for piece in a.pieces]
    if b.pieces and a.number and not a.pieces and not inverse:
        return [views.scaled(piece, a.number) for piece in b.pieces]
    return _all_lost(operands)


def _plus(eqn: Any, operands: Sequence[Value]) -> Pieces:
    """A sum is followed in each of its terms, since its derivative is theirs."""
    shape = eqn.outvars[0].aval.shape
    signs = (1.0, -1.0 if eqn.primitive.name == "sub" else 1.0)
    made: list[Piece | int] = []
    for position, (operand, sign) in enumerate(zip(operands, signs, strict=True)):
        same = _shape(eqn, position) == shape
        for piece in operand.pieces:
            made.append(views.scaled(piece, sign) if same else piece.view.leaf)
    return made


_OF_MANY: dict[str, Callable[[Any, Sequence[Value]], Pieces]] = {
    "concatenate": _concatenate,
    "stack": _stack,
    "mul": _times,
    "div": _times,
    "add": _plus,
    "sub": _plus,
    "add_any": _plus,
}
