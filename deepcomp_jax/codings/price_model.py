"""What labels would cost, before they are chosen or written."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import (
    group_search,
    grouping,
    order0,
    symbol_models,
    table_search,
)
from deepcomp_jax.codings.common import Leaf
from deepcomp_jax.streams import rans
from deepcomp_jax.streams.counting import bincount

_BLOCK = 1 << 16  # labels counted together
_FRONT_BITS = 40  # of a grouped body without classes, before its tables


class GroupPrices(NamedTuple):
    """What labels cost where rows and columns are not equally dense.

    Attributes:
        group: Of each weight, uint8[size].
        bits: What each label costs in each group, float64[groups, entries + 1].
    """

    group: NDArray[np.uint8]
    bits: NDArray[np.float64]


def label_prices(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """What each label costs, in bits, by how often it occurs; float64[entries + 1].

    A label that does not occur has a price too, as if it did a little.

    Args:
        counts: How often each label occurs, int[entries + 1]; the first is that of
            pruned weights.
    """
    return _prices(counts[None, :1], counts[None, 1:], counts[None, 1:])[0]


def group_prices(labels: NDArray[np.unsignedinteger], leaf: Leaf) -> GroupPrices | None:
    """What each label costs under the models that the grouped coding would have.

    Args:
        labels: All labels of the leaf, uint[size].
        leaf: The leaf, of at most 1024 entries.

    Returns:
        None if the coding would put all weights into one group: then `label_prices`
        says it all.
    """
    occurring = bincount(labels, leaf.entries + 1)
    found = group_search.find(labels, leaf, occurring)
    classes = found.dense if found.large is None else found.large
    if all(own is None for own in classes):
        return None
    groups = grouping.groups(leaf.shape, classes)
    group = grouping.of_all(groups)
    counts = _counts(labels, group, groups.sizes.size, leaf.entries)
    tables, merged = table_search.joined(counts[:, 1:], leaf.negatives)
    return GroupPrices(group, _prices(counts[:, :1], counts[:, 1:], merged[tables]))


def _counts(
    labels: NDArray[np.unsignedinteger],
    group: NDArray[np.uint8],
    groups: int,
    entries: int,
) -> NDArray[np.int64]:
    """How often each label occurs in each group, int64[groups, entries + 1]."""
    width = entries + 1
    found = np.zeros(groups * width, np.int64)
    for first in range(0, labels.size, _BLOCK):
        part = slice(first, first + _BLOCK)
        pairs = group[part].astype(np.intp) * width + labels[part]
        found += np.bincount(pairs, minlength=found.size)
    return found.reshape(groups, width)


def _prices(
    pruned: NDArray[np.integer],
    kept: NDArray[np.integer],
    like: NDArray[np.integer],
) -> NDArray[np.float64]:
    """What each label costs in each group, float64[groups, entries + 1].

    Args:
        pruned: How many weights are, int[groups, 1].
        kept: How often each entry is used, int[groups, entries].
        like: The same, of all groups that share a table.
    """
    weights = kept.sum(axis=1, keepdims=True)
    density = (weights + 0.5) / (weights + pruned + 1)
    smooth = like + 0.1
    share = smooth / smooth.sum(axis=1, keepdims=True)
    return np.hstack([-np.log2(1 - density), -np.log2(density * share)])


def estimate(counts: NDArray[np.integer], leaf: Leaf) -> float:
    """About how many bits the smallest body of some labels takes, from counts alone.

    It is exact to a few bytes or half a percent if labels do not depend on where they
    are, and too high if they do: the grouped coding makes use of that.

    Args:
        counts: How often each label occurs, int[entries + 1].
        leaf: The leaf of the labels.

    Examples:
        Half of 65,536 weights are pruned, and the others have one of two values:

        >>> import numpy as np
        >>> from deepcomp_jax import codings
        >>> leaf = codings.Leaf(shape=(256, 256), entries=2, negatives=1)
        >>> bits = codings.estimate(np.array([32768, 16384, 16384]), leaf)
        >>> 1.5 < bits / 65536 < 1.51
        True
    """
    width = max(leaf.entries.bit_length(), 1)
    sizes = [float(width * leaf.size)]
    if leaf.entries <= order0.MAX_ENTRIES:
        sizes.append(_order0(counts))
    if leaf.entries <= symbol_models.MAX_SYMBOLS:
        sizes.append(one_group(counts, leaf))
    return min(sizes)


def _order0(counts: NDArray[np.integer]) -> float:
    codes = symbol_models.quantize(counts)[None]
    words = rans.estimate(counts, rans.models(symbol_models.frequencies(codes)))
    words += rans.overhead(words)
    return words + symbol_models.CODE_BITS * counts.size


def one_group(counts: NDArray[np.integer], leaf: Leaf) -> float:
    """About how many bits a grouped body without classes takes."""
    kept = int(counts[1:].sum())
    if not kept:
        return _FRONT_BITS
    gaps = kept * _gap_bits(kept, leaf.size)
    used = counts[None, 1:].astype(np.int64)
    indices = float(symbol_models.fit(used, leaf.negatives)[1][0])
    return _FRONT_BITS + gaps + indices + rans.overhead(gaps + indices)


def _gap_bits(kept: int, size: int) -> float:
    """What a gap costs, which depends on where weights are kept by the mean alone.

    The code length of a gap under its model is nearly a multiple of its length.
    """
    low = symbol_models.low_bits(size, kept)
    frequencies = symbol_models.gap_frequencies(size, kept)
    bits = rans.PRECISION - np.log2(np.maximum(frequencies, 1))
    stay = ((size - kept) / size) ** (1 << low)  # of passing a unit of zeros
    ends = (1 - stay) * stay ** np.arange(symbol_models.CAP)
    escapes = stay**symbol_models.CAP
    return low + float(ends @ bits[:-1] + escapes * bits[-1]) / (1 - escapes)
