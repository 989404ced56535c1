"""What a jaxpr does with the leaves of a network, found without computing anything."""

from collections.abc import Callable, Sequence
from typing import Any

from deepcomp_jax import jaxprs
from deepcomp_jax.calibration import findings, provenance, values, views
from deepcomp_jax.calibration.findings import Analysis, Note
from deepcomp_jax.calibration.values import Value
from deepcomp_jax.jaxprs import Body, Path


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
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            return findings.product(found, eqn, operands, here)
        if eqn.primitive.name == "gather":
            return findings.gather(found, eqn, operands, here)
        if eqn.primitive.name == "eq":
            findings.compare(found, eqn, operands)
        findings.note_unknown(found, eqn, operands)
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
    for array, length in inside.tables.items():
        found.tables[array] = min(length, found.tables.get(array, length))
    return [
        v._replace(data=v.data or goes_on.data, leaves=v.leaves | goes_on.leaves)
        for v in carries
    ]
