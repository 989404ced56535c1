"""What every walk of a jaxpr needs, whichever version of JAX wrote it.

A jaxpr is a list of equations, and some of them hold jaxprs in turn: the bodies of
`jit`, `scan`, `cond` and others. Names and parameters of these primitives differ
between versions of JAX; this module is the one place that knows how.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax.extend.core as jex
import numpy as np

T = TypeVar("T")
Path = tuple[int, ...]

# Primitives that evaluate one jaxpr on their operands, and the parameter that holds it.
# `jit` was called `pjit`, and `remat2` is what `jax.checkpoint` becomes.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "eval_jaxpr": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
REMATS = frozenset({"remat2", "checkpoint"})
CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call"})


class Body(NamedTuple):
    """A jaxpr with the constants that it reads.

    Attributes:
        jaxpr: Its equations and variables.
        constants: Arrays, one for each of `jaxpr.constvars`.
    """

    jaxpr: Any
    constants: tuple[Any, ...]


class Scan(NamedTuple):
    """A `scan`, its operands and results by what they are for.

    Attributes:
        body: Takes constants, carries and slices of what is scanned over; gives the
            next carries and slices of the stacked results.
        constants: The number of operands that are the same in every step; they come
            first.
        carries: The number of carries, which follow them and are the first results too.
        length: The number of steps.
        reverse: Whether the last slice comes first.
    """

    body: Body
    constants: int
    carries: int
    length: int
    reverse: bool


class While(NamedTuple):
    """A `while`: operands are the constants of both bodies, then the carries.

    Attributes:
        condition: Takes its constants and the carries; gives a boolean.
        condition_constants: The number of its constants, which are the first operands.
        body: Takes its constants and the carries; gives the next carries.
        body_constants: The number of its constants.
    """

    condition: Body
    condition_constants: int
    body: Body
    body_constants: int


def opened(jaxpr: Any) -> Body:
    """Takes a jaxpr apart, be it closed over its constants or without any."""
    return Body(getattr(jaxpr, "jaxpr", jaxpr), tuple(getattr(jaxpr, "consts", ())))


def called(eqn: Any) -> Body | None:
    """The jaxpr that an equation evaluates on its operands, if it is such a call."""
    parameter = CALLS.get(eqn.primitive.name)
    if parameter is None or parameter not in eqn.params:
        return None
    body = opened(eqn.params[parameter])
    return body if len(body.jaxpr.invars) == len(eqn.invars) else None


def scan(eqn: Any) -> Scan | None:
    """The parts of an equation if it is a `scan`.

    What is scanned over has one more axis outside than within the body, and so have
    stacked results. That tells the roles of operands in all versions of JAX.
    """
    if eqn.primitive.name != "scan":
        return None
    body = opened(eqn.params["jaxpr"])
    carries = _same_rank(eqn.outvars, body.jaxpr.outvars)
    unstacked = _same_rank(eqn.invars, body.jaxpr.invars)
    length, reverse = eqn.params["length"], eqn.params["reverse"]
    return Scan(body, unstacked - carries, carries, length, reverse)


def _same_rank(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    pairs = zip(outside, inside, strict=True)
    return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in pairs)


def branches(eqn: Any) -> tuple[Body, ...] | None:
    """The branches of a `cond`, whose first operand is the index of one of them."""
    if eqn.primitive.name != "cond":
        return None
    return tuple(opened(branch) for branch in eqn.params["branches"])


def while_loop(eqn: Any) -> While | None:
    """The parts of an equation if it is a `while`."""
    if eqn.primitive.name != "while":
        return None
    params = eqn.params
    return While(
        opened(params["cond_jaxpr"]), params["cond_nconsts"],
        opened(params["body_jaxpr"]), params["body_nconsts"],
    )  # fmt: skip


def bodies(eqn: Any) -> list[Body]:
    """All jaxprs among the parameters of an equation, also of unknown primitives."""
    found = []
    for value in eqn.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(item, "eqns"):
                found.append(opened(item))
    return found


def equations(body: Body, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All equations of a jaxpr and of those within it, each after what holds it.

    A path says where an equation is: its position in its jaxpr, after the position of
    that jaxpr among those of the equation around it, and so on outwards.
    """
    for position, eqn in enumerate(body.jaxpr.eqns):
        yield (*path, position), eqn
        for which, inner in enumerate(bodies(eqn)):
            yield from equations(inner, (*path, position, which))


def constants(body: Body) -> list[Any]:
    """The arrays that a jaxpr and those within it are closed over, each once.

    They are not operands, so that a weight among them is seen by no one who looks at
    the arguments of a function. Numbers without axes are left out.
    """
    found: dict[int, Any] = {}

    def add(values: Sequence[Any]) -> None:
        found.update((id(value), value) for value in values if np.ndim(value) > 0)

    add(body.constants)
    for _, eqn in equations(body):
        add([v.val for v in eqn.invars if is_literal(v)])
        for inner in bodies(eqn):
            add(inner.constants)
    return list(found.values())


def is_literal(variable: Any) -> bool:
    """Whether an operand is a number written into the equation."""
    return isinstance(variable, jex.Literal)


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """The results of an equation for operands, which may be traced.

    Functions with a derivative of their own keep it.
    """
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*values, **params)
    return list(results) if eqn.primitive.multiple_results else [results]


def walk(
    body: Body,
    arguments: Sequence[T],
    rule: Callable[[int, Any, list[T]], Sequence[T]],
    constant: Callable[[Any], T],
) -> list[T]:
    """Evaluates the equations of a jaxpr in order, by a rule of the caller.

    Args:
        body: The jaxpr.
        arguments: What stands for each of its operands: arrays, or anything that is
            known about them.
        rule: Takes the position of an equation, the equation, and what stands for its
            operands; returns what stands for its results.
        constant: Gives what stands for a constant or a number in an equation.

    Returns:
        What stands for the results of the jaxpr.

    Examples:
        >>> import jax
        >>> from deepcomp_jax import jaxprs
        >>> body = jaxprs.opened(jax.make_jaxpr(lambda x: 2.0 * x + 1.0)(3.0))
        >>> rule = lambda position, eqn, values: jaxprs.bind(eqn, values)
        >>> [float(y) for y in jaxprs.walk(body, [3.0], rule, lambda value: value)]
        [7.0]
    """
    known = dict(zip(body.jaxpr.constvars, map(constant, body.constants), strict=True))
    known.update(zip(body.jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> T:
        return constant(variable.val) if is_literal(variable) else known[variable]

    for position, eqn in enumerate(body.jaxpr.eqns):
        results = rule(position, eqn, [read(v) for v in eqn.invars])
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in body.jaxpr.outvars]
