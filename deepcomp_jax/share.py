"""Weight sharing over a pytree: groups, codebooks, labels, and the way back.

A weight that is zero stays exactly zero. Every other weight of a group is replaced by
the nearest entry of the group's codebook, found by a clustering method such as those
of `kmeans`. (Han et al. 2016, arXiv 1510.00149, section 3.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from deepcomp_jax import kmeans as _kmeans
from deepcomp_jax import trees
from deepcomp_jax.format import codebook_header
from deepcomp_jax.trees import placement

PRECISE = 2.0**-11  # relative error of half precision, but of very small numbers

# Maps non-zero values `[n]` and their importance `[n]` (or None) to centroids.
Method: TypeAlias = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["codebooks", "labels", "rest"],
    meta_fields=["groups", "treedef"],
)
@dataclass(frozen=True)
class SharedWeights:
    """A network whose weights are shared: a pytree, trained through its codebooks.

    Attributes:
        codebooks: Of each group, `[k]`, ascending until they are trained, in the dtype
            of the group's leaves.
        labels: Of each leaf that is shared, unsigned integers in its shape: 0 is zero
            and j is `codebook[j - 1]`.
        rest: The leaves that are not shared.
        groups: Pairs of a leaf's name and its group, for the leaves that are shared.
        treedef: Of the network's variables.
    """

    codebooks: dict[str, jax.Array]
    labels: dict[str, jax.Array]
    rest: dict[str, jax.Array]
    groups: tuple[tuple[str, str], ...]
    treedef: Any


def kmeans(
    k: int | None = None,
    *,
    bits: int | None = None,
    explained_variance: float | None = None,
) -> Method:
    """The best codebook there is: exact one-dimensional k-means.

    Exactly one argument says how many centroids.

    Args:
        k: That many.
        bits: `2 ** bits`.
        explained_variance: The least number that explains this fraction of the
            variance of the group's non-zero weights, at most 1; at most 256.

    Raises:
        ValueError: Not exactly one of the three is given.
    """
    given = [value for value in (k, bits, explained_variance) if value is not None]
    if len(given) != 1:
        raise ValueError("give exactly one of k, bits and explained_variance")
    if explained_variance is not None:
        return lambda values, importance: _kmeans.by_explained_variance(
            values, explained_variance, importance=importance
        )
    count = k if k is not None else 2 ** (bits or 0)
    return lambda values, importance: _kmeans.optimal(
        values, count, importance=importance
    )


def lloyd(
    k: int,
    *,
    init: Literal["linear", "density", "random"] = "linear",
    seed: int = 0,
    iterations: int = 300,
) -> Method:
    """Lloyd's algorithm, as in the paper: kept for the comparison of its section 3.2.

    Args:
        k: Number of centroids.
        init: First centroids: "linear", "density" or "random".
        seed: For "random".
        iterations: Most steps taken.
    """
    return lambda values, importance: _kmeans.lloyd(
        values,
        k,
        init=init,
        seed=seed,
        importance=importance,
        iterations=iterations,
    )


def nonparametric(penalty: float = 0.02) -> Method:
    """Finds the number of centroids from the data: the slides' second method.

    Args:
        penalty: What a further centroid must save in squared error, in variances of
            the group's weights.
    """
    return lambda values, importance: _kmeans.nonparametric(
        values, penalty=penalty, importance=importance
    )


def uniform(max_error: float) -> Method:
    """Rounds each weight to a multiple of one step, which is as coarse as errors allow.

    The entropy coder makes up for entries that are used seldom, so that this is smaller
    at equal error than k-means, and an outlier costs bits but no precision. Weights
    below half a step become zero. (Gish and Pierce 1968: at high rates a uniform grid
    with an entropy coder is within a quarter of a bit of all that is possible.)

    Args:
        max_error: The most that a weight changes, as a fraction of the root mean square
            of the non-zero weights of its group: no more than that, but for the
            rounding of the dtype, is the relative error of the group in root mean
            square, and about 0.6 of it is typical. Above 0 and below 1; below
            1e-4 it may give more entries than a file can hold.

    Raises:
        ValueError: `max_error` is out of range.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import share
        >>> weights = np.array([0.2, -1.4, -0.2, 1.4])  # their mean square is 1
        >>> share.uniform(0.25)(weights, None).round(2)
        array([-1.5,  0. ,  1.5])
    """
    if not 0 < max_error < 1:
        raise ValueError(f"max_error is {max_error}; it must be above 0 and below 1")

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        del importance
        wide = values.astype(np.float64)
        greatest = np.abs(wide).max()  # squares of small weights would vanish
        rms = greatest * np.sqrt(np.square(wide / greatest).mean())
        step = short(2 * max_error * rms * (1 - PRECISE))  # which may round it up
        return step * np.unique(np.rint(wide / step).astype(np.int64))

    return method


def short(step: float) -> float:
    """A step that is near and takes few bytes in a file.

    Half precision is two bytes shorter than float32, where it is precise: not below
    6e-5 and above 65504. With more bits than float32 has, the entries of a grid could
    not be told from their step.
    """
    with np.errstate(over="ignore"):
        half, single = float(np.float16(step)), float(np.float32(step))
    if abs(half - step) <= PRECISE * step:
        return half
    return single if abs(single - step) <= PRECISE * step else step


def distinct(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """A method that loses no value: an entry for each that there is.

    For weights that are on a grid already. Zero is stored without its sign, so that
    -0.0, which equals it, becomes +0.0.
    """
    del importance
    return np.unique(values)


def with_precision(shared: SharedWeights, dtype: Any) -> SharedWeights:
    """The same network with codebooks rounded to a narrower floating type.

    They keep their own dtype; a file stores them in the narrowest that is exact.

    Args:
        shared: The network.
        dtype: For example "float16" or "bfloat16".

    Raises:
        ValueError: An entry overflows.
    """
    codebooks: dict[str, jax.Array] = {}
    for group, codebook in shared.codebooks.items():
        codebooks[group] = codebook.astype(dtype).astype(codebook.dtype)
        if not bool(jnp.isfinite(codebooks[group]).all()):
            raise ValueError(f"the codebook of {group!r} overflows {np.dtype(dtype)}")
    return with_codebooks(shared, codebooks)


def share(
    variables: Any,
    methods: Sequence[tuple[str, Method | None, str | None]],
    *,
    importance: Any = None,
) -> SharedWeights:
    """Clusters the weights of each group and gives every weight its label.

    Args:
        variables: Any pytree of arrays; zeros are what was pruned.
        methods: Triples of a pattern, a regular expression searched in the leaf's name;
            the method for the leaves that it is the first to match, or None to leave
            them as they are; and the name of the group, in which `\\1` stands for the
            pattern's first group and so on, or None to make each leaf a group.
        importance: How much the squared error of each weight counts, in the structure
            of `variables`; for example the mean squared gradient.

    Raises:
        ValueError: A leaf to be shared is not of a floating type or holds NaN or
            infinity; leaves of one group differ in dtype or method; a method returns
            no centroids or NaN; or a pattern matches no leaf.
    """
    named = trees.named_leaves(variables)
    members, chosen = _groups(named, methods)
    codebooks: dict[str, jax.Array] = {}
    labels: dict[str, jax.Array] = {}
    for group, names in members.items():
        leaves = {name: trees.check_weights(name, named[name]) for name in names}
        counts = weighted(leaves, importance)
        codebook = fit(group, leaves, chosen[group], counts)
        codebooks[group] = jax.device_put(codebook)
        for name in names:
            labels[name] = assign(jax.device_put(named[name]), codebook)
    rest = {name: leaf for name, leaf in named.items() if name not in labels}
    groups = tuple((name, group) for group, ns in members.items() for name in ns)
    return SharedWeights(codebooks, labels, rest, groups, trees.treedef(variables))


def weighted(
    leaves: Mapping[str, Any], importance: Any
) -> dict[str, np.ndarray] | None:
    """The importance of leaves, by name; None if there is none.

    Args:
        leaves: By name, some or all of those of a network.
        importance: In the structure of that network, or None.

    Raises:
        ValueError: A leaf has no importance or one of another shape, or it holds
            negative values, NaN or infinity.
    """
    if importance is None:
        return None
    named = trees.named_leaves(importance)
    found: dict[str, np.ndarray] = {}
    for name, leaf in leaves.items():
        if name not in named:
            raise ValueError(
                f"there is no importance for leaf {name!r}: give it in the structure "
                "of the network, or choose other leaves"
            )
        found[name] = own = np.asarray(named[name])
        if own.shape != np.shape(leaf):
            raise ValueError(
                f"the importance of leaf {name!r} has shape {own.shape}, the leaf "
                f"{np.shape(leaf)}"
            )
        if not (np.isfinite(own).all() and (own >= 0).all()):
            raise ValueError(
                f"the importance of leaf {name!r} is negative, NaN or infinite "
                "somewhere: give mean squared gradients, or the like"
            )
    return found


def assign(weights: jax.Array, codebook: np.ndarray) -> jax.Array:
    """Labels each weight with the nearest entry; ties go to the lower one.

    Args:
        weights: Of the codebook's dtype, any shape.
        codebook: `[k]`, strictly ascending, on the host.

    Returns:
        uint8 for at most 255 entries, else uint16: 0 where the weight is zero, else the
        index in the codebook plus 1.
    """
    if len(codebook) == 0:
        return jnp.zeros(weights.shape, jnp.uint8)
    boundaries = _boundaries(codebook)
    # So codebooks of most sizes share a compiled program.
    size = max(256, 1 << boundaries.size.bit_length())
    padded = np.full(size, np.inf, boundaries.dtype)
    padded[: boundaries.size] = boundaries
    find = partial(_assign, boundaries=jnp.asarray(padded), wide=len(codebook) > 255)
    if (
        isinstance(weights, Tracer)
        or weights.committed
        or trees.on_accelerator(weights)
    ):
        return find(weights)
    # So do leaves of most shapes: a network has hundreds, and a program takes longer
    # to compile than to run. Where there are no copies to make, arrays are NumPy's.
    flat = np.asarray(weights).ravel()
    quarter = 1 << max(flat.size.bit_length() - 3, 8)
    filled = np.pad(flat, (0, -flat.size % quarter))
    return jax.device_put(np.asarray(find(filled))[: flat.size].reshape(weights.shape))


@partial(jax.jit, static_argnames="wide")
def _assign(weights: Any, boundaries: jax.Array, *, wide: bool) -> jax.Array:
    ranks = _ranks(jnp.asarray(weights))
    index = jnp.searchsorted(_ranks(boundaries), ranks, side="left")
    is_zero = (ranks == 0) | (ranks == -1)  # +0.0 and -0.0
    return jnp.where(is_zero, 0, index + 1).astype(jnp.uint16 if wide else jnp.uint8)


def _ranks(values: jax.Array) -> jax.Array:
    """Signed integers in the order of the values, -0.0 right below +0.0.

    To compare floating values, XLA takes subnormal ones for zero on most devices.
    """
    bits = jax.lax.bitcast_convert_type(values, f"int{8 * values.dtype.itemsize}")
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def _boundaries(codebook: np.ndarray) -> np.ndarray:
    """The largest value of the dtype that is no further from the lower neighbour."""
    wide = codebook.astype(np.float64)
    middle = wide[:-1] + (wide[1:] - wide[:-1]) / 2
    rounded = middle.astype(codebook.dtype)
    too_high = rounded.astype(np.float64) > middle
    below = np.nextafter(rounded, np.array(-np.inf, codebook.dtype))
    return np.where(too_high, below, rounded)


def lookup(shared: SharedWeights) -> Any:
    """The network's variables, every weight the entry that its label names.

    Members of a cluster are bit-identical. The derivative with respect to a codebook
    entry is the sum of its members' derivatives (arXiv 1510.00149, section 3.3). Leaves
    that are not shared keep their bits and dtype: those of JAX are copied, since a
    training step may consume what it is given, and those of NumPy stay as they are.
    """
    group_of = dict(shared.groups)
    # What JAX never sees it cannot narrow: a file keeps 64 bits.
    named = {
        name: leaf.copy() if isinstance(leaf, jax.Array) else leaf
        for name, leaf in shared.rest.items()
    }
    for name, labels in shared.labels.items():
        codebook = placement.near(shared.codebooks[group_of[name]], labels)
        named[name] = _entries(codebook, labels)
    in_order = [named[name] for name in trees.names(shared.treedef)]
    return jax.tree.unflatten(shared.treedef, in_order)


@jax.jit
def _entries(codebook: jax.Array, labels: jax.Array) -> jax.Array:
    # Thousands of derivatives are added up here: half precision cannot hold them.
    wide = codebook.astype(jnp.promote_types(codebook.dtype, jnp.float32))
    with_zero = jnp.concatenate([jnp.zeros(1, wide.dtype), wide])
    return with_zero[labels].astype(codebook.dtype)


def with_codebooks(
    shared: SharedWeights, codebooks: Mapping[str, jax.Array]
) -> SharedWeights:
    """The same network with some codebooks replaced, as fine-tuning moves them.

    Args:
        shared: The network.
        codebooks: Of some or all groups, in the shapes and dtypes of those that they
            replace. Entries need not be ascending.

    Raises:
        ValueError: There is no such group, or its codebook is another array.
    """
    if strange := sorted(codebooks.keys() - shared.codebooks.keys()):
        raise ValueError(f"no groups {strange}: there are {sorted(shared.codebooks)}")
    for group, new in codebooks.items():
        old = shared.codebooks[group]
        if (new.shape, new.dtype) != (old.shape, old.dtype):
            raise ValueError(
                f"the codebook of {group!r} is {old.dtype}{list(old.shape)}, not "
                f"{new.dtype}{list(new.shape)}"
            )
    return replace(shared, codebooks=shared.codebooks | dict(codebooks))


def _groups(
    named: Mapping[str, Any],
    methods: Sequence[tuple[str, Method | None, str | None]],
) -> tuple[dict[str, list[str]], dict[str, Method]]:
    """Names of each group's leaves, and each group's method."""
    members: dict[str, list[str]] = {}
    chosen: dict[str, Method] = {}
    patterns = [pattern for pattern, _, _ in methods]
    trees.check_patterns(patterns, named)
    for name in named:
        first = trees.first_match(patterns, name)
        if first is None:
            continue
        i, found = first
        _, method, template = methods[i]
        if method is None:
            continue
        group = name if template is None else trees.expanded(found, template)
        if chosen.setdefault(group, method) is not method:
            raise ValueError(
                f"group {group!r} has leaves of two rules ({name!r} and "
                f"{members[group][0]!r}): give the rules different groups"
            )
        members.setdefault(group, []).append(name)
    return members, chosen


def fit(
    group: str,
    leaves: Mapping[str, Any],
    method: Method,
    importance: Mapping[str, np.ndarray] | None,
) -> np.ndarray:
    """The codebook of a group, strictly ascending, in the dtype of its leaves."""
    dtypes = {str(leaf.dtype) for leaf in leaves.values()}
    if len(dtypes) > 1:
        raise ValueError(
            f"group {group!r} has leaves of dtypes {sorted(dtypes)}: a codebook has "
            "one dtype; give the rules different groups"
        )
    values = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves.values()])
    kept = values != 0
    weights = None
    if importance is not None:
        weights = np.concatenate([importance[name].ravel() for name in leaves])[kept]
        if not weights.any():
            weights = None  # of units that do nothing: all are alike
    if not kept.any():
        return np.zeros(0, values.dtype)
    # A method may go beyond the range of half precision.
    limits = jnp.finfo(values.dtype)
    found = np.asarray(method(values[kept], weights), np.float64)
    if not found.size or np.isnan(found).any():
        raise ValueError(
            f"the method of group {group!r} returned "
            f"{'NaN' if found.size else 'no centroids'} for {kept.sum()} weights: a "
            "sharing method must return one number or more"
        )
    found = found.clip(float(limits.min), float(limits.max))
    codebook = np.unique(found.astype(values.dtype))
    if len(codebook) > codebook_header.MAX_ENTRIES:
        raise ValueError(
            f"the codebook of group {group!r} has {len(codebook)} entries, above "
            f"{codebook_header.MAX_ENTRIES}: share with fewer clusters"
        )
    return codebook
