"""Canonical Huffman codes of at most 15 bits: counts to lengths to code words.

Huffman, *A Method for the Construction of Minimum-Redundancy Codes*, 1952; limited
lengths by package-merge: Larmore and Hirschberg, *A Fast Algorithm for Optimal
Length-Limited Huffman Codes*, 1990; canonical codes as in RFC 1951, section 3.2.2.
"""

import numpy as np
from numpy.typing import NDArray

MAX_LENGTH = 15  # bits of a code word, so that a length fits 4 bits (H1)


def lengths(
    counts: NDArray[np.integer], *, limit: int = MAX_LENGTH
) -> NDArray[np.uint8]:
    """Lengths of the code words that take the fewest bits in all.

    Package-merge: there are as many levels as a word may have bits. The items of a
    level are the symbols that occur and, above the lowest level, the pairs of neighbors
    of the level below, all in order of weight. At the top the cheapest 2 (n - 1) items
    are taken, for n symbols; at each level below, the items of the pairs just taken.
    A word has as many bits as there are levels at which its symbol was taken.

    With the counts a 1, b 2, c 3 and d 6, and at most three bits:

        level   items and weights                           taken
        3       a 1  b 2  c 3  ab 3  d 6  c+ab 6  d+cd 15   6: a, b, c, d and two pairs
        2       a 1  b 2  c 3  ab 3  d 6  cd 9              4: a, b, c and one pair
        1       a 1  b 2  c 3  d 6                          2: a, b

    Args:
        counts: How often each symbol occurs, int[alphabet].
        limit: Greatest length allowed, in bits, 1 to 15.

    Returns:
        uint8[alphabet]: 0 for a symbol that does not occur. Of two symbols the one
        that occurs less often, or as often but comes later, never has the shorter word.

    Raises:
        ValueError: A count is negative, the limit out of range, or more symbols
            are used than there are words of `limit` bits.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.streams import huffman_code
        >>> huffman_code.lengths(np.array([1, 2, 3, 6]))
        array([3, 3, 2, 1], dtype=uint8)
    """
    used = _used(counts, limit)
    result = np.zeros(counts.size, np.uint8)
    if used.size <= 1:
        result[used] = 1
        return result
    order = used[np.lexsort((-used, counts[used]))]
    leaves = counts[order].astype(np.int64)
    leaves_among: list[NDArray[np.int64]] = []  # symbols among the first i + 1 items
    items = leaves
    limit = min(limit, used.size - 1)  # no optimal word is longer
    for _ in range(limit - 1):
        pairs = items[: items.size // 2 * 2].reshape(-1, 2).sum(axis=1)
        merged = np.concatenate([leaves, pairs])
        by_weight = np.argsort(merged, kind="stable")
        leaves_among.append(np.cumsum(by_weight < leaves.size, dtype=np.int64))
        items = merged[by_weight]
    taken = 2 * (used.size - 1)  # items of a level
    chosen: list[int] = []  # symbols among them, from the top level down
    for among in reversed(leaves_among):
        chosen.append(int(among[taken - 1]) if taken else 0)
        taken = 2 * (taken - chosen[-1])
    chosen.append(taken)
    # Those that a level takes are its lightest symbols.
    result[order] = (np.arange(used.size)[:, None] < chosen).sum(axis=1)
    return result


def _used(counts: NDArray[np.integer], limit: int) -> NDArray[np.intp]:
    """The symbols that occur, after a check of the arguments."""
    if not 1 <= limit <= MAX_LENGTH:
        raise ValueError(f"limit must be 1 to {MAX_LENGTH} bits, got {limit}")
    if counts.size and counts.min() < 0:
        raise ValueError(f"counts must not be negative, got {int(counts.min())}")
    used = np.flatnonzero(counts)
    if used.size > 1 << limit:
        raise ValueError(
            f"{used.size} symbols are used, but there are only {1 << limit} code "
            f"words of {limit} bits"
        )
    return used


def code(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The canonical code words: shorter ones first, then by symbol, counting up.

    Args:
        lengths: uint8[alphabet], each 0 to 15, that leave no word unused.

    Returns:
        uint32[alphabet]: word i in the lowest `lengths[i]` bits; 0 if it is empty.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.streams import huffman_code
        >>> words = huffman_code.code(np.array([3, 3, 2, 1], np.uint8))
        >>> [f"{word:b}" for word in words]
        ['110', '111', '10', '0']
    """
    order = _canonical(lengths)
    sizes = lengths[order].astype(np.int64)
    # As binary fractions, the words divide 0 to 1 into intervals of width 2**-size.
    widths = 1 << (MAX_LENGTH - sizes)
    words = np.zeros(lengths.size, np.uint32)
    words[order] = (np.cumsum(widths) - widths) >> (MAX_LENGTH - sizes)
    return words


def _canonical(lengths: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The used symbols in the order of their code words."""
    used = np.flatnonzero(lengths)
    return used[np.argsort(lengths[used], kind="stable")]


def table(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """What the next bits of a stream stand for.

    Returns:
        uint32[2**longest]: entry i is `symbol << 4 | length` of the code word that the
        `longest` bits of i begin with.

    Examples:
        With the words 0, 10 and 11, two bits decide:

        >>> import numpy as np
        >>> from deepcomp_jax.streams import huffman_code
        >>> entries = huffman_code.table(np.array([1, 2, 2], np.uint8))
        >>> [divmod(entry, 16) for entry in entries.tolist()]
        [(0, 1), (0, 1), (1, 2), (2, 2)]
    """
    order = _canonical(lengths)
    sizes = lengths[order].astype(np.int64)
    entries = (order << 4 | sizes).astype(np.uint32)
    return np.repeat(entries, 1 << (sizes[-1] - sizes))
