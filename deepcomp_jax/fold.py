"""Folding for inference: the running statistics of BatchNorm go into scale and bias.

A BatchNorm that uses running averages multiplies its input by a constant and adds
another one, so that two of its four tensors are enough. The other two become constants,
which cost almost nothing in a file when each is shared as one value.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from deepcomp_jax import trees
from deepcomp_jax.rules import check_pattern, expanded, first_match


class _Norm(NamedTuple):
    """The names of the four leaves of a BatchNorm."""

    mean: str
    var: str
    scale: str
    bias: str


_REMEDIES = {
    "mean": "pass all of its running statistics",
    "var": "pass all of its running statistics",
    "scale": "pass its parameters, or make it with use_scale=True and a scale of ones",
    "bias": "pass its parameters, or make it with use_bias=True and a bias of zeros",
}

# What transposed convolutions are called.
_TRANSPOSED = re.compile("(?i)transpose|deconv|up_?conv")


def batchnorm(
    variables: Any,
    *,
    epsilon: float = 1e-5,
    bias_of: Sequence[tuple[str, str]] = (),
    kernels: bool | Sequence[tuple[str, int]] = False,
) -> Any:
    """Folds the running statistics of every BatchNorm into its scale and bias.

    `scale' = scale / sqrt(var + epsilon)`, `bias' = bias - mean * scale'`, `mean' = 0`
    and `var' = 1 - epsilon`, so that the same module, run with running averages, gives
    the same outputs as before: Jacob et al. 2018 (arXiv 1712.05877, section 3.2), with
    the BatchNorm left in its place.

    The folded scale is the factor that Flax computes at every call, bit for bit when
    both have the same dtype. The folded bias is computed with the rounded scale, in
    float32 at least, and rounded to the dtype of the bias. In float32, an output y of
    an input x moves by at most `8 * 2**-24 * ((|x| + |mean|) * |scale'| + |bias|)`,
    which is far below the size of y unless the mean is many deviations from zero.

    A BatchNorm is recognized by the names of its leaves: `mean` and `var` side by side,
    with `scale` and `bias` beside them (NNX) or where they are when `batch_stats` in
    the path is replaced by `params` (Linen). Every other leaf, but for those that
    `bias_of` and `kernels` ask for, stays the same object. Under `jax.jit` everything
    but the values is checked. Do not go on to train with the statistics of batches
    afterwards, since the running statistics are gone.

    Args:
        variables: Any pytree of arrays that has the parameters and the statistics, such
            as Linen variables or an NNX state.
        epsilon: The epsilon of the modules, at least 0 and less than 1.
        bias_of: Which layers stand right in front of a BatchNorm, so that their biases
            are folded too and become zero. In each pair, the first string is a regular
            expression, which is searched in the names of biases. What it matches,
            replaced by the second string, in which `\\1` stands for the first group,
            must give the name of the BatchNorm's bias: `("conv(.*)", r"bn\\1")` leads
            from `params/conv1/bias` to `params/bn1/bias`. A bias follows the first pair
            that matches it.
        kernels: Whether the scale of a BatchNorm goes on into the kernel beside such a
            bias and becomes 1, so that the weights of all channels have a similar size,
            whatever their variances were. The outputs of a kernel are along its last
            axis, unless pairs of a pattern and an axis say otherwise, of which the
            first that matches the name of the kernel counts. A ConvTranspose with
            `transpose_kernel=True` has its outputs along axis -2, which nothing in the
            variables tells: give `[("deconv", -2)]`.

    Returns:
        The folded variables, with the same structure, names, shapes and dtypes.

    Raises:
        ValueError: There is no BatchNorm, or one lacks a tensor; its tensors differ in
            shape or are not floating; `var + epsilon` is not positive; a pair or kernel
            does not fit or is missing. The message says which, and what to do.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import fold
        >>> norm = {"mean": jnp.ones(1), "var": jnp.full(1, 4.0)}
        >>> norm |= {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
        >>> folded = fold.batchnorm({"norm": norm}, epsilon=0.0)["norm"]
        >>> float(folded["scale"][0]), float(folded["bias"][0])
        (0.5, -0.5)
    """
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon is {epsilon}; it must be at least 0 and less than 1")
    if kernels is not False and not bias_of:
        raise ValueError(
            "kernels has no effect without bias_of, which says what kernel is in front "
            "of each BatchNorm: give pairs, or leave kernels out"
        )
    for pattern, _ in (*bias_of, *([] if isinstance(kernels, bool) else kernels)):
        check_pattern(pattern)
    named = trees.named_leaves(variables)
    norms = _norms(named)
    if not norms:
        raise ValueError(
            "there is no BatchNorm to fold: no 'mean' stands beside a 'var'; pass the "
            "running statistics too, as in {'params': ..., 'batch_stats': ...}"
        )
    fronts = _biases_in_front(named, norms, bias_of)
    folded = dict(named)
    for norm in norms:
        names = [*norm, fronts[norm.bias]] if norm.bias in fronts else norm
        tensors = [_tensor(name, named[name]) for name in names]
        _check(names, tensors, epsilon)
        folded.update(zip(names, _fold(tensors, epsilon), strict=True))
    if kernels is not False:
        axes = [] if kernels is True else kernels
        folded |= _into_kernels(folded, norms, fronts, axes)
    return trees.rebuild(variables, folded)


def _fold(tensors: Sequence[jax.Array], epsilon: float) -> list[jax.Array]:
    """Folds mean, variance, scale and bias, and the bias of the layer in front."""
    mean, var, scale, bias, *layer_biases = tensors
    new_scale = (jax.lax.rsqrt(var + epsilon) * scale).astype(scale.dtype)
    center = trees.widened(mean)
    for layer_bias in layer_biases:  # none or one
        center = center - trees.widened(layer_bias)
    new_bias = trees.widened(bias) - center * trees.widened(new_scale)
    # Rounding this difference loses half a unit in the last place below 1 at most, so
    # that adding epsilon again rounds to exactly 1, in any binary floating type.
    rest = jnp.ones((), var.dtype) - jnp.asarray(epsilon, var.dtype)
    zeros = [jnp.zeros_like(layer_bias) for layer_bias in layer_biases]
    statistics = [jnp.zeros_like(mean), jnp.full_like(var, rest)]
    return [*statistics, new_scale, new_bias.astype(bias.dtype), *zeros]


def _norms(named: Mapping[str, Any]) -> list[_Norm]:
    """The names of the tensors of every BatchNorm."""
    modules = dict.fromkeys(
        name.removesuffix(role)
        for name in named
        for role in ("mean", "var")
        if name.rpartition("/")[2] == role
    )
    parts = (_parts(named, module) for module in modules)
    # A mean or a variance on its own belongs to something else.
    return [_complete(roles) for roles in parts if len(roles) > 1]


def _parts(named: Mapping[str, Any], module: str) -> dict[str, str]:
    """The names of the leaves that a module has, by their role."""
    parameters = re.sub(r"(^|/)batch_stats/", r"\1params/", module)
    parts: dict[str, str] = {}
    for role in _Norm._fields:
        for path in (parameters, module):
            if path + role in named:
                parts[role] = path + role
    return parts


def _complete(parts: Mapping[str, str]) -> _Norm:
    """The names of a BatchNorm, none of which may be missing."""
    for role in _Norm._fields:
        if role not in parts:
            raise ValueError(
                f"the BatchNorm of {', '.join(map(repr, parts.values()))} has no "
                f"{role}: {_REMEDIES[role]}"
            )
    return _Norm(**parts)


def _biases_in_front(
    named: Mapping[str, Any],
    norms: Sequence[_Norm],
    bias_of: Sequence[tuple[str, str]],
) -> dict[str, str]:
    """Maps the name of a BatchNorm's bias to that of the layer in front of it."""
    norm_biases = {norm.bias for norm in norms}
    patterns = [pattern for pattern, _ in bias_of]
    fronts: dict[str, str] = {}
    used: set[str] = set()
    for name in named:
        if name in norm_biases or name.rpartition("/")[2] != "bias":
            continue
        first = first_match(patterns, name)
        if first is None:
            continue
        pattern, template = bias_of[first[0]]
        match = first[1]
        target = name[: match.start()] + expanded(match, template) + name[match.end() :]
        if target not in norm_biases or target in fronts:
            reason = "has one already" if target in fronts else "is no BatchNorm's bias"
            raise ValueError(
                f"pattern {pattern!r} puts {name!r} in front of {target!r}, which "
                f"{reason}: let each pair lead from a bias to that of its BatchNorm"
            )
        fronts[target] = name
        used.add(pattern)
    for pattern in patterns:
        if pattern not in used:
            raise ValueError(
                f"bias_of: pattern {pattern!r} is the first for no bias: correct it, "
                "or leave it out if the layers in front of BatchNorm have no biases"
            )
    return fronts


def _tensor(name: str, leaf: Any) -> jax.Array:
    """A leaf as an array of a type that can be computed with."""
    dtype = np.dtype(leaf.dtype)
    floating = jnp.issubdtype(dtype, jnp.floating)
    if not floating or jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f"leaf {name!r} is {dtype}: only floating types that JAX computes with can "
            "be folded; convert it, or set jax_enable_x64"
        )
    return jnp.asarray(leaf)


def _check(names: Sequence[str], tensors: Sequence[jax.Array], epsilon: float) -> None:
    """Rejects tensors that are not those of one BatchNorm, in the order of `_fold`."""
    shapes = [tensor.shape for tensor in tensors]
    if len(set(shapes)) > 1:
        listed = ", ".join(f"{n!r} {s}" for n, s in zip(names, shapes, strict=True))
        raise ValueError(f"leaves of one BatchNorm differ in shape: {listed}")
    variance = tensors[1] + epsilon
    if not isinstance(variance, Tracer) and not bool((variance > 0).all()):
        raise ValueError(
            f"leaf {names[1]!r} plus epsilon {epsilon:g} is not positive everywhere: "
            "pass the variances of a trained network and the epsilon of its modules"
        )


def _into_kernels(
    folded: Mapping[str, Any],
    norms: Sequence[_Norm],
    fronts: Mapping[str, str],
    axes: Sequence[tuple[str, int]],
) -> dict[str, jax.Array]:
    """The leaves that change as the scales go on into the kernels in front."""
    patterns = [pattern for pattern, _ in axes]
    used: set[int] = set()
    changed: dict[str, jax.Array] = {}
    for norm in norms:
        if norm.bias not in fronts:
            continue
        name = fronts[norm.bias].removesuffix("bias") + "kernel"
        scale, axis = folded[norm.scale], None
        if first := first_match(patterns, name):
            used.add(first[0])
            axis = axes[first[0]][1]
        changed[name] = _scaled(name, folded.get(name), scale, axis)
        changed[norm.scale] = jnp.ones_like(scale)
    for i, pattern in enumerate(patterns):
        if i not in used:
            raise ValueError(
                f"pattern {pattern!r} of `kernels` is the first to match no kernel in "
                "front of a BatchNorm: correct it or leave it out"
            )
    return changed


def _scaled(name: str, kernel: Any, scale: jax.Array, axis: int | None) -> jax.Array:
    """A kernel that multiplies by what was the scale of the BatchNorm behind it.

    Args:
        name: The name of the kernel, for messages and to notice transposed ones.
        kernel: The kernel; None if there is no such leaf.
        scale: The folded scale, one number for each output of the kernel.
        axis: The axis of the outputs; None for the last one.
    """
    shape: Any = () if kernel is None else kernel.shape
    outputs = -1 if axis is None else axis
    has_axis = len(shape) >= 2 and -len(shape) <= outputs < len(shape)
    if kernel is None or not has_axis or shape[outputs] != scale.size:
        found = "is missing" if kernel is None else f"has shape {shape}"
        where = "last axis" if outputs == -1 else f"axis {outputs}"
        raise ValueError(
            f"leaf {name!r} {found}: to take the scale of a BatchNorm, a kernel must "
            f"stand beside the bias and its {where} have {scale.size} outputs"
        )
    if axis is None and _TRANSPOSED.search(name) and shape[-2] == shape[-1]:
        raise ValueError(
            f"leaf {name!r} may be that of a transposed convolution, whose outputs are "
            "along axis -2 with transpose_kernel=True and else along -1: say which, as "
            f"in kernels=[({name!r}, -1)]"
        )
    along = [1] * len(shape)
    along[outputs] = scale.size
    return (kernel * scale.reshape(along)).astype(kernel.dtype)
