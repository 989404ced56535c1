"""A function as one flat list of operations: its jaxpr with all calls written out.

What is called (`jit`, checkpoints, functions with derivatives of their own) is put in
the place of the call, and a `scan` is unrolled, so that operations of its own read each
layer of a stack. Whatever cannot be opened stays one operation.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend.core import Primitive

from deepcomp_jax import jaxprs
from deepcomp_jax.jaxprs import Body, Scan

_MOST = 20_000  # operations up to which a scan is unrolled


class Op(NamedTuple):
    """An operation: a primitive with its parameters, and the values it reads and makes.

    Values are numbered; a number belongs to one value of the program.
    """

    primitive: Primitive
    params: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.primitive.name


class Program(NamedTuple):
    """A function without calls and loops.

    Attributes:
        ops: The operations, each after those whose results it reads.
        avals: Shape and dtype of every value.
        leaves: The values that are leaves of the parameters, in their order.
        data: The values that are leaves of the example.
        outputs: The results.
        constants: Values that are written in the code or closed over.
        ties: Pairs of values of which a loop requires the same shape.
    """

    ops: list[Op]
    avals: list[Any]
    leaves: list[int]
    data: list[int]
    outputs: list[int]
    constants: dict[int, Any]
    ties: list[tuple[int, int]]

    def users(self) -> dict[int, list[int]]:
        """The operations that read each value, by their places in `ops`."""
        users: dict[int, list[int]] = {}
        for place, op in enumerate(self.ops):
            for value in op.inputs:
                users.setdefault(value, []).append(place)
        return users

    def of_data(self) -> set[int]:
        """The values that are computed from the data."""
        found = set(self.data)
        for op in self.ops:
            if not found.isdisjoint(op.inputs):
                found.update(op.outputs)
        return found


def trace(fn: Callable[..., Any], params: Any, example: Any) -> Program:
    """Traces `fn(params, example)` into a program.

    Args:
        fn: Any function that JAX can trace.
        params: Its first argument.
        example: Its second argument, arrays or `jax.ShapeDtypeStruct`.
    """
    closed = jax.make_jaxpr(fn)(params, example)
    writer = _Writer(Program([], [], [], [], [], {}, []))
    inputs = [writer.value(aval) for aval in closed.in_avals]
    outputs = writer.inline(jaxprs.opened(closed), inputs)
    program, count = writer.program, len(jax.tree.leaves(params))
    program.leaves.extend(inputs[:count])
    program.data.extend(inputs[count:])
    program.outputs.extend(outputs)
    return program


def bind(op: Op, values: Sequence[Any]) -> list[Any]:
    """Computes an operation."""
    params = op.primitive.get_bind_params(op.params)
    results = op.primitive.bind(*values, **params)
    return list(results) if op.primitive.multiple_results else [results]


class _Writer:
    """Appends operations to a program."""

    def __init__(self, program: Program):
        self.program = program

    def value(self, aval: Any) -> int:
        """A new value."""
        self.program.avals.append(aval)
        return len(self.program.avals) - 1

    def constant(self, aval: Any, constant: Any) -> int:
        """A value that is known."""
        value = self.value(aval)
        self.program.constants[value] = constant
        return value

    def inline(self, body: Body, inputs: Sequence[int]) -> list[int]:
        """Writes out a jaxpr and returns its results."""
        jaxpr = body.jaxpr
        values: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, constant in zip(jaxpr.constvars, body.constants, strict=True):
            values[var] = self.constant(var.aval, constant)

        def read(atom: Any) -> int:
            if jaxprs.is_literal(atom):
                return self.constant(atom.aval, atom.val)
            return values[atom]

        for eqn in jaxpr.eqns:
            outputs = self.write(eqn, [read(atom) for atom in eqn.invars])
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def write(self, eqn: Any, inputs: list[int]) -> list[int]:
        """Writes one equation, or what it calls."""
        if (body := jaxprs.called(eqn)) is not None:
            return self.inline(body, inputs)
        scan = jaxprs.scan(eqn)
        if scan is not None and scan.length * len(scan.body.jaxpr.eqns) < _MOST:
            return self.unroll(scan, inputs, [var.aval for var in eqn.outvars])
        if eqn.primitive.name == "cond" and eqn.params.get("branches_platforms"):
            return self.inline(_for_any_platform(eqn.params), inputs[1:])
        outputs = [self.value(var.aval) for var in eqn.outvars]
        op = Op(eqn.primitive, dict(eqn.params), tuple(inputs), tuple(outputs))
        self.program.ops.append(op)
        return outputs

    def unroll(self, scan: Scan, inputs: list[int], avals: list[Any]) -> list[int]:
        """Writes the body of a scan as often as it runs."""
        first = scan.constants + scan.carries
        consts, carry = inputs[: scan.constants], inputs[scan.constants : first]
        stacks: list[list[int]] = [[] for _ in avals[scan.carries :]]
        steps = range(scan.length)
        for step in reversed(steps) if scan.reverse else steps:
            rows = [self.row(stack, step) for stack in inputs[first:]]
            results = self.inline(scan.body, [*consts, *carry, *rows])
            next_carry = results[: scan.carries]
            self.program.ties.extend(zip(carry, next_carry, strict=True))
            carry = next_carry
            for stack, result in zip(stacks, results[scan.carries :], strict=True):
                stack.append(result)
        if scan.reverse:
            stacks = [stack[::-1] for stack in stacks]
        made = zip(stacks, avals[scan.carries :], strict=True)
        return [*carry, *(self.stacked(stack, aval) for stack, aval in made)]

    def row(self, stack: int, step: int) -> int:
        """One step of what a scan goes through."""
        aval = self.program.avals[stack]
        return self.call(lambda x: lax.index_in_dim(x, step, 0, False), [aval], [stack])

    def stacked(self, rows: list[int], aval: Any) -> int:
        """The results of all steps, one above the other."""
        if not rows:
            return self.constant(aval, np.zeros(aval.shape, aval.dtype))
        avals = [self.program.avals[row] for row in rows]
        return self.call(lambda *x: lax.concatenate(_lifted(x), 0), avals, rows)

    def call(self, fn: Callable[..., Any], avals: list[Any], inputs: list[int]) -> int:
        """Writes what a function of one result does."""
        return self.inline(jaxprs.opened(jax.make_jaxpr(fn)(*avals)), inputs)[0]


def _lifted(rows: Sequence[jax.Array]) -> list[jax.Array]:
    return [lax.expand_dims(row, (0,)) for row in rows]


def _for_any_platform(params: dict[str, Any]) -> Body:
    """The branch for all platforms that are not named; all do the same."""
    platforms = params["branches_platforms"]
    place = platforms.index(None) if None in platforms else 0
    return jaxprs.opened(params["branches"][place])
