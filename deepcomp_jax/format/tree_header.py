"""The containers of a pytree in the header of a file: its strings, then its tree.

    strings = varint count, then each: varint p + 16 * q, q bytes of UTF-8
    tree    = node
    node    = varint kind + 8 * n, and what follows: 0 leaf | 1 None
            | 2 dictionary: n keys, each with its node | 3 list: n nodes
            | 4 tuple: n nodes | 5 the same as the node before it in its container
    key     = varint v: string v / 2 if v is even, the integer (v - 1) / 2 if odd

Format notes:

- Strings are numbered from `COMMON` on, which no file holds.
- A string takes its first p bytes, 15 at most, from the string before it, so that keys
  such as `conv1_1` and `conv1_2` cost little.
- All limits here bound the memory that a small, malicious header can ask for.
"""

from typing import NamedTuple

from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import Structure
from deepcomp_jax.format.fields import get_bytes, utf8
from deepcomp_jax.format.structures import (
    MAX_NAME_BYTES,
    children,
    leaf_names,
    sorted_items,
)
from deepcomp_jax.streams import bits

MAX_DEPTH = 64  # containers within each other, far below Python's recursion limit (C16)
MAX_PREFIX = 15  # bytes that a string takes from the one before it (C9)
MAX_NODES = 1 << 17  # of a tree: repeated nodes could multiply without end (C17)
# What Flax and its users call things most often.
COMMON = (
    *("params", "batch_stats", "kernel", "bias", "scale", "mean", "var", "embedding"),
    *("query", "key", "value", "out", "attention", "mlp", "norm", "layers"),
)

_COMMON_BYTES = {string.encode() for string in COMMON}
_LEAF, _NONE, _DICT, _LIST, _TUPLE, _AGAIN = range(6)


# ---- writing ------------------------------------------------------------------------


def put(structure: Structure) -> bytes:
    """Writes strings and tree.

    Raises:
        ValueError: A key is neither a string nor an integer from 0 to 2**62 - 1, leaves
            are not numbered in tree order, the containers nest too deep, or there are
            too many nodes.
        TypeError: A node is no dictionary, list, tuple, leaf number or None.
    """
    keys: set[str] = set()
    numbers: list[int] = []
    nodes = _collect(structure, 1, keys, numbers)
    if nodes > MAX_NODES:
        raise ValueError(
            f"{nodes} containers and leaves, above {MAX_NODES}: merge some"
        )
    if numbers != list(range(len(numbers))):
        raise ValueError(
            "leaves must be numbered 0, 1, 2... in tree order (dictionary keys sorted, "
            f"integers first), got {numbers[:20]}"
        )
    strings = sorted(keys.difference(COMMON), key=utf8)
    out = [bits.put_varint(len(strings))]
    before = b""
    for string in map(utf8, strings):
        shared = _common_prefix(before, string)
        rest = string[shared:]
        out += [bits.put_varint(shared + 16 * len(rest)), rest]
        before = string
    index = {string: i for i, string in enumerate([*COMMON, *strings])}
    out.append(_put_node(structure, index))
    return b"".join(out)


def _collect(node: Structure, depth: int, keys: set[str], numbers: list[int]) -> int:
    """Checks the nodes, and gathers the string keys and the numbers of the leaves.

    Returns:
        How many nodes there are.
    """
    if node is None:
        return 1
    if isinstance(node, int) and type(node) is not bool:
        numbers.append(node)
        return 1
    if depth > MAX_DEPTH:
        raise ValueError(f"containers nest deeper than {MAX_DEPTH}: flatten the tree")
    if isinstance(node, dict):
        children = [child for _, child in sorted_items(node)]
        keys.update(key for key in node if isinstance(key, str))
    elif isinstance(node, (list, tuple)):
        children = list(node)
    else:
        raise TypeError(
            f"a structure is made of dict, list, tuple, int and None, got {node!r}"
        )
    return 1 + sum(_collect(child, depth + 1, keys, numbers) for child in children)


def _put_node(node: Structure, index: dict[str, int]) -> bytes:
    if node is None:
        return bytes([_NONE])
    if isinstance(node, int):
        return bytes([_LEAF])
    kind = {dict: _DICT, list: _LIST}.get(type(node), _TUPLE)
    out = [bits.put_varint(kind + 8 * len(node))]
    before = b""
    for key, child in children(node):
        if isinstance(node, dict):
            number = 2 * index[key] if isinstance(key, str) else 2 * key + 1
            out.append(bits.put_varint(number))
        own = _put_node(child, index)
        # One byte is a leaf, a None or an empty container: no longer than a repetition.
        out.append(bytes([_AGAIN]) if own == before and len(own) > 1 else own)
        before = own
    return b"".join(out)


def _common_prefix(left: bytes, right: bytes) -> int:
    """The length of the common prefix, `MAX_PREFIX` at most."""
    size = 0
    for a, b in zip(left[:MAX_PREFIX], right, strict=False):
        if a != b:
            break
        size += 1
    return size


# ---- reading ------------------------------------------------------------------------


class _Tree(NamedTuple):
    """What is known while the nodes are read, in the order of the file.

    Attributes:
        strings: All keys that are strings: the common ones, then those of the file.
        used: Numbers of the strings that have been some key.
        leaves: Where the leaf nodes lie that were read so far: a leaf is numbered by
            those before it.
        nodes: Where all nodes lie that were read so far. A node that is repeated is
            read again, and counts again: repetitions are short, what they stand for
            need not be.
    """

    strings: list[str]
    used: set[int]
    leaves: list[int]
    nodes: list[int]


def get(data: bytes, pos: int) -> tuple[int, Structure, list[str]]:
    """Reads strings and tree.

    Args:
        data: The file up to the end of the header.
        pos: Where the strings begin, in bytes.

    Returns:
        The position after the tree, the structure, and the names of its leaves.

    Raises:
        FormatError: C3, C6 to C19.
    """
    start, strings = _get_strings(data, pos)
    tree = _Tree([*COMMON, *strings], set(), [], [])
    end, structure = _get_node(data, start, tree, 1)
    for number, string in enumerate(strings, len(COMMON)):
        if number not in tree.used:
            raise FormatError(f"no key is {string!r}", offset=pos, clause="C12")
    names, problem = leaf_names(structure)
    if problem:
        raise FormatError(problem.message, offset=start, clause=problem.clause)
    return end, structure, names


def _get_strings(data: bytes, pos: int) -> tuple[int, list[str]]:
    """Reads the strings, each without the bytes that it shares with the one before.

    `number = 16 * rest + shared` stands before the rest of each: for "bias", "bits" the
    file has 64 "bias" and 34 "ts".
    """
    pos, count = bits.get_varint(data, pos, clause="C3")
    strings: list[str] = []
    before = b""
    for number in range(count):
        start = pos
        pos, both = bits.get_varint(data, pos, clause="C3")
        shared, size = both % 16, both // 16
        if shared + size > MAX_NAME_BYTES:
            raise FormatError(
                f"a string of {shared + size} bytes, above {MAX_NAME_BYTES}",
                offset=start,
                clause="C10",
            )
        pos, rest = get_bytes(data, pos, size)
        string = before[:shared] + rest
        if number and string <= before:
            raise FormatError("strings do not ascend", offset=start, clause="C8")
        if string in _COMMON_BYTES:
            raise FormatError("a common string", offset=start, clause="C11")
        if _common_prefix(before, string) != shared:
            raise FormatError(
                f"{shared} is not the length of the common prefix",
                offset=start,
                clause="C9",
            )
        try:
            strings.append(string.decode())
        except UnicodeDecodeError:
            raise FormatError(
                "a string is not UTF-8", offset=start, clause="C7"
            ) from None
        before = string
    return pos, strings


def _get_node(data: bytes, pos: int, tree: _Tree, depth: int) -> tuple[int, Structure]:
    """Reads a node: `number = 8 * children + kind`, and then its children."""
    start = pos
    pos, number = bits.get_varint(data, pos, clause="C3")
    kind, count = number % 8, number // 8
    tree.nodes.append(start)
    if len(tree.nodes) > MAX_NODES:
        raise FormatError(f"more than {MAX_NODES} nodes", offset=start, clause="C17")
    if kind > _TUPLE or (kind in (_LEAF, _NONE) and count):
        raise FormatError(f"a node of number {number}", offset=start, clause="C13")
    if kind == _LEAF:
        tree.leaves.append(start)
        return pos, len(tree.leaves) - 1
    if kind == _NONE:
        return pos, None
    if depth > MAX_DEPTH:
        raise FormatError(
            f"containers nest deeper than {MAX_DEPTH}", offset=start, clause="C16"
        )
    if kind == _DICT:
        return _get_dict(data, pos, count, tree, depth)
    nodes: list[Structure] = []
    before = -1
    for _ in range(count):
        pos, before, node = _get_child(data, pos, before, tree, depth)
        nodes.append(node)
    return pos, nodes if kind == _LIST else tuple(nodes)


def _get_child(
    data: bytes, pos: int, before: int, tree: _Tree, depth: int
) -> tuple[int, int, Structure]:
    """Reads a node in a container, or the one before it again.

    Args:
        data: The file up to the end of the header.
        pos: Where the node lies.
        before: Where the node before it in the container lies, -1 if there is none.
        tree: What is known.
        depth: Of the container.

    Returns:
        The position after the node, where a repetition of it finds it, and the node.
    """
    again = data[pos : pos + 1] == bytes([_AGAIN])
    if not again:
        end, node = _get_node(data, pos, tree, depth + 1)
        return end, pos, node
    if before < 0:
        raise FormatError("nothing to repeat", offset=pos, clause="C13")
    _, node = _get_node(data, before, tree, depth + 1)
    return pos + 1, before, node


def _get_dict(
    data: bytes, pos: int, count: int, tree: _Tree, depth: int
) -> tuple[int, Structure]:
    """Reads the children of a dictionary, each behind its key.

    A key is `2 * number` of a string, or `2 * key + 1` if it is an integer itself.
    """
    found: dict[str | int, Structure] = {}
    last: tuple[bool, str | int] = (False, -1)
    before = -1
    for _ in range(count):
        start = pos
        pos, number = bits.get_varint(data, pos, clause="C3")
        is_string, value = number % 2 == 0, number // 2
        if is_string and value >= len(tree.strings):
            raise FormatError(f"there is no string {value}", offset=start, clause="C14")
        key = tree.strings[value] if is_string else value
        # Integers are before strings; two of one kind can be compared.
        if (is_string, key) <= last:
            raise FormatError("keys do not ascend", offset=start, clause="C15")
        last = is_string, key
        if is_string:
            tree.used.add(value)
        pos, before, found[key] = _get_child(data, pos, before, tree, depth)
    return pos, found
