"""Networks whose weights are shared: how they are made, and the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax.format import scales
from deepcomp_jax.rules import Followed, Rule, ShareMethod, resolve
from deepcomp_jax.share import scaling
from deepcomp_jax.share.fitting import weighted
from deepcomp_jax.share.scaling import AxisExponents
from deepcomp_jax.trees import placement


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["codebooks", "labels", "rest", "scales"],
    meta_fields=["groups", "treedef"],
)
@dataclass(frozen=True, repr=False)
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
        scales: Of each leaf whose entries are multiplied by scales of rows and columns,
            their exponents, see `scaling`; they are not trained.
    """

    codebooks: dict[str, jax.Array]
    labels: dict[str, jax.Array]
    rest: dict[str, jax.Array]
    groups: tuple[tuple[str, str], ...]
    treedef: Any
    scales: dict[str, AxisExponents] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"SharedWeights({len(self.labels) + len(self.rest)} leaves, "
            f"{len(self.labels)} of them with labels, {len(self.codebooks)} codebooks)"
        )


def share(
    variables: Any, rules: Sequence[Rule], *, importance: Any = None
) -> SharedWeights:
    """Clusters the weights of each group and gives every weight its label.

    Args:
        variables: Any pytree of arrays; zeros are what was pruned.
        rules: For their `share` and `group`.
        importance: How much the squared error of each weight counts, in the structure
            of `variables`; for example the mean squared gradient.

    Raises:
        ValueError: A leaf to be shared is not of a floating type or holds NaN or
            infinity; leaves of one group differ in dtype or rule; a method returns no
            centroids or NaN; or a rule matches no leaf.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import Rule, share
        >>> params = {"kernel": jnp.array([[0.9, 1.1], [0.0, -2.0]])}
        >>> shared = share.share(params, [Rule("kernel", share=share.kmeans(2))])
        >>> shared.codebooks["kernel"], shared.labels["kernel"]
        (Array([-2.,  1.], dtype=float32), Array([[2, 2],
               [0, 1]], dtype=uint8))
        >>> share.lookup(shared)["kernel"]
        Array([[ 1.,  1.],
               [ 0., -2.]], dtype=float32)
    """
    named = trees.named_leaves(variables)
    followed = resolve(rules, named)
    shared = share_leaves(named, followed, trees.treedef(variables), importance)
    codebooks, labels = jax.device_put((shared.codebooks, shared.labels))
    return replace(shared, codebooks=codebooks, labels=labels)


def share_leaves(
    named: Mapping[str, Any],
    followed: Mapping[str, Followed],
    treedef: Any,
    importance: Any = None,
) -> SharedWeights:
    """Does what `share` does, with names and rules that are known.

    Codebooks, and the labels of leaves that the host can see, are arrays of NumPy.

    Args:
        named: All leaves, by name.
        followed: The rules that they follow, from `rules.resolve`.
        treedef: Of the network's variables.
        importance: As for `share`.
    """
    members, methods = _groups(followed)
    codebooks: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    exponents: dict[str, AxisExponents] = {}
    for group, names in members.items():
        leaves = {name: trees.check_weights(name, named[name]) for name in names}
        counts = weighted(leaves, importance)
        found = scaling.shared(group, leaves, methods[group], counts)
        codebooks[group] = found[0]
        labels |= found[1]
        exponents |= found[2]
    rest = {name: leaf for name, leaf in named.items() if name not in labels}
    groups = tuple((name, group) for group, ns in members.items() for name in ns)
    return SharedWeights(codebooks, labels, rest, groups, treedef, exponents)


def lookup(shared: SharedWeights) -> Any:
    """The network's variables, every weight the entry that its label names.

    Where there are scales, it is that entry times those of its row and its column.
    Members of a cluster are bit-identical. The derivative with respect to a codebook
    entry is the sum of its members' derivatives (arXiv 1510.00149, section 3.3). Leaves
    that are not shared keep their bits and dtype: those of JAX are copied, since a
    training step may consume what it is given, and those of NumPy stay as they are.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import Rule, share
        >>> params = {"w": jnp.array([1.0, 2.0, 9.0, 0.0])}
        >>> shared = share.share(params, [Rule("w", share=share.kmeans(2))])
        >>> share.lookup(shared)
        {'w': Array([1.5, 1.5, 9. , 0. ], dtype=float32)}
    """
    group_of = dict(shared.groups)
    # What JAX never sees it cannot narrow: a file keeps 64 bits.
    named = {
        name: leaf.copy() if isinstance(leaf, jax.Array) else leaf
        for name, leaf in shared.rest.items()
    }
    for name, labels in shared.labels.items():
        codebook = placement.near(shared.codebooks[group_of[name]], labels)
        named[name] = _entries(codebook, labels, shared.scales.get(name))
    in_order = [named[name] for name in trees.names(shared.treedef)]
    return jax.tree.unflatten(shared.treedef, in_order)


@jax.jit
def _entries(
    codebook: jax.Array, labels: jax.Array, exponents: AxisExponents | None
) -> jax.Array:
    # Thousands of derivatives are added up here: half precision cannot hold them.
    wide = trees.widened(codebook)
    with_zero = jnp.concatenate([jnp.zeros(1, wide.dtype), wide])
    found = with_zero[labels]
    for own in exponents or ():
        found = found * jnp.asarray(scales.TABLE)[own.astype(jnp.uint8)]
    return found.astype(codebook.dtype)


def replace_codebooks(
    shared: SharedWeights, codebooks: Mapping[str, jax.Array]
) -> SharedWeights:
    """The same network with some codebooks replaced, as fine-tuning moves them.

    Args:
        shared: The network.
        codebooks: Of some or all groups, in the shapes and dtypes of those that they
            replace. Entries need not be ascending.

    Raises:
        ValueError: There is no such group, or its codebook is another array.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import Rule, share
        >>> params = {"w": jnp.array([1.0, 2.0, 9.0])}
        >>> shared = share.share(params, [Rule("w", share=share.kmeans(2))])
        >>> tuned = share.replace_codebooks(shared, {"w": jnp.array([1.25, 9.5])})
        >>> share.lookup(tuned)
        {'w': Array([1.25, 1.25, 9.5 ], dtype=float32)}
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


def cast_codebooks(shared: SharedWeights, dtype: Any) -> SharedWeights:
    """The same network with codebooks rounded to a narrower floating type.

    They keep their own dtype; a file stores them in the narrowest that is exact.

    Args:
        shared: The network.
        dtype: For example "float16" or "bfloat16".

    Raises:
        ValueError: An entry overflows.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import Rule, share
        >>> params = {"w": jnp.array([0.1])}
        >>> shared = share.share(params, [Rule("w", share=share.distinct)])
        >>> share.cast_codebooks(shared, "float16").codebooks["w"]
        Array([0.09997559], dtype=float32)
    """
    codebooks: dict[str, jax.Array] = {}
    for group, codebook in shared.codebooks.items():
        codebooks[group] = codebook.astype(dtype).astype(codebook.dtype)
        if not bool(jnp.isfinite(codebooks[group]).all()):
            raise ValueError(f"the codebook of {group!r} overflows {np.dtype(dtype)}")
    return replace_codebooks(shared, codebooks)


def _groups(
    followed: Mapping[str, Followed],
) -> tuple[dict[str, list[str]], dict[str, ShareMethod]]:
    """Names of each group's leaves, and each group's method."""
    members: dict[str, list[str]] = {}
    methods: dict[str, ShareMethod] = {}
    for name, (rule, group) in followed.items():
        if rule.share is None:
            continue
        methods[group] = rule.share
        members.setdefault(group, []).append(name)
    return members, methods
