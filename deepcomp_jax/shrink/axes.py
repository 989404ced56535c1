"""The spaces of all axes of a program."""

from deepcomp_jax.shrink.axis_rules import Axes, Case, rule, unknown
from deepcomp_jax.shrink.program import Op, Program
from deepcomp_jax.shrink.spaces import Spaces


def label(program: Program) -> tuple[Spaces, list[Axes]]:
    """The spaces of the axes of every value of a program."""
    spaces = Spaces()
    shapes = [tuple(aval.shape) for aval in program.avals]
    axes: list[Axes] = [[] for _ in shapes]
    for value in program.leaves:
        axes[value] = [spaces.new(size) for size in shapes[value]]
    for value in program.data:
        axes[value] = [spaces.fixed(size, "input") for size in shapes[value]]
    for value in program.constants:
        axes[value] = [spaces.fixed(size, "constant") for size in shapes[value]]
    for op in program.ops:
        ins = [shapes[value] for value in op.inputs]
        outs = [shapes[value] for value in op.outputs]
        case = Case(spaces, op, [axes[value] for value in op.inputs], ins, outs)
        for value, own in zip(op.outputs, rule(op)(case), strict=True):
            axes[value] = own
    for value in program.outputs:
        for space in axes[value]:
            spaces.pin(space, "output")
    for before, after in program.ties:
        for a, b in zip(axes[before], axes[after], strict=True):
            spaces.unify(a, b, "scan")
    return spaces, axes


def is_known(op: Op) -> bool:
    """Whether there is a rule for an operation."""
    return rule(op) is not unknown
