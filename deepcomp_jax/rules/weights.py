"""Recognizes which leaves of any pytree are weights, by their names and shapes.

A leaf is chosen if its name says that it is a weight, and not because nothing says that
it is something else: no list of the names of statistics, biases and scales is ever
complete, and one rounded variance ruins a network.
"""

import math
import re
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from deepcomp_jax import trees
from deepcomp_jax._errors import listed, warn
from deepcomp_jax.trees import mixed_keys

# The last parts of the names of weights: Linen and NNX (kernel, embedding), PyTorch and
# Equinox (weight, weight_ih_l0, in_proj_weight), Haiku (w, embeddings), ONNX
# (MatMul_12), Paddle (w_0), MaxText and Gemma (wi_0, gating_einsum, linear), and
# adapters (lora_a).
_WEIGHT = re.compile(
    r"(?:.*_)?(?:kernels?|weights?|embeddings?|embed|tables?|einsum|linear|matmul|gemm"
    r"|lora|w[a-z]?)\d*(?:_.*)?"
)
# Tables, whose rows are looked up rather than multiplied, by any part of the name.
_TABLE = re.compile(r".*embed.*|w[tp]e|(?:.*_)?(?:lookup|tables?)(?:_.*)?")
# What is no weight, whatever else its name contains, by the last part of the name.
_NO_WEIGHT = re.compile(
    r"weight_g|(?:.*_)?(?:bias(?:es)?|b|scales?|gains?|norm|mean|var|variance|std|average|count"
    r"|mask|zeros?|zero_points?|offset)\d*(?:_.*)?"
)
_NORM = r".*norm(?!al$|al_).*"  # not those that hold what is normal
# Containers of statistics, of normalizations and of the states of optimizers.
_NO_WEIGHTS = re.compile(
    rf"batch_stats|(?:.*_)?stats|{_NORM}|(?:.*_)?(?:ln|bn|gn|rms)\d*(?:_.*)?"
    r"|opt|optim|opt(?:im)?_?states?|optimizer(?:_states?)?"
    r"|mu|nu|trace|momentums?|momentum_buffer|exp_avg(?:_sq)?|sum_of_squares|v_row|v_col"
)
_NORMALIZATION = re.compile(rf"{_NORM}|(?:.*_)?(?:ln|rms)\d*(?:_.*)?")
_MANY = 0.5  # there is a warning if more of the floating values than this are left out


def find_weights(tree: Any) -> dict[str, bool]:
    """Finds the leaves that are weights.

    A weight is a floating leaf that has at least two axes longer than one and the name
    of a weight. It is not in a normalization, in statistics or in the state of an
    optimizer. States made by optax are recognized by their type, others by names.
    Weights of 64 bits are left out where JAX would cut them to 32.

    Args:
        tree: Any pytree of arrays.

    Returns:
        The names of the weights, and whether each of them is a table.
    """
    return {
        name: any(map(_TABLE.fullmatch, _parts(name)))
        for name, leaf in _weights(tree).items()
        if not trees.is_narrowed(leaf.dtype)
    }


def _weights(tree: Any) -> dict[str, Any]:
    """The leaves that are weights, of any width, by name."""
    of_optimizer = trees.named_leaves(_optimizer_state(tree))
    return {
        name: leaf
        for name, leaf in trees.named_leaves(tree).items()
        if is_floating(leaf) and not of_optimizer[name] and _is_weight(name, leaf)
    }


def normalized_lengths(tree: Any) -> frozenset[int]:
    """The lengths of the vectors in normalizations, known by names.

    Args:
        tree: Any pytree of arrays.
    """
    return frozenset(
        math.prod(leaf.shape)
        for name, leaf in trees.named_leaves(tree).items()
        if is_floating(leaf)
        and max(leaf.shape, default=1) == math.prod(leaf.shape) > 1
        and any(map(_NORMALIZATION.fullmatch, _parts(name)))
    )


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is an array of a floating type of two bytes or more."""
    if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
        return False
    return leaf.dtype.itemsize > 1  # what is narrower was quantized already


def warn_of_others(tree: Any, chosen: Collection[str]) -> None:
    """Warns if most values of a network could be weights but were not chosen.

    Also if weights were not, since JAX would cut them to 32 bits.

    Args:
        tree: Any pytree of arrays.
        chosen: The names of the leaves that were chosen.
    """
    wide = [n for n, x in _weights(tree).items() if trees.is_narrowed(x.dtype)]
    if wide:
        warn(
            f"weights of 64 bits are left as they are, since JAX would cut them to 32 "
            f"({listed(wide)}): set jax_enable_x64, or convert them to float32"
        )
    named = trees.named_leaves(tree)
    sizes = {n: math.prod(x.shape) for n, x in named.items() if is_floating(x)}
    unchosen = sizes.keys() - {*chosen, *wide}
    others = [name for name in unchosen if is_matrix(named[name])]
    others.sort(key=lambda name: (-sizes[name], name))
    left, total = sum(sizes[name] for name in others), sum(sizes.values())
    if left > _MANY * total:
        warn(
            f"{left} of {total} floating values are left as they are, in leaves whose "
            f"names do not say that they are weights ({listed(others)}): give rules "
            "that choose them by name, if they are"
        )


def _parts(name: str) -> list[str]:
    """The parts of a name, which frameworks separate in different ways."""
    return [part for part in re.split(r"[/.:]+", name.lower()) if part]


def is_matrix(leaf: Any) -> bool:
    """Whether a leaf has at least two axes longer than one."""
    return sum(length > 1 for length in leaf.shape) >= 2


def _is_weight(name: str, leaf: Any) -> bool:
    if not is_matrix(leaf):
        return False
    *containers, last = _parts(name) or [""]
    if _NO_WEIGHT.fullmatch(last) or not _WEIGHT.fullmatch(last):
        return False
    return not any(map(_NO_WEIGHTS.fullmatch, containers))


def _optimizer_state(tree: Any) -> Any:
    """Tells of each leaf of a tree whether it is within a state of optax."""

    def is_state(node: Any) -> bool:
        return type(node).__module__.partition(".")[0] == "optax"

    def mark(node: Any) -> Any:
        return jax.tree.map(lambda _: True, node) if is_state(node) else False

    return jax.tree.map(mark, mixed_keys.sortable(tree), is_leaf=is_state)
