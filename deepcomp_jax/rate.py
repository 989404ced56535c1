"""Rate-distortion quantisation: labels that are cheap to code and cost little quality.

The nearest entry of a codebook is the best label only if all labels cost the same.
They do not: a frequent entry takes two bits, a rare one seven, and a weight that
becomes zero gives back the bits of its position. Here each weight gets the label that
makes

    importance * (weight - value)**2 + penalty * bits

least, where bits are those of the density coding's model for these very labels; model
and labels are found in turns. (Entropy-constrained quantisation: Chou, Lookabaugh and
Gray 1989; for networks, Choi, El-Khamy and Lee, arXiv 1612.01543, and Wiedemann et al.,
arXiv 1907.11900.)
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import share, trees
from deepcomp_jax.codings import Leaf, density, prices
from deepcomp_jax.share import Method, SharedWeights

_ROUNDS = 4
_MAX_GRID = 1000  # steps of a grid
PRECISE = 2.0**-11  # relative error of half precision, but of very small numbers
_CHUNK = 1 << 20  # prices of weights that are compared at a time


def grid(step: float) -> Method:
    """A uniform grid around zero, out to the largest weight on either side.

    With rate-distortion quantisation and an entropy coder it is better than k-means
    (arXiv 1612.01543, table 1), and it takes a few bytes in a file.

    Args:
        step: Between entries; is raised where there would be more than 1000 of them.

    Raises:
        ValueError: The step is not positive and finite.
    """
    if not 0 < step < np.inf:
        raise ValueError(f"the step of a grid must be positive and finite, got {step}")

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        del importance
        low, high = min(float(values.min()), 0), max(float(values.max()), 0)
        own = _short(max(step, (high - low) / _MAX_GRID))
        factors = np.arange(round(low / own), round(high / own) + 1)
        factors = np.union1d(factors, [-1, 1])
        return own * factors[factors != 0]

    return method


def _short(step: float) -> float:
    """The step in half precision, two bytes shorter in a file, where that is precise.

    It is not below 6e-5 and above 65504.
    """
    with np.errstate(over="ignore"):
        half = float(np.float16(step))
    return half if abs(half - step) <= PRECISE * step else step


def penalty_of(step: float, importance: float) -> float:
    """The penalty that suits a uniform grid.

    At high rates a step d causes a distortion of d**2 / 12 and changes by a factor of
    two for each bit; a bit is worth just the penalty where that is
    ln 2 / 6 * importance * d**2.

    Args:
        step: Of the grid.
        importance: Mean of the weights'.
    """
    return math.log(2) / 6 * importance * step**2


def suited(penalty: float) -> Method:
    """A uniform grid whose step suits a penalty, the inverse of `penalty_of`.

    Args:
        penalty: What a bit costs, as for `optimise`; above 0.
    """

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        mean = 1.0 if importance is None else float(importance.mean())
        step = math.sqrt(penalty / penalty_of(1.0, max(mean, 1e-30)))
        return grid(step)(values, importance)

    return method


# Not the running statistics of BatchNorm: a variance must not become zero.
TRAINED = (r"^(?!batch_stats/|(?:.*/)?(?:mean|var)$)",)


def chosen(variables: Any, patterns: str | Sequence[str]) -> dict[str, Any]:
    """The floating leaves whose names one of the patterns matches, by name.

    Raises:
        ValueError: A pattern other than `TRAINED` matches no leaf.
    """
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    named = trees.named_leaves(variables)
    trees.check_patterns([p for p in patterns if p not in TRAINED], named)
    return {
        name: leaf
        for name, leaf in named.items()
        if hasattr(leaf, "dtype")
        and jnp.issubdtype(leaf.dtype, jnp.floating)
        and any(trees.matches(pattern, name) for pattern in patterns)
    }


def quantise(
    variables: Any,
    patterns: str | Sequence[str] = TRAINED,
    *,
    penalty: float,
    importance: Any = None,
) -> SharedWeights:
    """Puts weights on uniform grids and chooses their labels by distortion and rate.

    Args:
        variables: Any pytree of arrays; zeros are what was pruned and stay zero.
        patterns: Regular expressions, or one, searched in the names of leaves. Each
            floating leaf that one of them matches gets a grid of its own, whose step
            follows from the penalty and the leaf's mean importance. All leaves unless
            told otherwise, but those named `mean` and `var` and the collection
            `batch_stats`: running statistics are no weights.
        penalty: What a bit costs, in the unit of the distortion; above 0.
        importance: As for `optimise`.

    Returns:
        The network, ready for `pipeline.pack`.

    Raises:
        ValueError: The penalty is not positive and finite, a leaf cannot be shared, or
            a pattern matches none.
    """
    if not 0 < penalty < np.inf:
        raise ValueError(f"penalty must be positive and finite, got {penalty}")
    methods = [
        (f"^{re.escape(name)}$", suited(penalty), None)
        for name in chosen(variables, patterns)
    ]
    shared = share.share(variables, methods, importance=importance)
    return optimise(shared, variables, penalty=penalty, importance=importance)


def optimise(
    shared: SharedWeights,
    variables: Any,
    *,
    penalty: float,
    importance: Any = None,
) -> SharedWeights:
    """Chooses the labels of a shared network anew, by distortion and rate.

    What is zero stays zero; what is not may become zero. Codebooks stay as they are.

    Args:
        shared: The network, with codebooks of any method; a uniform grid
            (`grid`) suits best.
        variables: The weights before sharing, in the structure that was shared.
        penalty: What a bit costs, in the unit of the distortion; 0 gives every weight
            its nearest entry or zero.
        importance: How much the squared error of each weight counts, in the structure
            of `variables`: twice the loss that it causes, if these are mean squared
            gradients. None counts all alike.

    Returns:
        The network with other labels.

    Raises:
        ValueError: The penalty is negative or not finite, or a codebook has more
            entries than the density coding, whose bits count here, can hold.
    """
    if not 0 <= penalty < np.inf:
        raise ValueError(f"penalty must be finite and not negative, got {penalty}")
    for group, codebook in shared.codebooks.items():
        if codebook.size > density.MAX_ENTRIES:
            raise ValueError(
                f"the codebook of {group!r} has {codebook.size} entries, above "
                f"{density.MAX_ENTRIES}: share with fewer clusters"
            )
    named = trees.named_leaves(variables)
    counts = share.weighted({name: named[name] for name in shared.labels}, importance)
    labels = dict(shared.labels)
    for name, group in shared.groups:
        weights = np.asarray(named[name], np.float32)
        own = np.ones_like(weights) if counts is None else counts[name]
        codebook = np.asarray(shared.codebooks[group], np.float32)
        old = np.asarray(labels[name])
        new = _labels(weights, own, codebook, old, penalty)
        labels[name] = jnp.asarray(new.astype(old.dtype))
    return replace(shared, labels=labels)


def _labels(
    weights: np.ndarray,
    importance: np.ndarray,
    codebook: np.ndarray,
    labels: np.ndarray,
    penalty: float,
) -> np.ndarray:
    """The labels of one leaf, in its shape."""
    if not codebook.size or not labels.size:
        return labels
    alive = np.flatnonzero(labels)
    values = weights.ravel()[alive]
    costs = importance.ravel()[alive]
    now = labels.ravel().astype(np.int64)
    leaf = Leaf(labels.shape, codebook.size, int(np.count_nonzero(codebook < 0)))
    at_a_time = max(1, _CHUNK // codebook.size)
    # The first round prices no bits: that nothing is zero yet would make zeros dear.
    for bit in (0.0, *[penalty] * _ROUNDS):
        found = prices(now, leaf, at=alive)
        for first in range(0, alive.size, at_a_time):
            part = slice(first, first + at_a_time)
            error = (values[part, None] - codebook) ** 2 * costs[part, None]
            index = found.indices[found.table[part]]
            price = error + bit * (found.kept[part, None] + index)
            best = price.argmin(axis=1)
            gone = values[part] ** 2 * costs[part] + bit * found.pruned[part]
            stays = price[np.arange(best.size), best] < gone
            now[alive[part]] = np.where(stays, best + 1, 0)
        if not now.any():
            break
    return now.reshape(labels.shape)


def squared_gradients(
    loss: Callable[..., jax.Array], params: Any, batches: Iterable[Any]
) -> Any:
    """Mean squared gradients: how much a small change of each weight matters.

    The diagonal of the empirical Fisher matrix, up to a factor for the size of the
    batches: with one example a batch, `0.5 * sum(this * change**2)` estimates how much
    the mean loss grows by a change (LeCun, Denker and Solla 1990, with the Hessian
    replaced by squared gradients).

    Args:
        loss: `loss(params, batch)`, a scalar; is jitted here.
        params: Any pytree of floating arrays.
        batches: One or more.

    Returns:
        Non-negative arrays in the structure of `params`, of float32 at least.

    Raises:
        ValueError: There is no batch.
    """

    @jax.jit
    def add(total: Any, batch: Any) -> Any:
        gradients = jax.grad(loss)(params, batch)
        return jax.tree.map(
            lambda t, g: t + jnp.square(g.astype(t.dtype)), total, gradients
        )

    def zeros(leaf: jax.Array) -> jax.Array:
        return jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32))

    total, count = jax.tree.map(zeros, params), 0
    for batch in batches:
        total, count = add(total, batch), count + 1
    if not count:
        raise ValueError("importance needs at least one batch")
    return jax.tree.map(lambda t: t / count, total)
