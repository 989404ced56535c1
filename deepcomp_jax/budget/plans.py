"""Rules for a file of about so many bytes, from one look at each leaf."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import trees
from deepcomp_jax._errors import listed, warn
from deepcomp_jax._types import DenseLeaf
from deepcomp_jax.format import leaf_encoding, tree_header
from deepcomp_jax.rate.planning import (
    PlannedLeaf,
    find_relative_step,
    large_tables,
    planned,
    step_within,
)
from deepcomp_jax.rules import Rule
from deepcomp_jax.rules.weights import (
    find_weights,
    is_floating,
    is_matrix,
    normalized_lengths,
    warn_of_others,
)

_FRONT = 12  # bytes: magic, version, size and checksum of a header
_LAYOUT = 4  # bytes of a leaf in it
_COPY = 3  # bytes of a leaf that equals one before it
_SAMPLE = 1 << 20  # values of a leaf from which the bytes of all are known
_MOST = 0.5  # of a file; if what is not rounded takes more, there is a warning
_CHUNKS = 16  # parts of a leaf that are looked at then


class _Seen(NamedTuple):
    """What one pass over a network finds.

    Attributes:
        leaves: Those that get a step, by name.
        copies: Names of those that equal one of them, and its name.
        kept: What each of the others takes of a file, in bytes.
        fixed: What these and the structure take of it, in bits.
        values: Number of values of all leaves.
    """

    leaves: dict[str, PlannedLeaf]
    copies: dict[str, str]
    kept: dict[str, float]
    fixed: float
    values: int


def plan(
    tree: Any,
    *,
    max_bytes: int | None = None,
    bits_per_weight: float | None = None,
    max_relative_error: float | None = None,
    skip: str | None = None,
) -> list[Rule]:
    """Rules that round weights to steps, so that the file has about the size asked for.

    Each leaf is looked at once, and one is in memory at a time. Weights of products and
    tables, known by names and shapes as for `default_rules`, are rounded to multiples
    of a step that follows from the leaf's mean magnitude; those of tables are 2.5 times
    as coarse, if a table has a twentieth of all these weights or more. Where outputs of
    convolutions differ in size, or rows or columns of matrices that are as many as the
    values of a normalization, steps differ half as much, in logarithms
    (`share.scaled`), but for a relative error. All else stays as it is, bit for bit.
    Exactly one argument says how much.

    Args:
        tree: Any pytree of arrays, or of what has a shape, a dtype and `__array__`,
            which is called once and whose result is not kept.
        max_bytes: Of the file, with everything in it, which is met to about 1 %;
            `within_bytes` keeps a limit.
        bits_per_weight: Of the file, for each value of the network.
        max_relative_error: In root mean square, relative to the values of a leaf other
            than zero: no leaf has more. Those for which no grid is fine enough stay as
            they are.
        skip: Regular expression, searched in names of leaves that stay as they are.

    Returns:
        A rule for each step, with the names of its leaves: for `compress`. None if the
        file is small enough without.

    Raises:
        ValueError: No steps make a file so small, a weight is NaN or infinite, or not
            exactly one size is asked for.

    Examples:
        >>> import jax, deepcomp_jax as dc
        >>> kernel = jax.random.normal(jax.random.key(0), (300, 100))
        >>> rules = dc.budget.plan({"kernel": kernel}, bits_per_weight=4)
        >>> 14_850 < len(dc.dumps(dc.compress({"kernel": kernel}, rules))) < 15_150
        True
    """
    _check_one(max_bytes, bits_per_weight, max_relative_error)
    found = find_weights(tree)
    warn_of_others(tree, found)
    skipped = re.compile(skip) if skip is not None else None
    chosen = {n: t for n, t in found.items() if not (skipped and skipped.search(n))}
    chosen = large_tables(chosen, trees.named_leaves(tree))
    lengths = normalized_lengths(tree) if max_relative_error is None else None
    seen = _look(tree, chosen, lengths)
    if max_relative_error is not None:
        steps = {
            name: step_within(leaf, max_relative_error)
            for name, leaf in seen.leaves.items()
        }
        return _rules(steps, seen)
    if max_bytes is None:
        max_bytes = math.floor((bits_per_weight or 0) * seen.values / 8)
    raw = 8 * sum(
        leaf.dtype.itemsize * leaf.histogram.size for leaf in seen.leaves.values()
    )
    if not seen.leaves or seen.fixed + raw <= 8 * max_bytes:
        return []
    leaves = list(seen.leaves.values())
    relative = find_relative_step(leaves, 8 * max_bytes, seen.fixed)
    steps = {name: leaf.step(relative) for name, leaf in seen.leaves.items()}
    if skip is None:
        warn_of_kept(tree, seen.kept, max_bytes)
    return _rules(steps, seen)


def _check_one(*sizes: float | None) -> None:
    given = [size for size in sizes if size is not None]
    if len(given) != 1:
        raise ValueError(
            "give exactly one of max_bytes, bits_per_weight and max_relative_error"
        )
    if not 0 < given[0] < math.inf:
        raise ValueError(f"a size or an error must be positive and finite: {given[0]}")


def _look(
    tree: Any, chosen: Mapping[str, bool], lengths: frozenset[int] | None
) -> _Seen:
    """Looks at each leaf, one after the other.

    Args:
        tree: The network.
        chosen: The leaves that get steps, by name, and whether each is a table.
        lengths: Of axes of matrices that may have scales; None if none may have any.
    """
    structure, _ = trees.structure(tree)
    size = _FRONT + len(tree_header.put(structure))
    leaves: dict[str, PlannedLeaf] = {}
    copies: dict[str, str] = {}
    kept: dict[str, float] = {}
    first: dict[object, str] = {}
    values = 0
    for name, leaf in trees.named_leaves(tree).items():
        own = np.asarray(leaf)
        values += own.size
        original = first.setdefault(trees.contents(own), name)
        if original in leaves and name in chosen:
            copies[name] = original
            size += _COPY
            if not chosen[name]:  # as fine as what is not a table
                leaves[original] = leaves[original].multiplied()
        elif original != name and original not in leaves and name not in chosen:
            size += _COPY
        elif name in chosen and own.any():
            leaves[name] = _planned(name, own, chosen[name], lengths)
        else:
            kept[name] = _LAYOUT + stored_bytes(name, own)
    return _Seen(leaves, copies, kept, 8 * (size + sum(kept.values())), values)


def warn_of_kept(tree: Any, kept: Mapping[str, float], max_bytes: float) -> None:
    """Warns if most of a file is of matrices that might be rounded too.

    Args:
        tree: The network.
        kept: Bytes of each leaf that is not rounded.
        max_bytes: Of the file.
    """
    named = trees.named_leaves(tree)
    able = {
        name: size
        for name, size in kept.items()
        if is_floating(named[name]) and is_matrix(named[name])
    }
    total = sum(able.values())
    if _MOST * max_bytes < total < max_bytes:
        largest = sorted(able, key=lambda name: -able[name])
        warn(
            f"{total:.0f} of {max_bytes:.0f} bytes go to leaves that are left as they "
            f"are ({listed(largest)}), and the others are rounded the more for it: let "
            "rules choose more of them, or allow more bytes"
        )


def _planned(
    name: str, leaf: np.ndarray, table: bool, lengths: frozenset[int] | None
) -> PlannedLeaf:
    try:
        return planned(leaf, table, lengths)
    except ValueError:
        raise ValueError(
            f"leaf {name!r} holds NaN or infinity: weights must be finite to be "
            "rounded; repair the training, or skip the leaf"
        ) from None


def stored_bytes(name: str, leaf: np.ndarray) -> float:
    """What a leaf that is not rounded takes, from a sample if it is large."""
    flat = leaf.ravel()
    if flat.size > _SAMPLE:
        each = _SAMPLE // _CHUNKS
        starts = np.linspace(0, flat.size - each, _CHUNKS).astype(np.int64)
        flat = np.concatenate([flat[first : first + each] for first in starts])
    if flat.size > 1 and (flat == flat[0]).all():
        return _LAYOUT  # a codebook of one entry, or nothing at all
    stored, codebook = leaf_encoding.as_labels(flat) or (DenseLeaf(flat), None)
    encoded = leaf_encoding.put(name, stored, codebook)
    return sum(map(len, encoded.bodies)) * leaf.size / max(flat.size, 1)


def _rules(steps: Mapping[str, float | None], seen: _Seen) -> list[Rule]:
    """A rule for each step, and for those with scales and without."""
    names: dict[tuple[float, bool], list[str]] = {}
    for name, original in {**{n: n for n in steps}, **seen.copies}.items():
        step = steps[original]
        if step is not None:
            has_scales = seen.leaves[original].scale_bits is not None
            names.setdefault((step, has_scales), []).append(name)
    return [
        Rule(pattern(own), share=seen.leaves[own[0]].method(step))
        for (step, _), own in sorted(names.items())
    ]


def pattern(names: Sequence[str]) -> str:
    """A pattern of these names and no other."""
    # A quote after a bracket would look like the keys of `keystr`.
    escaped = (re.escape(name).replace("\\[", "\\x5b") for name in names)
    return f"\\A(?:{'|'.join(escaped)})\\Z"
