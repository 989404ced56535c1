"""What a jaxpr does with the leaves of a network, found without computing anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deepcomp_jax import jaxprs
from deepcomp_jax.calibration import products, provenance, values, views
from deepcomp_jax.calibration.products import Tap
from deepcomp_jax.calibration.values import Value
from deepcomp_jax.jaxprs import Body, Path

_PRODUCTS = ("dot_general", "conv_general_dilated")


class Note(NamedTuple):
    """A use of a leaf that is not followed.

    Attributes:
        leaf: The position of the leaf.
        why: The primitives that it went through.
    """

    leaf: int
    why: str


@dataclass
class Analysis:
    """What was found in a jaxpr.

    Attributes:
        shapes: The shapes of the leaves.
        max_gram: Of more inputs or outputs only the diagonal is summed.
        taps: For the path of each product the sums that belong to it.
        notes: Uses that are not followed, in order, each once.
        tables: For arrays of the batch the least length of the tables they index.
        used: The leaves that results depend on, a bit for each.
    """

    shapes: Sequence[tuple[int, ...]]
    max_gram: int
    taps: dict[Path, list[Tap]] = field(default_factory=dict)
    notes: dict[Note, None] = field(default_factory=dict)
    tables: dict[int, int] = field(default_factory=dict)
    used: int = 0

    def entered(self) -> set[Path]:
        """The paths of equations within which there are taps, or indices of theirs."""
        taps = [tap for group in self.taps.values() for tap in group]
        inner = [*self.taps, *(s.path for tap in taps for s in tap.key.steps)]
        return {path[:length] for path in inner for length in range(1, len(path))}

    def indexed(self) -> set[Path]:
        """The paths of equations whose indices say where sums belong."""
        taps = [tap for group in self.taps.values() for tap in group]
        return {step.path for tap in taps for step in tap.key.steps}


def analyze(
    body: Body,
    shapes: Sequence[tuple[int, ...]],
    followed: Sequence[bool],
    integers: Sequence[bool],
    max_gram: int,
) -> Analysis:
    """Finds all products of leaves with data in a jaxpr.

    Args:
        body: Its operands are the leaves, then the arrays of the batch.
        shapes: The shapes of the leaves.
        followed: Whether each leaf is of a floating type, and not empty.
        integers: For each array of the batch whether it holds integers.
        max_gram: Of more inputs, or outputs, only the diagonal is summed.
    """
    found = Analysis(shapes, max_gram)
    operands = [
        Value(leaves=1 << i, pieces=(views.of_leaf(i, shape),) if follow else ())
        for i, (shape, follow) in enumerate(zip(shapes, followed, strict=True))
    ]
    operands += [
        Value(data=True, tables=frozenset({i} if integer else ()))
        for i, integer in enumerate(integers)
    ]
    for result in _walked(found, body, operands, ()):
        found.used |= result.leaves
    return found


def _walked(
    found: Analysis, body: Body, operands: Sequence[Value], path: Path
) -> list[Value]:
    def rule(position: int, eqn: Any, operands: list[Value]) -> list[Value]:
        here = (*path, position)
        for what in (_call, _scan, _cond, _while):
            results = what(found, eqn, operands, here)
            if results is not None:
                return results
        if eqn.primitive.name in _PRODUCTS:
            return _product(found, eqn, operands, here)
        if eqn.primitive.name == "gather":
            return _gather(found, eqn, operands, here)
        if eqn.primitive.name == "eq":
            _compare(found, eqn, operands)
        _note_unknown(found, eqn, operands)
        return provenance.applied(here, eqn, operands)

    return jaxprs.walk(body, operands, rule, values.constant)


def _call(
    found: Analysis, eqn: Any, operands: list[Value], here: Path
) -> list[Value] | None:
    inner = jaxprs.called(eqn)
    if inner is None:
        return None
    results = _walked(found, inner, operands, here)
    if eqn.primitive.name in jaxprs.REMATS:
        results = [_left(result, here, eqn.primitive.name) for result in results]
    return results


def _left(value: Value, here: Path, name: str) -> Value:
    """What is known outside of a loop or branch, where its indices are not known."""
    steps = (step for piece in value.pieces for step in piece.view.steps)
    if any(step.path[: len(here)] == here for step in steps):
        return values.without_views(value, name)
    return value


def _fixed(
    carries: Sequence[Value], step: Callable[[Sequence[Value]], list[Value]], name: str
) -> list[Value]:
    """Carries that hold in every step of a loop: what is known can only grow less."""
    known = list(carries)
    while True:
        after = step(known)[: len(known)]
        both = [values.joined(*pair, name) for pair in zip(known, after, strict=True)]
        if both == known:
            return known
        known = both


def _scan(
    found: Analysis, eqn: Any, operands: list[Value], here: Path
) -> list[Value] | None:
    loop = jaxprs.scan(eqn)
    if loop is None:
        return None
    split = loop.constants + loop.carries
    same = operands[: loop.constants]
    slices = [provenance.scanned(v, here, loop.length) for v in operands[split:]]

    def step(carries: Sequence[Value], into: Analysis | None = None) -> list[Value]:
        # Notes and sums of a step whose carries are not known yet are thrown away.
        into = into or Analysis(found.shapes, found.max_gram)
        results = _walked(into, loop.body, [*same, *carries, *slices], here)
        return [_left(result, here, "scan") for result in results]

    carries = _fixed(operands[loop.constants : split], step, "scan")
    results = step(carries, found)
    stacked = [values.without_views(v, "scan") for v in results[loop.carries :]]
    return [*carries, *(v._replace(number=None) for v in stacked)]


def _cond(
    found: Analysis, eqn: Any, operands: list[Value], here: Path
) -> list[Value] | None:
    branches = jaxprs.branches(eqn)
    if branches is None:
        return None
    results: list[Value] | None = None
    for which, branch in enumerate(branches):
        inner = (*here, which)
        after = [
            _left(result, inner, "cond")
            for result in _walked(found, branch, operands[1:], inner)
        ]
        pairs = zip(results or after, after, strict=True)
        results = [values.joined(*pair, "cond") for pair in pairs]
    index = operands[0]
    return [
        v._replace(data=v.data or index.data, leaves=v.leaves | index.leaves)
        for v in results or ()
    ]


def _while(
    found: Analysis, eqn: Any, operands: list[Value], here: Path
) -> list[Value] | None:
    loop = jaxprs.while_loop(eqn)
    if loop is None:
        return None
    first = loop.condition_constants
    split = first + loop.body_constants
    inside = Analysis(found.shapes, found.max_gram)

    def step(carries: Sequence[Value], into: Analysis | None = None) -> list[Value]:
        into = into or Analysis(found.shapes, found.max_gram)
        results = _walked(
            into, loop.body, [*operands[first:split], *carries], (*here, 0)
        )
        return [_left(result, here, "while") for result in results]

    carries = _fixed(operands[split:], step, "while")
    step(carries, inside)
    condition = [*operands[:first], *carries]
    (goes_on,) = _walked(inside, loop.condition, condition, (*here, 1))
    for note in inside.notes:
        found.notes[note] = None
    for tap in (tap for group in inside.taps.values() for tap in group):
        found.notes[Note(tap.key.leaf, "a product within while")] = None
    return [
        v._replace(data=v.data or goes_on.data, leaves=v.leaves | goes_on.leaves)
        for v in carries
    ]


def _is_matrix(shape: Sequence[int]) -> bool:
    return sum(n > 1 for n in shape) > 1


def _note(found: Analysis, leaf: int, why: str) -> None:
    """Notes a use, unless the leaf is a vector, which needs no products."""
    if _is_matrix(found.shapes[leaf]):
        found.notes[Note(leaf, why)] = None


def _note_unknown(found: Analysis, eqn: Any, operands: Sequence[Value]) -> None:
    """Notes leaves that meet data in a primitive that is not known."""
    name = eqn.primitive.name
    if name in values.ELEMENTWISE or not any(v.data for v in operands):
        return
    for value in operands:
        for piece in value.pieces if len(operands) > 1 else ():
            _note(found, piece.view.leaf, f"{name} with data")
        for leaf, lost in sorted(value.lost):
            _note(found, leaf, f"{lost}, then {name} with data")


def _product(
    found: Analysis, eqn: Any, operands: list[Value], here: Path
) -> list[Value]:
    name = eqn.primitive.name
    for operand in (0, 1):
        weights, other = operands[operand], operands[1 - operand]
        if not other.data:
            continue
        for leaf, lost in sorted(weights.lost):
            _note(found, leaf, f"{lost}, then {name} with data")
        for piece in weights.pieces:
            axes = None
            if name == "dot_general":
                axes = products.of_dot(eqn, operand, piece)
            elif operand == 1:
                axes = products.of_convolution(eqn, piece)
            _add_tap(found, here, name, operand, piece, axes)
    return provenance.applied(here, eqn, operands)


def _add_tap(
    found: Analysis, here: Path, name: str, operand: int, piece: Any, axes: Any
) -> None:
    shape = found.shapes[piece.view.leaf]
    kind = "table" if name == "gather" else "product"
    tap = axes and products.tap(kind, operand, piece, axes, shape, found.max_gram)
    if tap:
        found.taps.setdefault(here, []).append(tap)
    else:
        _note(found, piece.view.leaf, f"{name} of another form")


def _gather(
    found: Analysis, eqn: Any, operands: list[Value], here: Path
) -> list[Value]:
    table, indices = operands[:2]
    axes = products.table_axes(eqn)
    for leaf, lost in sorted(table.lost if indices.data else ()):
        _note(found, leaf, f"{lost}, then gather with data")
    for piece in table.pieces:
        _add_tap(found, here, "gather", 0, piece, products.of_table(eqn, piece))
    if axes and len(axes[0]) == 1:
        length = eqn.invars[0].aval.shape[axes[0][0]]
        for array in indices.tables:
            found.tables[array] = min(length, found.tables.get(array, length))
    return provenance.applied(here, eqn, [table._replace(pieces=()), *operands[1:]])
