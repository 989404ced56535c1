"""What each primitive does with axes: which go through, which meet, which are mixed.

Whatever has no rule pins all that it touches, so that an unknown primitive can cost
units, but never be wrong.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from deepcomp_jax.shrink.primitives import ELEMENTWISE, mixed
from deepcomp_jax.shrink.program import Op
from deepcomp_jax.shrink.spaces import ONE, Product, Space, Spaces, Sum, blocks

Axes: TypeAlias = list[Space]  # the spaces of the axes of an array


class Case(NamedTuple):
    """An operation with the spaces of what it reads, and the shapes."""

    spaces: Spaces
    op: Op
    axes: list[Axes]
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]

    def fixed(self, shape: Sequence[int]) -> Axes:
        """Axes that are never cut."""
        return [self.spaces.fixed(size, self.op.name) for size in shape]

    def pin(self, axes: Sequence[Space]) -> None:
        for space in axes:
            self.spaces.pin(space, self.op.name)

    def meet(self, a: Space, b: Space) -> None:
        self.spaces.unify(a, b, self.op.name)


def rule(op: Op) -> Callable[[Case], list[Axes]]:
    """The rule of an operation: the spaces of the axes of its results."""
    if op.name in ELEMENTWISE:
        return _elementwise
    if op.name in _RULES:
        return _RULES[op.name]
    if mixed(op) is not None:
        return _mixing
    return unknown


def unknown(case: Case) -> list[Axes]:
    """The rule of what has none."""
    for axes in case.axes:
        case.pin(axes)
    return [case.fixed(shape) for shape in case.outputs]


def _elementwise(case: Case) -> list[Axes]:
    """Axes of equal size meet, the last with the last."""
    (shape,) = case.outputs
    found: Axes = [ONE for _ in shape]
    for axes, sizes in zip(case.axes, case.inputs, strict=True):
        lacking = len(shape) - len(sizes)
        for i, (space, size) in enumerate(zip(axes, sizes, strict=True)):
            if size != shape[lacking + i]:
                continue
            if found[lacking + i] == ONE:
                found[lacking + i] = space
            else:
                case.meet(found[lacking + i], space)
    return [found]


def _mixing(case: Case) -> list[Axes]:
    (axes,) = case.axes
    found = mixed(case.op)
    assert found is not None
    along, dropped = found
    case.pin([axes[i] for i in along])
    if dropped:
        return [[space for i, space in enumerate(axes) if i not in along]]
    outer = case.fixed(case.outputs[0])
    return [[outer[i] if i in along else space for i, space in enumerate(axes)]]


def _broadcast(case: Case) -> list[Axes]:
    (shape,) = case.outputs
    found = {}
    places = case.op.params["broadcast_dimensions"]
    for i, space, size in zip(places, case.axes[0], case.inputs[0], strict=True):
        if size == shape[i]:
            found[i] = space
    return [[found.get(i, case.spaces.new(size)) for i, size in enumerate(shape)]]


def _reshape(case: Case) -> list[Axes]:
    """Axes are divided anew; those that a reshape cuts across are pinned."""
    (before,), (after,) = case.inputs, case.outputs
    if 0 in after or case.op.params.get("dimensions") is not None:
        return unknown(case)
    found: Axes = []
    for first, second in blocks(before, after):
        axes, sizes = case.axes[0][first], after[second]
        own = case.spaces.regroup(axes, sizes)
        if own is None:
            case.pin(axes)
            own = case.fixed(sizes)
        found.extend(own)
    return [found]


def _transpose(case: Case) -> list[Axes]:
    return [[case.axes[0][i] for i in case.op.params["permutation"]]]


def _squeeze(case: Case) -> list[Axes]:
    dropped = {i % len(case.axes[0]) for i in case.op.params["dimensions"]}
    return [[space for i, space in enumerate(case.axes[0]) if i not in dropped]]


def _expand(case: Case) -> list[Axes]:
    rest = iter(case.axes[0])
    added = set(case.op.params["dimensions"])
    return [[ONE if i in added else next(rest) for i in range(len(case.outputs[0]))]]


def _reverse(case: Case) -> list[Axes]:
    case.pin([case.axes[0][i] for i in case.op.params["dimensions"]])
    return [case.axes[0]]


def _concatenate(case: Case) -> list[Axes]:
    along = case.op.params["dimension"]
    found = list(case.axes[0])
    for axes in case.axes[1:]:
        for i, space in enumerate(axes):
            if i != along:
                case.meet(found[i], space)
    found[along] = Sum(tuple(axes[along] for axes in case.axes))
    return [found]


def _stack(case: Case) -> list[Axes]:
    found = list(case.axes[0])
    for axes in case.axes[1:]:
        for a, b in zip(found, axes, strict=True):
            case.meet(a, b)
    along = case.op.params["axis"]
    found.insert(along, case.spaces.fixed(len(case.axes), case.op.name))
    return [found]


def _unstack(case: Case) -> list[Axes]:
    along = case.op.params["axis"]
    case.pin([case.axes[0][along]])
    found = [space for i, space in enumerate(case.axes[0]) if i != along]
    return [found for _ in case.outputs]


def _slice(case: Case) -> list[Axes]:
    params, (shape,) = case.op.params, case.inputs
    strides = params["strides"] or (1,) * len(shape)
    found: Axes = []
    for i, size in enumerate(shape):
        start, end = params["start_indices"][i], params["limit_indices"][i]
        own = _segments(case, i, [start, end]) if strides[i] == 1 else None
        if (start, end, strides[i]) == (0, size, 1):
            found.append(case.axes[0][i])
        elif own is not None and start < end:
            found.append(own[1 if start else 0])
        else:
            case.pin([case.axes[0][i]])
            found.append(case.spaces.fixed(case.outputs[0][i], case.op.name))
    return [found]


def _split(case: Case) -> list[Axes]:
    along = case.op.params["axis"]
    ends = [int(end) for end in np.cumsum(case.op.params["sizes"])]
    parts = _segments(case, along, ends)
    if parts is None or 0 in case.op.params["sizes"]:
        return unknown(case)
    before, after = case.axes[0][:along], case.axes[0][along + 1 :]
    return [[*before, part, *after] for part in parts]


def _segments(case: Case, axis: int, places: list[int]) -> list[Space] | None:
    size = case.inputs[0][axis]
    inner = sorted({place for place in places if 0 < place < size})
    return case.spaces.cut(case.axes[0][axis], inner)


def _pad(case: Case) -> list[Axes]:
    found: Axes = []
    for space, config in zip(
        case.axes[0], case.op.params["padding_config"], strict=True
    ):
        low, high, inner = (int(count) for count in config)
        if min(low, high) < 0 or inner:
            case.pin([space])
            size = case.outputs[0][len(found)]
            found.append(case.spaces.fixed(size, case.op.name))
            continue
        ends = [case.spaces.fixed(n, case.op.name) for n in (low, high)]
        parts = [(ends[0], low), (space, 1), (ends[1], high)]
        found.append(Sum(tuple(part for part, count in parts if count)))
    return [found]


def _iota(case: Case) -> list[Axes]:
    found = [case.spaces.new(size) for size in case.outputs[0]]
    case.pin([found[case.op.params["dimension"]]])
    return [found]


def _dot(case: Case) -> list[Axes]:
    (sums, batches), (a, b) = case.op.params["dimension_numbers"], case.axes
    for left, right in (sums, batches):
        for i, j in zip(left, right, strict=True):
            case.meet(a[i], b[j])
    free = [
        [x for i, x in enumerate(axes) if i not in (*sums[side], *batches[side])]
        for side, axes in enumerate((a, b))
    ]
    return [[*(a[i] for i in batches[0]), *free[0], *free[1]]]


def _conv(case: Case) -> list[Axes]:
    numbers, (images, kernel) = case.op.params["dimension_numbers"], case.axes
    groups = case.op.params["feature_group_count"]
    if case.op.params["batch_group_count"] != 1:
        return unknown(case)
    channels, outputs = images[numbers.lhs_spec[1]], kernel[numbers.rhs_spec[0]]
    inner = kernel[numbers.rhs_spec[1]]
    if groups > 1:
        # Both are divided by groups first, so that a group is cut as a whole.
        divided = case.spaces.regroup(
            [outputs], [groups, case.spaces.size(outputs) // groups]
        )
        if divided is None:
            return unknown(case)
        inner = Product((divided[0], inner))
    case.meet(channels, inner)
    case.pin([images[i] for i in numbers.lhs_spec[2:]])
    case.pin([kernel[i] for i in numbers.rhs_spec[2:]])
    found = case.fixed(case.outputs[0])
    found[numbers.out_spec[0]] = images[numbers.lhs_spec[0]]
    found[numbers.out_spec[1]] = outputs
    return [found]


def _gather(case: Case) -> list[Axes]:
    """Rows of a table are never cut; what is taken whole goes through."""
    numbers: Any = case.op.params["dimension_numbers"]
    sizes, shape = case.op.params["slice_sizes"], case.inputs[0]
    case.pin(case.axes[1])
    found = case.fixed(case.outputs[0])
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    inner = [i for i in range(len(shape)) if i not in dropped]
    case.pin([case.axes[0][i] for i in dropped])
    for place, i in zip(numbers.offset_dims, inner, strict=True):
        if sizes[i] == shape[i] and i not in numbers.start_index_map:
            found[place] = case.axes[0][i]
        else:
            case.pin([case.axes[0][i]])
    return [found]


def _dynamic_slice(case: Case) -> list[Axes]:
    found = case.fixed(case.outputs[0])
    for i, (size, whole) in enumerate(
        zip(case.outputs[0], case.inputs[0], strict=True)
    ):
        if size == whole:
            found[i] = case.axes[0][i]
        else:
            case.pin([case.axes[0][i]])
    return [found]


_RULES: dict[str, Callable[[Case], list[Axes]]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "expand_dims": _expand,
    "gather": _gather,
    "iota": _iota,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "transpose": _transpose,
    "unstack": _unstack,
}
