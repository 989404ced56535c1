"""The same operations on smaller arrays: parameters with sizes are written anew."""

from collections.abc import Callable, Sequence
from typing import Any

from deepcomp_jax.shrink import units
from deepcomp_jax.shrink.axis_rules import Axes
from deepcomp_jax.shrink.program import Op, Program, bind
from deepcomp_jax.shrink.spaces import Spaces
from deepcomp_jax.shrink.units import Kept


def evaluate(
    program: Program,
    spaces: Spaces,
    axes: list[Axes],
    kept: Kept,
    leaves: Sequence[Any],
    data: Sequence[Any],
) -> list[Any]:
    """Runs a program whose leaves have lost units.

    Args:
        program: The function as it was traced.
        spaces: The spaces of its axes.
        axes: Those of every value.
        kept: Which units are left.
        leaves: The smaller leaves of the parameters.
        data: The leaves of a batch.
    """

    def shape(value: int) -> tuple[int, ...]:
        def count(atom: int) -> int:
            return int(kept[atom].sum()) if atom in kept else spaces.sizes[atom]

        return tuple(spaces.measure(space, count) for space in axes[value])

    def before(value: int, axis: int, place: int) -> int:
        """How many units are left of the first ones of an axis."""
        return int(units.mask(spaces, axes[value][axis], kept)[:place].sum())

    values: dict[int, Any] = dict(program.constants)
    values.update(zip(program.leaves, leaves, strict=True))
    values.update(zip(program.data, data, strict=True))
    for op in program.ops:
        params = _resized(op, program, shape, before)
        inputs = [values[value] for value in op.inputs]
        results = bind(op._replace(params={**op.params, **params}), inputs)
        values.update(zip(op.outputs, results, strict=True))
    return [values[value] for value in program.outputs]


def _resized(
    op: Op,
    program: Program,
    shape: Callable[[int], tuple[int, ...]],
    before: Callable[[int, int, int], int],
) -> dict[str, Any]:
    """The parameters of an operation that change with the sizes of its axes."""
    params = op.params
    if op.name == "reshape":
        return {"new_sizes": shape(op.outputs[0])}
    if op.name in ("broadcast_in_dim", "iota"):
        return {"shape": shape(op.outputs[0])}
    if op.name == "slice":
        return {
            name: tuple(before(op.inputs[0], i, n) for i, n in enumerate(params[name]))
            for name in ("start_indices", "limit_indices")
        }
    if op.name == "split":
        return {"sizes": tuple(shape(v)[params["axis"]] for v in op.outputs)}
    if op.name in ("gather", "dynamic_slice"):
        old, new = program.avals[op.inputs[0]].shape, shape(op.inputs[0])
        sizes = zip(params["slice_sizes"], old, new, strict=True)
        return {"slice_sizes": tuple(n if size == o else size for size, o, n in sizes)}
    if op.name == "conv_general_dilated" and params["feature_group_count"] > 1:
        numbers = params["dimension_numbers"]
        channels = shape(op.inputs[0])[numbers.lhs_spec[1]]
        return {
            "feature_group_count": channels // shape(op.inputs[1])[numbers.rhs_spec[1]]
        }
    return {}
