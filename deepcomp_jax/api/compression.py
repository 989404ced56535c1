"""From a network to what a file holds, and back."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import prune, share, trees
from deepcomp_jax._errors import listed
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf
from deepcomp_jax.device import put_on_cpu
from deepcomp_jax.format import container, few_values
from deepcomp_jax.format.dtypes import FLOATING, check_dtype
from deepcomp_jax.rules import Followed, Rule, ShareMethod, resolve
from deepcomp_jax.rules.weights import find_weights, warn_of_others
from deepcomp_jax.share.weights import SharedWeights, share_leaves

# The most that the default rules change a weight, in root mean squares of its leaf.
WEIGHT_ERROR = 0.035
TABLE_ERROR = 0.08  # a row is looked up alone: its errors are not added up in products

# A leaf of so many values is quantized already, and one of so many times as many as
# rounding would leave was rounded before: rounding has moved the root mean square.
_FEW = 256
_ROUNDED = 2
_BLOCK = 1 << 16  # labels that are looked up at a time

_Numbered: TypeAlias = dict[object, tuple[int, np.ndarray]]  # codebooks by contents


def default_rules(variables: Any) -> list[Rule]:
    """Rules that change any trained network little, without data or retraining.

    Nothing is pruned. Kernels, weights and tables of embeddings, known by their names
    and shapes whether stacked or not, are rounded to multiples of a step: no weight of
    a product moves by more than 3.5 % of the root mean square of the non-zero weights
    of its leaf, none of a table by more than 8 %. Leaves that are quantized already, to
    256 values or fewer, keep them all, and so does what these rules rounded before.
    Everything else stays as it is, bit for bit: biases, scales, statistics of
    normalizations, the state of optimizers, and leaves of other names; a warning says
    so where that is most of the network, and where weights stay that are of float64,
    which JAX cuts unless `jax_enable_x64` is set.

    Args:
        variables: Any pytree of arrays.

    Returns:
        At most two rules: of tables, and of other weights.

    Examples:
        >>> import numpy as np, deepcomp_jax as dc
        >>> tree = {"dense": {"kernel": np.eye(4, dtype="f4"), "bias": np.ones(4)}}
        >>> [rule.pattern for rule in dc.default_rules(tree)]
        ['^(?:dense/kernel)$']
    """
    found = find_weights(variables)
    warn_of_others(variables, found)
    rules = []
    for error, tables in ((TABLE_ERROR, True), (WEIGHT_ERROR, False)):
        names = [re.escape(name) for name, table in found.items() if table == tables]
        if names:
            pattern = f"^(?:{'|'.join(names)})$"
            rules.append(Rule(pattern, share=_rounded_if_many(error)))
    return rules


def _rounded_if_many(error: float) -> ShareMethod:
    """Rounding, but of values that are few already, which are kept."""
    rounded = share.uniform(error)

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        grid = rounded(values, importance)
        own = few_values.found(values)
        if own is None or own.size > max(_FEW, _ROUNDED * grid.size):
            return grid
        return own

    return method


def compress(
    variables: Any, rules: Sequence[Rule] | None = None, *, importance: Any = None
) -> Compressed:
    """Prunes a network and shares its weights: what `save` writes.

    Compressing what was decompressed gives the same again by the default rules, or if
    rules prune nothing, ask for as many centroids as before (`share.kmeans` by `k` or
    `bits`, `share.lloyd`, `share.distinct`) and there is no importance. Methods that
    choose the number from the weights (`explained_variance`, `share.nonparametric`)
    choose anew, mostly fewer, and so does `share.scaled` the scales.

    Args:
        variables: Any pytree of arrays: Linen variables, NNX state, dictionaries and
            lists.
        rules: First match wins; None takes `default_rules(variables)`, and warns where
            they leave most of the network as it is.
        importance: Optional weight of each value's squared error in the clustering, in
            the structure of `variables`.

    Raises:
        ValueError: A weight to be pruned or shared is NaN or infinite, two leaves have
            one name, no file can hold a leaf, a rule does not fit its leaves, there
            are none whose names it matches, or a part of it has no effect.

    Examples:
        >>> import jax, deepcomp_jax as dc
        >>> kernel = jax.random.normal(jax.random.key(0), (300, 100))
        >>> variables = {"params": {"kernel": kernel, "bias": kernel[0]}}
        >>> rule = dc.Rule(
        ...     "kernel$", prune=dc.prune.by_std(1.5), share=dc.share.kmeans(16)
        ... )
        >>> data = dc.dumps(dc.compress(variables, [rule]))
        >>> 4 * kernel.size, len(data) < 6000
        (120000, True)
    """
    if isinstance(variables, Compressed | SharedWeights):
        verb = "save" if isinstance(variables, Compressed) else "pack"
        raise TypeError(
            f"compress takes a network, got {type(variables).__name__}, which is one "
            f"already compressed: give it to dc.{verb}"
        )
    named = trees.named_leaves(variables)
    check_arrays(named)
    if rules is None:
        rules = default_rules(variables)
    followed = resolve(rules, named)
    treedef = trees.treedef(variables)
    shared = share_pruned(named, followed, treedef, importance)
    return _pack(shared, rules, followed)


def share_pruned(
    named: Mapping[str, Any],
    followed: Mapping[str, Followed],
    treedef: Any,
    importance: Any = None,
) -> SharedWeights:
    """Prunes leaves and shares their weights, by rules that are known."""
    masks = prune.leaf_masks(named, followed)
    # The others stay what they are, which need not be arrays that JAX can have.
    pruned = dict(named) | prune.apply({name: named[name] for name in masks}, masks)
    return share_leaves(pruned, followed, treedef, importance)


def pack(shared: SharedWeights, rules: Sequence[Rule] = ()) -> Compressed:
    """Brings a network with shared weights to the host, ready to be written.

    Codebooks are put in ascending order; entries that no weight uses are left out. A
    leaf that is not shared but holds one value only becomes a codebook of one entry,
    and one of few distinct values, of whole numbers of eight bits or of float8 one of
    all its values, where that makes a smaller file.

    Args:
        shared: The network, as `share.share` made it or fine-tuning left it.
        rules: For their `coding` and `gap_bits`.

    Raises:
        ValueError: A codebook holds NaN or infinity, no file can hold a leaf, or a
            rule has a coding but is the first to match no leaf that has labels.

    Examples:
        >>> import jax.numpy as jnp, deepcomp_jax as dc
        >>> rules = [dc.Rule("kernel", share=dc.share.kmeans(2))]
        >>> shared = dc.share.share({"kernel": jnp.array([1.0, 1.2, 3.0])}, rules)
        >>> dc.pack(shared, rules).codebooks
        (array([1.1, 3. ], dtype=float32),)
    """
    if not isinstance(shared, SharedWeights):
        raise TypeError(
            f"pack takes what share.share returned, got a {type(shared).__name__}: use "
            "dc.compress for a network"
        )
    names = [*shared.labels, *shared.rest]
    return _pack(shared, rules, resolve(rules, names))


def _pack(
    shared: SharedWeights, rules: Sequence[Rule], followed: Mapping[str, Followed]
) -> Compressed:
    packed = pack_leaves(shared, followed)
    labeled = {
        name for name, (leaf, _) in packed.items() if isinstance(leaf, SharedLeaf)
    }
    check_codings(rules if packed else (), followed, labeled)
    return assembled(shared.treedef, packed)


def assembled(treedef: Any, packed: Mapping[str, "Packed"]) -> Compressed:
    """The network of leaves that are ready, each codebook in it once.

    Args:
        treedef: Of the network's variables.
        packed: The leaves by name, as `pack_leaves` gives them.
    """
    named = jax.tree.unflatten(treedef, trees.names(treedef))
    structure, names = trees.structure(named)
    codebooks: _Numbered = {}  # in order of first use
    leaves: list[DenseLeaf | SharedLeaf] = []
    for name in names:
        leaf, codebook = packed[name]
        if codebook is not None and isinstance(leaf, SharedLeaf):
            number = codebooks.setdefault(
                (codebook.dtype, codebook.tobytes()), (len(codebooks), codebook)
            )[0]
            leaf = leaf._replace(codebook=number)
        leaves.append(leaf)
    return Compressed(structure, tuple(leaves), tuple(c for _, c in codebooks.values()))


Packed: TypeAlias = tuple[DenseLeaf | SharedLeaf, np.ndarray | None]


def pack_leaves(
    shared: SharedWeights, followed: Mapping[str, Followed]
) -> dict[str, Packed]:
    """Leaves as a file has them, by name, each with its codebook if it has one.

    Args:
        shared: The network, or some leaves of one.
        followed: The rules that they follow.
    """
    check_arrays(shared.rest)
    entries, labels = _canonical(shared)
    group_of = dict(shared.groups)
    packed: dict[str, Packed] = {}
    for name in (*labels, *shared.rest):
        rule = followed[name].rule if name in followed else None
        if name in labels:
            own, codebook = labels[name], entries[group_of[name]]
            leaf = SharedLeaf(own, 0, *_coding(rule, own.ndim))
            if codebook.size and name in shared.scales:
                leaf = leaf._replace(scales=shared.scales[name].as_scales())
            packed[name] = leaf, codebook
            continue
        values = _on_host(name, shared.rest[name])
        if found := container.as_labels(values, put_on_cpu):
            leaf, codebook = found
            if rule is not None and rule.coding is not None:
                coding, gap_bits = _coding(rule, values.ndim)
                leaf = leaf._replace(coding=coding, gap_bits=gap_bits)
            packed[name] = leaf, codebook
        elif _is_constant(values):
            ones = np.ones(values.shape, np.uint8)
            leaf = SharedLeaf(ones, 0, *_coding(rule, ones.ndim))
            packed[name] = leaf, values.ravel()[:1]
        else:
            packed[name] = DenseLeaf(values), None
    return packed


def check_codings(
    rules: Sequence[Rule], followed: Mapping[str, Followed], labeled: Collection[str]
) -> None:
    """Rejects codings that would do nothing without a word.

    Args:
        rules: What was asked for.
        followed: The rules that leaves follow.
        labeled: Names of the leaves that have labels.
    """
    coded = [followed[name].rule for name in labeled if name in followed]
    for rule in rules:
        if rule.coding is not None and not any(rule is other for other in coded):
            raise ValueError(
                f"rule {rule.pattern!r}: coding={rule.coding!r} has no effect, since "
                "no leaf that follows the rule has labels: give the rule a sharing "
                "method, or leave the coding out"
            )


def check_arrays(named: Mapping[str, Any]) -> None:
    """Rejects what no file can hold, such as the functions in Equinox modules."""
    numbers = (bool, int, float, complex)
    strange = [
        f"{name!r} ({type(leaf).__name__})"
        for name, leaf in named.items()
        if not (hasattr(leaf, "dtype") or isinstance(leaf, numbers))
    ]
    if strange:
        raise ValueError(
            f"leaves that are no arrays: {listed(strange)}; "
            "leave them out, of Equinox by eqx.filter(model, eqx.is_array)"
        )
    for name, leaf in named.items():
        # Random keys have no dtype of NumPy; what is said of them says what to do.
        if isinstance(dtype := getattr(leaf, "dtype", None), np.dtype):
            check_dtype(name, dtype)


def _on_host(name: str, leaf: Any) -> np.ndarray:
    """A leaf in the byte order of this machine, whatever becomes of the original."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"leaf {name!r} is a random key, which no file can hold: leave such "
            "leaves out, of NNX by nnx.state(model, nnx.Not(nnx.RngState))"
        )
    array = np.asarray(leaf)
    native = array.dtype.newbyteorder("=")
    return array.astype(native, copy=isinstance(leaf, np.ndarray))


def _is_constant(leaf: np.ndarray) -> bool:
    """Whether a floating leaf holds one finite value other than zero, many times."""
    if leaf.size < 2 or leaf.dtype not in FLOATING:
        return False
    first = leaf.ravel()[0]
    return bool(np.isfinite(first) and first != 0 and (leaf == first).all())


def decompress(compressed: Compressed) -> Any:
    """Rebuilds the network: NumPy arrays in the containers it was made from.

    Examples:
        >>> import numpy as np, deepcomp_jax as dc
        >>> dc.decompress(dc.compress({"bias": np.arange(3)}))
        {'bias': array([0, 1, 2])}
    """
    check_compressed(compressed)
    return container.variables(compressed)


def check_compressed(value: Any) -> None:
    """Says what to do with something else than what `compress` or `pack` returned."""
    if isinstance(value, Compressed):
        return
    if isinstance(value, SharedWeights):
        what = "pack it first: dc.pack(shared)"
    elif hasattr(value, "compressed"):
        what = "give its `compressed`"
    else:
        what = "compress the network first: dc.compress(variables)"
    raise TypeError(
        f"this takes what compress or pack returned, got a {type(value).__name__}: "
        f"{what}"
    )


def _coding(rule: Rule | None, ndim: int) -> tuple[str | None, int | None]:
    if rule is None or rule.coding != "relative":
        return (rule.coding if rule else None), None
    return rule.coding, rule.gap_bits or (8 if ndim > 2 else 5)


def _canonical(
    shared: SharedWeights,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Codebooks ascending and without idle entries, and labels that fit them."""
    members: dict[str, list[str]] = {}
    for name, group in shared.groups:
        members.setdefault(group, []).append(name)
    entries: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for group, names in members.items():
        codebook = np.asarray(shared.codebooks[group])
        if not np.isfinite(codebook.astype(np.float64)).all():
            raise ValueError(
                f"the codebook of group {group!r} holds NaN or infinity: fine-tuning "
                "diverged: lower the learning rate or restore an earlier checkpoint"
            )
        old = {name: np.asarray(shared.labels[name]) for name in names}
        used = np.zeros(len(codebook) + 1, bool)
        for array in old.values():
            for own in _blocks(array):
                used |= np.bincount(own, minlength=len(used)) > 0
        values = np.concatenate([np.zeros(1, codebook.dtype), codebook])
        # Fine-tuning may have moved an entry to zero: its weights are zero then.
        used &= values != 0
        entries[group] = np.unique(values[used])
        new = np.zeros(len(used), np.min_scalar_type(len(entries[group])))
        new[used] = np.searchsorted(entries[group], values[used]) + 1
        for name, array in old.items():
            taken = [new.take(own) for own in _blocks(array)]
            labels[name] = np.concatenate(taken).reshape(array.shape)
    return entries, labels


def _blocks(labels: np.ndarray) -> list[np.ndarray]:
    """Labels in parts, of which NumPy makes indices of eight bytes one at a time."""
    return np.split(labels.ravel(), range(_BLOCK, labels.size, _BLOCK))
