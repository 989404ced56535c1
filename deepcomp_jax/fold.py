"""Folding for inference: running statistics become a part of scale and bias.

With running averages a BatchNorm multiplies by a constant and adds another one, so two
of its four tensors are enough. The other two become constants, which cost almost
nothing in a file when each is shared as one value.
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
    """Names of the leaves of a BatchNorm."""

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

# Names that transposed convolutions go by.
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

    What is rounded: `scale'` is the factor that Flax computes at every call, bit for
    bit when both are of one dtype; `bias'` is computed in float32 at least, with the
    rounded `scale'`, and rounded to the dtype of the bias. In float32, an output y of
    an input x moves by at most `8 * 2**-24 * ((|x| + |mean|) * |scale'| + |bias|)`,
    which is far below the size of y unless the mean is many deviations from zero.

    A BatchNorm is found by the names of its leaves: `mean` and `var` side by side, with
    `scale` and `bias` beside them (NNX) or where they are when `batch_stats` in the
    path is replaced by `params` (Linen). Every other leaf, but for those that `bias_of`
    and `kernels` ask for, stays the same object. Under
    `jax.jit` everything but the values is checked. Train no further with batch
    statistics: they are gone.

    Args:
        variables: Any pytree of arrays with parameters and statistics: Linen
            variables, NNX state, dictionaries.
        epsilon: That of the modules, at least 0 and less than 1.
        bias_of: Pairs that also fold the bias of the layer right in front of a
            BatchNorm, which becomes zero. The first is a regular expression, searched
            in the names of biases; replacing what it matches by the second, in which
            `\\1` stands for its first group, must give the name of the BatchNorm's
            bias: `("conv(.*)", r"bn\\1")` leads from `params/conv1/bias` to
            `params/bn1/bias`. A bias follows the first pair that matches it.
        kernels: Whether the scale of a BatchNorm goes on into the kernel beside such a
            bias and becomes 1: all channels are then alike in size, whatever their
            variance was. The outputs of a kernel are along its last axis, unless pairs
            of a pattern and an axis are given: the first that matches its name counts.
            Those of a ConvTranspose with `transpose_kernel=True` are along axis -2,
            which nothing in the variables says: `[("deconv", -2)]`.

    Returns:
        The folded variables: same structure, names, shapes and dtypes.

    Raises:
        ValueError: There is no BatchNorm, one lacks a tensor, its tensors differ in
            shape or are not floating, `var + epsilon` is not positive, a pair does not
            fit, or there is no fitting kernel, or one that may be transposed without
            a pair; says which and what to do.

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
        names = (*norm, *fronts.get(norm.bias, ()))
        tensors = [_tensor(name, named[name]) for name in names]
        _check(names, tensors, epsilon)
        folded.update(zip(names, _fold(tensors, epsilon), strict=True))
    if kernels is not False:
        axes = [] if kernels is True else kernels
        folded.update(_into_kernels(folded, norms, fronts, axes))
    return trees.rebuild(variables, folded)


def _fold(tensors: Sequence[jax.Array], epsilon: float) -> list[jax.Array]:
    """Folds the tensors of one BatchNorm, and perhaps the bias in front of it."""
    mean, var, scale, bias, *front = tensors
    new_scale = (jax.lax.rsqrt(var + epsilon) * scale).astype(scale.dtype)
    center = trees.widened(mean)
    for layer_bias in front:
        center = center - trees.widened(layer_bias)
    moved = trees.widened(bias) - center * trees.widened(new_scale)
    new_bias = moved.astype(bias.dtype)
    # Rounding this difference loses half a unit in the last place below 1 at most, so
    # that adding epsilon again rounds to exactly 1, in any binary floating type.
    unit = jnp.ones((), var.dtype) - jnp.asarray(epsilon, var.dtype)
    new_var = jnp.full_like(var, unit)
    zeros = [jnp.zeros_like(layer_bias) for layer_bias in front]
    return [jnp.zeros_like(mean), new_var, new_scale, new_bias, *zeros]


def _norms(named: Mapping[str, Any]) -> list[_Norm]:
    """Names of the tensors of every BatchNorm."""
    modules = dict.fromkeys(
        name.removesuffix(role)
        for name in named
        for role in ("mean", "var")
        if name.rpartition("/")[2] == role
    )
    found = [_parts(named, module) for module in modules]
    # A mean or a variance all alone belongs to something else.
    return [_complete(parts) for parts in found if len(parts) > 1]


def _parts(named: Mapping[str, Any], module: str) -> dict[str, str]:
    """Names of a module's leaves, of those that it has, by what they are."""
    parameters = re.sub(r"(^|/)batch_stats/", r"\1params/", module)
    parts: dict[str, str] = {}
    for role in _Norm._fields:
        for place in (module, parameters):
            if place + role in named:
                parts.setdefault(role, place + role)
    return parts


def _complete(parts: Mapping[str, str]) -> _Norm:
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
) -> dict[str, tuple[str]]:
    """Maps the name of a BatchNorm's bias to that of the one in front, in a tuple."""
    own = {norm.bias for norm in norms}
    fronts: dict[str, tuple[str]] = {}
    used: set[str] = set()
    for name in named:
        if name in own or name.rpartition("/")[2] != "bias":
            continue
        pattern, target = _first_match(name, bias_of)
        if pattern is None:
            continue
        if target not in own or target in fronts:
            reason = "has one already" if target in fronts else "is no BatchNorm's bias"
            raise ValueError(
                f"pattern {pattern!r} puts {name!r} in front of {target!r}, which "
                f"{reason}: let each pair lead from a bias to that of its BatchNorm"
            )
        fronts[target] = (name,)
        used.add(pattern)
    for pattern, _ in bias_of:
        if pattern not in used:
            raise ValueError(f"pattern {pattern!r} is the first to match no bias")
    return fronts


def _first_match(name: str, pairs: Sequence[tuple[str, str]]) -> tuple[str | None, str]:
    """The first pattern that matches, and the name with its match replaced."""
    first = first_match([pattern for pattern, _ in pairs], name)
    if first is None:
        return None, name
    i, found = first
    pattern, template = pairs[i]
    start, end = found.span()
    return pattern, name[:start] + expanded(found, template) + name[end:]


def _tensor(name: str, leaf: Any) -> jax.Array:
    dtype = np.dtype(leaf.dtype)
    floating = jnp.issubdtype(dtype, jnp.floating)
    if not floating or jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f"leaf {name!r} is {dtype}: only floating types that JAX computes with can "
            "be folded; convert it, or set jax_enable_x64"
        )
    return jnp.asarray(leaf)


def _check(names: Sequence[str], tensors: Sequence[jax.Array], epsilon: float) -> None:
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
    fronts: Mapping[str, tuple[str]],
    axes: Sequence[tuple[str, int]],
) -> dict[str, jax.Array]:
    """The leaves that change as the scales go on into the kernels in front."""
    patterns = [pattern for pattern, _ in axes]
    used: set[int] = set()
    changed: dict[str, jax.Array] = {}
    for norm in norms:
        for bias in fronts.get(norm.bias, ()):
            name, scale = bias.removesuffix("bias") + "kernel", folded[norm.scale]
            first = first_match(patterns, name)
            axis = None if first is None else axes[first[0]][1]
            used.update(() if first is None else (first[0],))
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
    """A kernel that does what a BatchNorm behind it did by its scale."""
    shape: Any = () if kernel is None else kernel.shape
    at = -1 if axis is None else axis
    fits = len(shape) >= 2 and -len(shape) <= at < len(shape)
    if kernel is None or not fits or shape[at] != scale.size:
        found = "is missing" if kernel is None else f"has shape {shape}"
        where = "last axis" if at == -1 else f"axis {at}"
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
    along[at] = scale.size
    return (kernel * scale.reshape(along)).astype(kernel.dtype)
