"""The five verbs: compress, decompress, save, load, report."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import (
    _devices,
    account,
    codings,
    container,
    gaps,
    lanes,
    prune,
    share,
    trees,
)
from deepcomp_jax._dtypes import FLOATING
from deepcomp_jax._types import Compressed, Dense, Shared
from deepcomp_jax.prune import Method as PruningMethod
from deepcomp_jax.share import Method as SharingMethod

Place: TypeAlias = Any  # jax.Device or jax.sharding.Sharding; the first is no type yet


@dataclass(frozen=True)
class Rule:
    """How the leaves are compressed whose names match a pattern.

    A leaf follows the first rule that matches it. One that no rule matches is stored
    as it is.

    Attributes:
        pattern: Regular expression, searched in the leaf's name ("params/fc1/kernel").
        prune: Pruning method, such as `prune.by_std(0.5)`; None keeps every weight.
        share: Sharing method, such as `share.kmeans(bits=5)`; None keeps every value.
        group: Name of the group of leaves that share one codebook, in which `\\1`
            stands for the pattern's first group; None makes each leaf a group.
        coding: How labels are written: "packed", "relative" (the paper's), "dense" or
            "density"; None takes what makes the smallest file.
        gap_bits: Of the relative coding: width of the symbols that code positions, 1 to
            16; None takes the paper's 8 for convolutions (over two dimensions) and 5
            for dense layers.

    Raises:
        ValueError: There is no such coding, or `gap_bits` are out of range or those of
            another coding.
    """

    pattern: str
    prune: PruningMethod | None = None
    share: SharingMethod | None = None
    group: str | None = None
    coding: str | None = None
    gap_bits: int | None = None

    def __post_init__(self) -> None:
        """Finds mistakes where they are made."""
        if self.coding is not None and self.coding not in codings.ALL:
            raise ValueError(
                f"rule {self.pattern!r}: no coding {self.coding!r}, choose one of "
                f"{list(codings.ALL)} or None"
            )
        if self.gap_bits is None:
            return
        if self.coding != "relative" or not 1 <= self.gap_bits <= gaps.MAX_BITS:
            raise ValueError(
                f"rule {self.pattern!r}: gap_bits={self.gap_bits} must be 1 to "
                f"{gaps.MAX_BITS}, with coding='relative'"
            )


def default_rules(variables: Any) -> list[Rule]:
    """Rules that change a trained network little, without any retraining.

    Every floating leaf of two dimensions or more (kernels, embeddings) loses the
    weights smaller than a quarter of its standard deviation and keeps 32 distinct
    values. Biases, BatchNorm values and counters stay as they are.

    Args:
        variables: Any pytree of arrays.
    """
    return [
        Rule(f"^{re.escape(name)}$", prune.by_std(0.25), share.kmeans(bits=5))
        for name, leaf in trees.named_leaves(variables).items()
        if np.ndim(leaf) >= 2 and leaf.dtype in FLOATING
    ]


def compress(
    variables: Any, rules: Sequence[Rule] | None = None, *, importance: Any = None
) -> Compressed:
    """Prunes a network and shares its weights: what `save` writes.

    Compressing what was decompressed, with rules that prune nothing, gives the same
    again.

    Args:
        variables: Any pytree of arrays: Linen variables, NNX state, dictionaries and
            lists.
        rules: First match wins; None takes `default_rules(variables)`.
        importance: Optional weight of each value's squared error in the clustering, in
            the structure of `variables`.

    Raises:
        ValueError: A weight to be pruned or shared is NaN or infinite, two leaves have
            one name, no file can hold a leaf, a rule does not fit its leaves, or there
            are none whose names it matches.
    """
    if rules is None:
        rules = default_rules(variables)
    named = trees.named_leaves(variables)
    masks = prune.masks(named, [(rule.pattern, rule.prune) for rule in rules])
    leaves = {n: named[n] for n in named if (rule := _rule(rules, n)) and rule.prune}
    # The others stay what they are, which need not be arrays that JAX can have.
    applied = prune.apply(leaves, {name: masks[name] for name in leaves})
    pruned = trees.rebuild(variables, named | applied)
    shared = share.share(
        pruned,
        [(rule.pattern, rule.share, rule.group) for rule in rules],
        importance=importance,
    )
    return pack(shared, rules)


def pack(shared: share.SharedWeights, rules: Sequence[Rule] = ()) -> Compressed:
    """Brings a network with shared weights to the host, ready to be written.

    Codebooks are put in ascending order; entries that no weight uses are left out. A
    leaf that is not shared but holds one value only becomes a codebook of one entry.

    Args:
        shared: The network, as `share.share` made it or fine-tuning left it.
        rules: For their `coding` and `gap_bits`.

    Raises:
        ValueError: A codebook holds NaN or infinity, or no file can hold a leaf.
    """
    treedef = shared.treedef
    in_order = trees.names(treedef)
    structure, names = trees.structure(jax.tree.unflatten(treedef, in_order))
    entries, labels = _canonical(shared)
    group_of = dict(shared.groups)
    codebooks: dict[object, np.ndarray] = {}  # in order of first use
    leaves: list[Dense | Shared] = []
    for name in names:
        if name in labels:
            key: object = group_of[name]
            codebook, own = entries[group_of[name]], labels[name]
        else:
            leaf = _on_host(name, shared.rest[name])
            if not _is_constant(leaf):
                leaves.append(Dense(leaf))
                continue
            codebook, own = leaf.ravel()[:1], np.ones(leaf.shape, np.uint8)
            key = codebook.dtype, codebook.tobytes()
        codebooks.setdefault(key, codebook)
        how = _coding(_rule(rules, name), own.ndim)
        leaves.append(Shared(own, list(codebooks).index(key), *how))
    return Compressed(structure, tuple(leaves), tuple(codebooks.values()))


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
    """Rebuilds the network: NumPy arrays in the containers it was made from."""
    return container.variables(compressed)


def save(path: str | PathLike[str], compressed: Compressed) -> int:
    """Writes a `.dcz` file, whole or not at all.

    Args:
        path: Is replaced if it exists.
        compressed: What `compress` or `pack` returned.

    Returns:
        The size of the file, in bytes.
    """
    data = container.dumps(compressed)
    container.write(path, data)
    return len(data)


def load(
    path: str | PathLike[str],
    like: Any = None,
    *,
    device: Place | None = None,
    max_bytes: int = container.MAX_BYTES,
) -> Any:
    """Reads a `.dcz` file.

    Args:
        path: Of the file.
        like: Optional pytree of arrays or `jax.ShapeDtypeStruct`, whose containers the
            result gets: to load into a NNX state, a `FrozenDict` or a dataclass. Its
            leaves must have the names, shapes and dtypes of those in the file.
        device: Optional device or sharding to load to, or a pytree of them, one for
            each leaf: weights are decoded there, and the result has JAX arrays. Leaves
            that one sharding for all cannot divide are whole on each of its devices.
            None puts leaves where those of `like` were placed. As always in JAX,
            64-bit values are narrowed unless `jax_enable_x64` is set.
        max_bytes: The most memory that the decoded arrays may take. Decoding may take
            some bytes more for each of their values meanwhile: about ten at most.

    Returns:
        Arrays of NumPy, or of JAX if there is a device or place for them, in plain
        containers or in those of `like`.

    Raises:
        FormatError: The file is damaged or too large.
        ValueError: `like` or `device` does not fit; says which leaves do not.
    """
    data = Path(path).read_bytes()
    if like is not None:
        header = container.read_header(data)
        stored = {entry.name: entry.layout for entry in header.leaves}
        _check_like(trees.named_leaves(like), stored)
    if device is None:
        variables = container.read_values(data, max_bytes=max_bytes)
    else:
        decode = functools.partial(lanes.values, place=_one_device(device))
        variables = container.read_values(data, max_bytes=max_bytes, decode=decode)
        named = trees.named_leaves(variables)
        named = _devices.place(named, _devices.places(named, device))
        variables = trees.rebuild(variables, named)
    if like is None:
        return variables
    named = trees.named_leaves(variables)
    if device is None:
        named = _devices.place(named, _devices.places_of(trees.named_leaves(like)))
    return trees.rebuild(like, named)


def _one_device(place: Place) -> Any:
    """The device that decodes what is to be placed there."""
    first = next(iter(jax.tree.leaves(place)), None)
    if first is None or isinstance(first, jax.Device):
        return first
    return min(first.addressable_devices, key=lambda device: device.id)


def report(
    path: str | PathLike[str], *, max_bytes: int = container.MAX_BYTES
) -> account.Account:
    """Accounts for every bit of a `.dcz` file; printed, it is a table.

    Args:
        path: Of the file.
        max_bytes: As for `load`.

    Raises:
        FormatError: The file is damaged or too large.
    """
    return account.account(Path(path).read_bytes(), max_bytes=max_bytes)


def _rule(rules: Sequence[Rule], name: str) -> Rule | None:
    first = trees.first_match([rule.pattern for rule in rules], name)
    return None if first is None else rules[first[0]]


def _coding(rule: Rule | None, ndim: int) -> tuple[str | None, int | None]:
    if rule is None or rule.coding != "relative":
        return (rule.coding if rule else None), None
    return rule.coding, rule.gap_bits or (8 if ndim > 2 else 5)


def _canonical(
    shared: share.SharedWeights,
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
                "went astray; take a smaller learning rate, or an earlier state"
            )
        old = {name: np.asarray(shared.labels[name]) for name in names}
        used = np.zeros(len(codebook) + 1, bool)
        for array in old.values():
            used |= np.bincount(array.ravel(), minlength=len(used)).astype(bool)
        values = np.concatenate([np.zeros(1, codebook.dtype), codebook])
        # Fine-tuning may have moved an entry to zero: its weights are zero then.
        used &= values != 0
        entries[group] = np.unique(values[used])
        new = np.zeros(len(used), np.min_scalar_type(len(entries[group])))
        new[used] = np.searchsorted(entries[group], values[used]) + 1
        labels |= {name: new[array] for name, array in old.items()}
    return entries, labels


def _check_like(expected: dict[str, Any], found: dict[str, Any]) -> None:
    problems = [f"{name}: not in the file" for name in expected if name not in found]
    problems += [f"{name}: only in the file" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        want, have = expected[name], found[name]
        if not hasattr(want, "dtype"):  # a number of Python, such as a step of zero
            want = np.asarray(want)
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            problems.append(
                f"{name}: {have.dtype}{list(have.shape)} in the file, "
                f"{want.dtype}{list(want.shape)} in `like`"
            )
    if problems:
        raise ValueError(
            "the file does not fit `like`:\n  " + "\n  ".join(sorted(problems))
        )
